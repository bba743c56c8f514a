//! Who gets which examples: the training set cut into one part for each client, fixed by the seed.
//!
//! Invariant: the parts are disjoint, together they are everything, and none is smaller than a few examples.

use std::fmt;
use std::str::FromStr;

use fedmerge_client::trainer::builtin::dataset::Dataset;
use fedmerge_common::digest::Digest;
use rand::{SeedableRng, rngs::ChaCha8Rng, seq::SliceRandom};
use rand_distr::{Distribution, Gamma};

/// Every client gets at least this many examples, or an equal share where there are too few.
const FEWEST_EXAMPLES: usize = 16;

/// How the examples are spread over the clients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Partition {
    /// Every client gets the same mixture.
    Iid,
    /// Each class is spread by proportions from a symmetric Dirichlet distribution; the smaller alpha, the more uneven.
    Dirichlet(f64),
    /// Examples sorted by class and cut: each client knows only a few classes.
    ByLabel,
}

/// A partition that does not exist.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParsePartitionError {
    /// No such name.
    #[error("{0:?} is not known: write iid, dirichlet:ALPHA or by-label")]
    Unknown(String),
    /// A concentration that is no positive number.
    #[error("the concentration {0:?} must be a number above 0, as in dirichlet:0.5")]
    Alpha(String),
}

/// Too many clients.
#[derive(Debug, thiserror::Error)]
#[error("{clients} clients cannot share {examples} training examples")]
pub(crate) struct TooFewExamples {
    clients: usize,
    examples: usize,
}

impl FromStr for Partition {
    type Err = ParsePartitionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "iid" => Ok(Self::Iid),
            None if text == "by-label" => Ok(Self::ByLabel),
            None if text == "dirichlet" => Err(ParsePartitionError::Alpha(String::new())),
            Some(("dirichlet", alpha)) => alpha
                .parse()
                .ok()
                .filter(|alpha: &f64| alpha.is_finite() && *alpha > 0.0)
                .map(Self::Dirichlet)
                .ok_or_else(|| ParsePartitionError::Alpha(alpha.to_owned())),
            Some(_) | None => Err(ParsePartitionError::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iid => out.write_str("iid"),
            Self::Dirichlet(alpha) => write!(out, "dirichlet:{alpha}"),
            Self::ByLabel => out.write_str("by-label"),
        }
    }
}

impl Partition {
    /// The rows of each client.
    ///
    /// # Errors
    /// When there are fewer examples than clients.
    pub(crate) fn split(
        self,
        data: &Dataset,
        clients: usize,
        seed: u64,
    ) -> Result<Vec<Vec<usize>>, TooFewExamples> {
        if data.len() < clients {
            return Err(TooFewExamples {
                clients,
                examples: data.len(),
            });
        }
        let key = format!("fedmerge partition seed {seed}");
        let mut random = ChaCha8Rng::from_seed(*Digest::of(key.as_bytes()).as_bytes());
        let mut rows: Vec<usize> = (0..data.len()).collect();
        rows.shuffle(&mut random);
        let mut parts = match self {
            Self::Iid => deal(&rows, clients),
            Self::ByLabel => {
                rows.sort_by_key(|&row| data.label(row));
                cut(&rows, &vec![1.0; clients])
            }
            Self::Dirichlet(alpha) => dirichlet(data, &rows, &mut random, clients, alpha),
        };
        even_out(&mut parts, FEWEST_EXAMPLES.min(data.len() / clients));
        Ok(parts)
    }
}

fn deal(rows: &[usize], clients: usize) -> Vec<Vec<usize>> {
    (0..clients)
        .map(|client| rows.iter().skip(client).step_by(clients).copied().collect())
        .collect()
}

fn dirichlet(
    data: &Dataset,
    rows: &[usize],
    random: &mut ChaCha8Rng,
    clients: usize,
    alpha: f64,
) -> Vec<Vec<usize>> {
    let gamma = Gamma::new(alpha, 1.0).expect("alpha is above 0");
    let mut parts = vec![Vec::new(); clients];
    for class in 0..data.classes() {
        let of_class: Vec<usize> = rows
            .iter()
            .copied()
            .filter(|&row| data.label(row) == class)
            .collect();
        let shares: Vec<f64> = (0..clients).map(|_| gamma.sample(random)).collect();
        for (part, rows) in parts.iter_mut().zip(cut(&of_class, &shares)) {
            part.extend(rows);
        }
    }
    parts
}

