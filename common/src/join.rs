//! The join string: all that a machine needs to enrol, in one line.
//!
//! `fm1.<SHA-256 of the authority's public key>.<token id>.<secret>`. The pin makes the machine
//! refuse every other server; the secret is shown once and never printed by accident.

use std::fmt;
use std::str::FromStr;

use crate::hex;
use crate::ids::TokenId;

const VERSION: &str = "fm1";
/// Longest secret that is accepted, characters.
const MAX_SECRET_CHARACTERS: usize = 128;

/// Text that must not be shown: it prints as `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// What `server token create` prints and `client enrol` takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinString {
    /// SHA-256 of the certificate authority's public key info, DER.
    pub authority_pin: [u8; 32],
    /// Public part of the token.
    pub token: TokenId,
    /// Secret part of the token.
    pub secret: Secret,
}

impl fmt::Display for JoinString {
    /// The whole string, secret included.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pin = hex::encode(&self.authority_pin);
        write!(
            formatter,
            "{VERSION}.{pin}.{}.{}",
            self.token,
            self.secret.expose()
        )
    }
}

/// A string that is no join string. It does not repeat the string, which holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseJoinStringError {
    /// Not four parts with dots between.
    #[error("a join string has 4 parts with dots between them, found {found}")]
    Parts {
        /// Number of parts found.
        found: usize,
    },
    /// The first part is another version.
    #[error("a join string begins with `{VERSION}.`")]
    Version,
    /// The second part is no hash.
    #[error("the second part of a join string is 64 lowercase hexadecimal digits")]
    Pin,
    /// The third part is no token id.
    #[error("the third part of a join string is a token id of at most 64 letters and digits")]
    Token,
    /// The last part is no secret.
    #[error(
        "the last part of a join string is a secret of 1 to {MAX_SECRET_CHARACTERS} letters, digits, `_` and `-`"
    )]
    Secret,
}

impl FromStr for JoinString {
    type Err = ParseJoinStringError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let [version, pin, token, secret] = parts[..] else {
            return Err(ParseJoinStringError::Parts { found: parts.len() });
        };
        if version != VERSION {
            return Err(ParseJoinStringError::Version);
        }
        let is_secret_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if !(1..=MAX_SECRET_CHARACTERS).contains(&secret.len())
            || !secret.bytes().all(is_secret_byte)
        {
            return Err(ParseJoinStringError::Secret);
        }
        Ok(Self {
            authority_pin: hex::decode(pin).ok_or(ParseJoinStringError::Pin)?,
            token: token.parse().map_err(|_| ParseJoinStringError::Token)?,
            secret: Secret::new(secret),
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    fn example() -> String {
        format!("fm1.{}.t0k3n.s3cr3t-_", "0f".repeat(32))
    }

    #[test]
    fn a_join_string_round_trips() {
        let join: JoinString = example().parse().unwrap();
        assert_eq!(join.authority_pin, [0x0f; 32]);
        assert_eq!(join.token.as_str(), "t0k3n");
        assert_eq!(join.secret.expose(), "s3cr3t-_");
        assert_eq!(join.to_string(), example());
        assert_eq!(
            format!(" {}\n", example()).parse::<JoinString>().unwrap(),
            join
        );
    }

    #[test]
    fn a_secret_is_never_printed_by_debug() {
        let join: JoinString = example().parse().unwrap();
        let debug = format!("{join:?}");
        assert!(
            debug.contains("[redacted]") && !debug.contains("s3cr3t"),
            "{debug}"
        );
    }

    #[test]
    fn each_broken_part_is_told_without_repeating_the_string() {
        let pin = "0f".repeat(32);
        for (text, error) in [
            (String::new(), ParseJoinStringError::Parts { found: 1 }),
            (
                format!("fm1.{pin}.t.s.x"),
                ParseJoinStringError::Parts { found: 5 },
            ),
            (format!("fm2.{pin}.t.s"), ParseJoinStringError::Version),
            ("fm1.0f.t.s".to_owned(), ParseJoinStringError::Pin),
            (format!("fm1.{pin}..s"), ParseJoinStringError::Token),
            (format!("fm1.{pin}.t."), ParseJoinStringError::Secret),
            (format!("fm1.{pin}.t.s s"), ParseJoinStringError::Secret),
        ] {
            assert_eq!(text.parse::<JoinString>(), Err(error.clone()), "{text}");
            assert!(!error.to_string().contains(&pin));
        }
    }
}
