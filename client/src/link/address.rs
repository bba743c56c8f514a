//! Where a server is: `https://host:port`, `host:port` or `host`.
//!
//! The name here is only dialled; what the server must prove is its certificate, not its name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Port of a server whose address names none.
pub const DEFAULT_PORT: u16 = 7600;

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerAddress {
    host: String,
    port: u16,
}

/// Why a text is not a server's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseAddressError {
    /// A scheme other than `https`.
    #[error("`{scheme}://` is not spoken here: a server is reached by https://host:port")]
    Scheme {
        /// What was there.
        scheme: String,
    },
    /// No host.
    #[error("`{text}` names no host: write https://host:port")]
    Host {
        /// What was there.
        text: String,
    },
    /// The port is no number from 1 to 65535.
    #[error("`{port}` is not a port from 1 to 65535")]
    Port {
        /// What was there.
        port: String,
    },
    /// Something after the port.
    #[error("`{path}` after the address is not understood: write https://host:port")]
    Path {
        /// What was there.
        path: String,
    },
}

impl ServerAddress {
    /// Name or number of the machine.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port on that machine.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, as people write it.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for ServerAddress {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let rest = match text.trim().split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => rest,
            Some((scheme, _)) => {
                return Err(ParseAddressError::Scheme {
                    scheme: scheme.to_owned(),
                });
            }
            None => text.trim(),
        };
        let rest = match rest.split_once('/') {
            Some((rest, "")) => rest,
            Some((_, path)) => {
                return Err(ParseAddressError::Path {
                    path: format!("/{path}"),
                });
            }
            None => rest,
        };
        let no_host = || ParseAddressError::Host {
            text: text.to_owned(),
        };
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(no_host)?;
                (host, after.strip_prefix(':'))
            }
            None => match rest.rsplit_once(':') {
                Some((host, _)) if host.contains(':') => (rest, None),
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let is_plain =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        if host.is_empty() || !host.chars().all(is_plain) {
            return Err(no_host());
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => port.parse().ok().filter(|&port| port > 0).ok_or_else(|| {
                ParseAddressError::Port {
                    port: port.to_owned(),
                }
            })?,
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

impl TryFrom<String> for ServerAddress {
    type Error = ParseAddressError;

    fn try_from(text: String) -> Result<Self, ParseAddressError> {
        text.parse()
    }
}

impl From<ServerAddress> for String {
    fn from(address: ServerAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_an_address_means_the_same() {
        for (text, shown) in [
            ("https://fed.example:7600", "https://fed.example:7600"),
            ("HTTPS://fed.example:7600/", "https://fed.example:7600"),
            ("fed.example:1", "https://fed.example:1"),
            ("fed.example", "https://fed.example:7600"),
            ("127.0.0.1:9", "https://127.0.0.1:9"),
            ("[::1]:9", "https://[::1]:9"),
            ("::1", "https://[::1]:7600"),
        ] {
            let address: ServerAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown, "{text}");
            assert_eq!(shown.parse::<ServerAddress>().unwrap(), address);
        }
    }

    #[test]
    fn what_is_not_an_address_is_refused_by_its_part() {
        let error = |text: &str| text.parse::<ServerAddress>().unwrap_err();
        assert!(matches!(
            error("http://a:1"),
            ParseAddressError::Scheme { .. }
        ));
        assert!(matches!(error(""), ParseAddressError::Host { .. }));
        assert!(matches!(
            error("https://:1"),
            ParseAddressError::Host { .. }
        ));
        assert!(matches!(error("a b:1"), ParseAddressError::Host { .. }));
        assert!(matches!(error("[::1"), ParseAddressError::Host { .. }));
        assert!(matches!(error("a:0"), ParseAddressError::Port { .. }));
        assert!(matches!(error("a:70000"), ParseAddressError::Port { .. }));
        assert!(matches!(error("a:1/x"), ParseAddressError::Path { .. }));
    }
}
