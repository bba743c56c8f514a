//! `admin.proto`: requests that steer a federation.

use std::collections::BTreeMap;

use fedmerge_common::identity::check_label;
use fedmerge_common::units::Millis;

use crate::convert::InvalidMessage;
use crate::v1;

/// Most labels that a token may carry.
pub const MAX_LABELS: usize = 32;

/// A wish for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// How many machines may use it, at least 1.
    pub uses: u32,
    /// How long it lives, at least a millisecond.
    pub ttl: Millis,
    /// Labels for the clients that use it.
    pub labels: BTreeMap<String, String>,
    /// Whether a person has to approve each client.
    pub needs_approval: bool,
    /// Whether its clients are struck off when their certificates end.
    pub is_ephemeral: bool,
}

impl TryFrom<v1::CreateTokenRequest> for TokenRequest {
    type Error = InvalidMessage;

    fn try_from(message: v1::CreateTokenRequest) -> Result<Self, Self::Error> {
        if message.uses == 0 {
            return Err(InvalidMessage::new("uses", "is 0, expected at least 1"));
        }
        if message.ttl_ms == 0 {
            return Err(InvalidMessage::new("ttl_ms", "is 0, expected at least 1"));
        }
        let labels = message.labels;
        if labels.len() > MAX_LABELS {
            let problem = format!("has {} entries, the limit is {MAX_LABELS}", labels.len());
            return Err(InvalidMessage::new("labels", problem));
        }
        let wrong = labels
            .iter()
            .find_map(|(key, value)| check_label(key, value).err());
        if let Some(wrong) = wrong {
            return Err(InvalidMessage::new("labels", wrong.to_string()));
        }
        Ok(Self {
            uses: message.uses,
            ttl: Millis::new(message.ttl_ms),
            labels,
            needs_approval: message.require_approval,
            is_ephemeral: message.ephemeral,
        })
    }
}

impl From<TokenRequest> for v1::CreateTokenRequest {
    fn from(request: TokenRequest) -> Self {
        Self {
            uses: request.uses,
            ttl_ms: request.ttl.get(),
            labels: request.labels,
            require_approval: request.needs_approval,
            ephemeral: request.is_ephemeral,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;
    use crate::convert::Spoiler;

    fn request() -> TokenRequest {
        let labels = BTreeMap::from([("site".to_owned(), "ward-3".to_owned())]);
        TokenRequest {
            uses: 20,
            ttl: Millis::from_secs(60),
            labels,
            needs_approval: true,
            is_ephemeral: true,
        }
    }

    #[test]
    fn a_token_request_round_trips() {
        assert_eq!(
            TokenRequest::try_from(v1::CreateTokenRequest::from(request())).unwrap(),
            request()
        );
    }

    #[test]
    fn every_wrong_field_of_a_token_request_is_named() {
        let cases: [Spoiler<v1::CreateTokenRequest>; 4] = [
            ("uses", |message| message.uses = 0),
            ("ttl_ms", |message| message.ttl_ms = 0),
            ("labels", |message| {
                message.labels = (0..=MAX_LABELS)
                    .map(|number| (number.to_string(), String::new()))
                    .collect();
            }),
            ("labels", |message| {
                message.labels.insert("x".into(), "not a value".into());
            }),
        ];
        for (field, spoil) in cases {
            let mut message = v1::CreateTokenRequest::from(request());
            spoil(&mut message);
            assert_eq!(TokenRequest::try_from(message).unwrap_err().field, field);
        }
    }
}
