//! Where examples come from, as written on the command line: the digits, a part of them, or a file.

use std::path::PathBuf;
use std::str::FromStr;

use super::dataset::{Dataset, LoadDatasetError};
use super::digits;

/// Where examples come from, as written on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataSource {
    /// All training digits: `digits`.
    Digits,
    /// The test digits: `digits:test`.
    DigitsTest,
    /// Every `of`-th training digit from the `part`-th (from 1): `digits:K/N`.
    DigitsPart {
        /// From 1 to `of`.
        part: usize,
        /// Number of parts.
        of: usize,
    },
    /// A safetensors file with `x` and `y`.
    File(PathBuf),
}

/// A data source that means nothing.
#[derive(Debug, thiserror::Error)]
#[error(
    "{text:?} is no part of the digits: write digits:K/N with K from 1 to N, N at most 1438, or digits:test"
)]
pub struct ParseDataSourceError {
    text: String,
}

impl FromStr for DataSource {
    type Err = ParseDataSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const MOST_PARTS: usize = 1438;
        let wrong = || ParseDataSourceError {
            text: text.to_owned(),
        };
        match text.strip_prefix("digits") {
            Some("") => Ok(Self::Digits),
            Some(":test") => Ok(Self::DigitsTest),
            Some(rest) if rest.starts_with(':') => {
                let (part, of) = rest[1..].split_once('/').ok_or_else(wrong)?;
                let part = part.parse().map_err(|_| wrong())?;
                let of = of.parse().map_err(|_| wrong())?;
                (1..=of)
                    .contains(&part)
                    .then_some(())
                    .filter(|()| of <= MOST_PARTS)
                    .ok_or_else(wrong)?;
                Ok(Self::DigitsPart { part, of })
            }
            Some(_) | None => Ok(Self::File(text.into())),
        }
    }
}

impl DataSource {
    /// Reads the examples.
    ///
    /// # Errors
    /// When they are in a file that cannot be read or holds something else.
    pub fn load(&self) -> Result<Dataset, LoadDatasetError> {
        match self {
            Self::Digits => Ok(digits::training()),
            Self::DigitsTest => Ok(digits::test()),
            Self::DigitsPart { part, of } => {
                let training = digits::training();
                let rows: Vec<usize> = (part - 1..training.len()).step_by(*of).collect();
                training.select(&rows).ok_or(LoadDatasetError::Empty)
            }
            Self::File(path) => Dataset::read(path),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    #[test]
    fn a_data_source_is_read_as_the_help_says() {
        assert_eq!("digits".parse::<DataSource>().unwrap(), DataSource::Digits);
        assert_eq!(
            "digits:2/8".parse::<DataSource>().unwrap(),
            DataSource::DigitsPart { part: 2, of: 8 }
        );
        assert_eq!(
            "a/b.safetensors".parse::<DataSource>().unwrap(),
            DataSource::File("a/b.safetensors".into())
        );
        for wrong in [
            "digits:",
            "digits:0/8",
            "digits:9/8",
            "digits:1/0",
            "digits:a/b",
            "digits:1",
            "digits:1/1439",
        ] {
            assert!(wrong.parse::<DataSource>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_parts_of_the_digits_are_disjoint_and_complete() {
        let parts =
            (1..=8).map(|part| DataSource::DigitsPart { part, of: 8 }.load().unwrap().len());
        assert_eq!(parts.sum::<usize>(), digits::training().len());
    }
}