/// Cuts the rows into runs whose lengths are in proportion to the shares.
#[expect(clippy::cast_precision_loss, reason = "row numbers are far below 2^52")]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the product lies between 0 and the length"
)]
fn cut(rows: &[usize], shares: &[f64]) -> Vec<Vec<usize>> {
    // Shares of tiny concentrations can all underflow to 0; then they are equal.
    let floor = if shares.iter().sum::<f64>() > 0.0 {
        0.0
    } else {
        1.0
    };
    let total: f64 = shares.iter().map(|share| share + floor).sum();
    let mut sum = 0.0;
    let mut start = 0;
    shares
        .iter()
        .enumerate()
        .map(|(part, share)| {
            sum += share + floor;
            let is_last = part + 1 == shares.len();
            let end = if is_last {
                rows.len()
            } else {
                (rows.len() as f64 * (sum / total)).round() as usize
            };
            let run = rows[start..end.clamp(start, rows.len())].to_vec();
            start += run.len();
            run
        })
        .collect()
}

/// Moves examples from the largest part to the smallest until none has fewer than `fewest`.
fn even_out(parts: &mut [Vec<usize>], fewest: usize) {
    loop {
        let smallest = (0..parts.len()).min_by_key(|&part| parts[part].len());
        let largest = (0..parts.len()).max_by_key(|&part| parts[part].len());
        let (Some(smallest), Some(largest)) = (smallest, largest) else {
            return;
        };
        if parts[smallest].len() >= fewest || parts[largest].len() <= fewest {
            return;
        }
        let moved = parts[largest].pop();
        parts[smallest].extend(moved);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;
    use fedmerge_client::trainer::builtin::digits;
    use std::collections::BTreeSet;

    const ALL: [Partition; 4] = [
        Partition::Iid,
        Partition::Dirichlet(0.5),
        Partition::Dirichlet(0.001),
        Partition::ByLabel,
    ];

    #[test]
    fn every_example_belongs_to_exactly_one_client() {
        let data = digits::training();
        for partition in ALL {
            let parts = partition.split(&data, 8, 7).unwrap();
            let rows: Vec<usize> = parts.iter().flatten().copied().collect();
            assert_eq!(rows.len(), data.len(), "{partition}");
            assert_eq!(
                rows.iter().collect::<BTreeSet<_>>().len(),
                data.len(),
                "{partition}"
            );
            assert!(
                parts.iter().all(|part| part.len() >= FEWEST_EXAMPLES),
                "{partition}"
            );
        }
    }

    #[test]
    fn the_seed_fixes_the_parts() {
        let data = digits::training();
        for partition in ALL {
            assert_eq!(
                partition.split(&data, 5, 1).unwrap(),
                partition.split(&data, 5, 1).unwrap()
            );
            assert_ne!(
                partition.split(&data, 5, 1).unwrap(),
                partition.split(&data, 5, 2).unwrap()
            );
        }
    }

    #[test]
    fn by_label_gives_each_client_only_a_few_classes() {
        let data = digits::training();
        for part in Partition::ByLabel.split(&data, 10, 7).unwrap() {
            let classes: BTreeSet<usize> = part.iter().map(|&row| data.label(row)).collect();
            assert!(classes.len() <= 3, "{classes:?}");
        }
    }

    #[test]
    fn a_thousand_clients_still_have_one_example_each() {
        let parts = Partition::Dirichlet(0.1)
            .split(&digits::training(), 1000, 7)
            .unwrap();
        assert!(parts.iter().all(|part| !part.is_empty()));
    }

    #[test]
    fn a_partition_prints_as_it_is_written() {
        for text in ["iid", "dirichlet:0.5", "by-label"] {
            assert_eq!(text.parse::<Partition>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "dirichlet",
            "dirichlet:",
            "dirichlet:0",
            "dirichlet:-1",
            "dirichlet:nan",
            "iid:2",
            "label",
        ] {
            assert!(text.parse::<Partition>().is_err(), "{text:?}");
        }
    }
}
