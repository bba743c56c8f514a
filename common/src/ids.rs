//! Names and numbers of things: clients, federations, tokens, uploads, rounds, model versions.
//!
//! A value of one of these types is valid: it was checked when it was made. Names are short and
//! plain because they become parts of paths, certificates and log lines.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// Longest name of a client or federation, and longest token or upload id, characters.
pub const MAX_NAME_CHARACTERS: usize = 64;

/// A name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// Nothing was there.
    #[error("the name is empty")]
    Empty,
    /// Over [`MAX_NAME_CHARACTERS`].
    #[error("the name has {characters} characters, the limit is {MAX_NAME_CHARACTERS}")]
    TooLong {
        /// Length found.
        characters: usize,
    },
    /// A character outside the allowed set.
    #[error("`{found}` is not allowed in a name, which consists of {allowed}")]
    Character {
        /// The first offender.
        found: char,
        /// The allowed set, for people.
        allowed: &'static str,
    },
    /// The name begins with punctuation.
    #[error("the name begins with `{found}`, but must begin with a letter or a digit")]
    Beginning {
        /// The first character.
        found: char,
    },
}

fn check(
    text: &str,
    allowed: &'static str,
    is_allowed: fn(char) -> bool,
) -> Result<(), ParseIdError> {
    let first = text.chars().next().ok_or(ParseIdError::Empty)?;
    if let Some(found) = text.chars().find(|&character| !is_allowed(character)) {
        return Err(ParseIdError::Character { found, allowed });
    }
    if !first.is_ascii_alphanumeric() {
        return Err(ParseIdError::Beginning { found: first });
    }
    if text.len() > MAX_NAME_CHARACTERS {
        return Err(ParseIdError::TooLong {
            characters: text.len(),
        });
    }
    Ok(())
}

fn is_name_character(character: char) -> bool {
    matches!(character, 'a'..='z' | '0'..='9' | '.' | '_' | '-')
}

fn is_token_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '-')
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $allowed:literal, $is_allowed:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                check(text, $allowed, $is_allowed).map(|()| Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(
    /// Name of an enrolled client: 1 to 64 of `a-z 0-9 . _ -`, beginning with a letter or digit.
    ClientId, "a-z 0-9 . _ -", is_name_character
);
text_id!(
    /// Name of a federation: 1 to 64 of `a-z 0-9 . _ -`, beginning with a letter or digit.
    FederationName, "a-z 0-9 . _ -", is_name_character
);
text_id!(
    /// Name of an administrator: 1 to 64 of `a-z 0-9 . _ -`, beginning with a letter or digit.
    AdminName, "a-z 0-9 . _ -", is_name_character
);
text_id!(
    /// Public part of a token: 1 to 64 of `A-Z a-z 0-9 _ -`, beginning with a letter or digit.
    TokenId, "A-Z a-z 0-9 _ -", is_token_character
);
text_id!(
    /// Name of an upload in progress: 1 to 64 of `A-Z a-z 0-9 _ -`, beginning with a letter or digit.
    UploadId, "A-Z a-z 0-9 _ -", is_token_character
);

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Wraps the number.
            #[must_use]
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The number that follows.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, formatter)
            }
        }
    };
}

number_id!(
    /// A round, counted from 1; abandoned rounds count.
    RoundNumber
);
number_id!(
    /// Version of a base model, counted from 0, the one the federation began with.
    ModelVersion
);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    #[test]
    fn plain_names_are_accepted() {
        for text in ["a", "ward-3", "site.7_b", "0x", &"a".repeat(64)] {
            assert_eq!(text.parse::<ClientId>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn each_fault_of_a_name_is_told() {
        let allowed = "a-z 0-9 . _ -";
        for (text, error) in [
            ("", ParseIdError::Empty),
            (
                "Ward",
                ParseIdError::Character {
                    found: 'W',
                    allowed,
                },
            ),
            (
                "a/b",
                ParseIdError::Character {
                    found: '/',
                    allowed,
                },
            ),
            (
                "a b",
                ParseIdError::Character {
                    found: ' ',
                    allowed,
                },
            ),
            (
                "é",
                ParseIdError::Character {
                    found: 'é',
                    allowed,
                },
            ),
            ("..", ParseIdError::Beginning { found: '.' }),
            ("-x", ParseIdError::Beginning { found: '-' }),
            (&"a".repeat(65), ParseIdError::TooLong { characters: 65 }),
        ] {
            assert_eq!(text.parse::<ClientId>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_token_id_cannot_contain_the_separator_of_join_strings() {
        assert!("a.b".parse::<TokenId>().is_err());
        assert!("Ab-9_".parse::<TokenId>().is_ok());
    }

    #[test]
    fn a_name_is_checked_when_it_is_deserialised() {
        assert!(serde_json::from_str::<ClientId>("\"../etc\"").is_err());
        assert_eq!(
            serde_json::from_str::<ClientId>("\"a\"")
                .unwrap()
                .to_string(),
            "a"
        );
        assert_eq!(
            serde_json::to_string(&"a".parse::<ClientId>().unwrap()).unwrap(),
            "\"a\""
        );
    }

    #[test]
    fn rounds_count_up() {
        assert_eq!(RoundNumber::new(1).next(), RoundNumber::new(2));
        assert_eq!(RoundNumber::new(7).to_string(), "7");
        assert_eq!(ModelVersion::new(u64::MAX).next().get(), u64::MAX);
    }
}
