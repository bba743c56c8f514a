//! Tokens: what a machine needs to enrol. The secret is shown once, in the join string; only its hash stays.
//!
//! Whether a token may still be used is the ledger's to say.

use fedmerge_common::ids::TokenId;
use fedmerge_common::join::{JoinString, Secret};
use fedmerge_common::units::Timestamp;
use fedmerge_proto::convert::admin::TokenRequest;
use ring::digest::{Context, Digest, SHA256};

use crate::enrolment::random::{RandomError, random_bytes};
use crate::store::ledger::TokenRow;

/// Length of a token's id: 60 random bits, so that no two tokens of a federation meet.
const ID_CHARACTERS: usize = 12;
/// Length of a token's secret: 258 random bits.
const SECRET_CHARACTERS: usize = 43;

// Both lengths divide 256, so that every character is equally likely.
const ID_ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const SECRET_ALPHABET: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Sets these hashes apart from every other SHA-256 of the same text.
const HASH_CONTEXT: &[u8] = b"fedmerge token secret v1\0";

/// Makes a token, and the join string that holds its secret: to be shown once and forgotten.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn create(
    request: &TokenRequest,
    authority_pin: [u8; 32],
    now: Timestamp,
) -> Result<(TokenRow, JoinString), RandomError> {
    let id = new_id()?;
    let secret = Secret::new(random_text::<SECRET_CHARACTERS>(SECRET_ALPHABET)?);
    let token = TokenRow {
        id: id.clone(),
        secret_hash: hash_secret(&secret),
        uses: request.uses,
        used: 0,
        created: now,
        expires: now + request.ttl,
        is_revoked: false,
        labels: request.labels.clone(),
        needs_approval: request.needs_approval,
        is_ephemeral: request.is_ephemeral,
    };
    let join = JoinString {
        authority_pin,
        token: id,
        secret,
    };
    Ok((token, join))
}

/// What is kept of a secret: one round of SHA-256 under a context of its own. The secret has over 256 bits of
/// entropy, so that there is nothing to guess and neither salt nor a slow hash would add anything.
#[must_use]
pub fn hash_secret(secret: &Secret) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(HASH_CONTEXT);
    context.update(secret.expose().as_bytes());
    bytes_of(context.finish())
}

fn bytes_of(hash: Digest) -> [u8; 32] {
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn new_id() -> Result<TokenId, RandomError> {
    let text = random_text::<ID_CHARACTERS>(ID_ALPHABET)?;
    Ok(text.parse().expect("letters and digits make a token id"))
}

fn random_text<const N: usize>(alphabet: &[u8]) -> Result<String, RandomError> {
    let bytes = random_bytes::<N>()?;
    let letter = |byte: &u8| char::from(alphabet[usize::from(*byte) % alphabet.len()]);
    Ok(bytes.iter().map(letter).collect())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use std::collections::BTreeSet;

    use fedmerge_common::hex;
    use fedmerge_common::units::Millis;

    use std::collections::BTreeMap;

    use super::*;

    fn request() -> TokenRequest {
        TokenRequest {
            uses: 20,
            ttl: Millis::from_secs(60),
            labels: BTreeMap::from([("site".to_owned(), "ward-3".to_owned())]),
            needs_approval: true,
            is_ephemeral: false,
        }
    }

    #[test]
    fn a_token_is_what_was_asked_for() {
        let now = Timestamp::new(5_000);
        let (token, join) = create(&request(), [7; 32], now).unwrap();
        assert_eq!(token.uses, 20);
        assert_eq!(token.created, now);
        assert_eq!(token.expires, Timestamp::new(65_000));
        assert_eq!(token.labels, request().labels);
        assert_eq!(join.authority_pin, [7; 32]);
        assert_eq!(join.token, token.id);
    }

    #[test]
    fn the_join_string_survives_being_typed_and_holds_the_secret_of_the_hash() {
        for _ in 0..100 {
            let (token, join) = create(&request(), [7; 32], Timestamp::new(0)).unwrap();
            let typed: JoinString = join.to_string().parse().unwrap();
            assert_eq!(typed, join);
            assert_eq!(hash_secret(&typed.secret), token.secret_hash);
            assert_eq!(token.id.as_str().len(), ID_CHARACTERS);
            assert_eq!(typed.secret.expose().len(), SECRET_CHARACTERS);
        }
    }

    #[test]
    fn no_two_tokens_share_an_id_or_a_secret() {
        let tokens: Vec<_> = (0..100)
            .map(|_| create(&request(), [7; 32], Timestamp::new(0)).unwrap().0)
            .collect();
        let ids: BTreeSet<_> = tokens.iter().map(|token| &token.id).collect();
        let hashes: BTreeSet<_> = tokens.iter().map(|token| token.secret_hash).collect();
        assert_eq!((ids.len(), hashes.len()), (100, 100));
    }

    #[test]
    fn what_a_ledger_keeps_does_not_show_the_secret() {
        let (token, join) = create(&request(), [7; 32], Timestamp::new(0)).unwrap();
        assert!(!format!("{token:?}").contains(join.secret.expose()));
    }

    #[test]
    fn the_hash_of_a_secret_never_changes() {
        // printf 'fedmerge token secret v1\0s3cr3t' | sha256sum
        assert_eq!(
            hex::encode(&hash_secret(&Secret::new("s3cr3t"))),
            "4065a6c20729ac3c4b97bee616eaac16d9eb970e71d1c0eca9c38c2217de703f"
        );
    }
}
