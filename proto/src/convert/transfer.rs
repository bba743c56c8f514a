//! `transfer.proto`: update headers, chunks and the fate of updates.

use bytes::Bytes;
use fedmerge_common::digest::tree;
use fedmerge_common::ids::UploadId;
use fedmerge_common::packing::{Run, UnpackError, Unpacker};
use fedmerge_common::reason::{Rejection, RejectionCode};
use fedmerge_common::update::UpdateHeader;

use crate::convert::round::{encoding, round_number, unknown};
use crate::convert::{InvalidMessage, nested, parsed, required};
use crate::limits::MAX_CHUNK_BYTES;
use crate::status::{Refusal, RefusalReason};
use crate::v1;

/// Most metrics that an update may carry.
pub const MAX_METRICS: usize = 64;
/// Longest name of a metric, bytes.
pub const MAX_METRIC_NAME_BYTES: usize = 128;

impl TryFrom<v1::UpdateHeader> for UpdateHeader {
    type Error = InvalidMessage;

    fn try_from(message: v1::UpdateHeader) -> Result<Self, Self::Error> {
        let metrics = message.metrics;
        if metrics.len() > MAX_METRICS {
            let problem = format!("has {} entries, the limit is {MAX_METRICS}", metrics.len());
            return Err(InvalidMessage::new("metrics", problem));
        }
        if let Some(name) = metrics
            .keys()
            .find(|name| name.len() > MAX_METRIC_NAME_BYTES)
        {
            let problem = format!(
                "has a name of {} bytes, the limit is {MAX_METRIC_NAME_BYTES}",
                name.len()
            );
            return Err(InvalidMessage::new("metrics", problem));
        }
        Ok(Self {
            round: round_number("round", message.round)?,
            base: nested("base", message.base)?,
            encoding: encoding("encoding", message.encoding)?,
            payload: nested("payload", message.payload)?,
            payload_bytes: message.payload_bytes,
            num_examples: message.num_examples,
            metrics,
        })
    }
}

impl From<UpdateHeader> for v1::UpdateHeader {
    fn from(header: UpdateHeader) -> Self {
        Self {
            round: header.round.get(),
            base: Some(header.base.into()),
            encoding: v1::Encoding::from(header.encoding).into(),
            payload: Some(header.payload.into()),
            payload_bytes: header.payload_bytes,
            num_examples: header.num_examples,
            metrics: header.metrics,
        }
    }
}

impl TryFrom<v1::BeginUploadRequest> for UpdateHeader {
    type Error = InvalidMessage;

    fn try_from(message: v1::BeginUploadRequest) -> Result<Self, Self::Error> {
        nested("header", message.header)
    }
}

/// The upload that a message speaks of.
///
/// # Errors
/// When the text cannot be the name of an upload.
pub fn upload_id(text: &str) -> Result<UploadId, InvalidMessage> {
    parsed("upload_id", text)
}

/// Consecutive bytes whose digest is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedChunk {
    /// Position of the first byte in the whole, bytes.
    pub offset: u64,
    /// 1 byte to [`MAX_CHUNK_BYTES`].
    pub data: Bytes,
    /// Their hash at this place, from which the digest of the whole can be told.
    pub hash: [u8; 32],
}

impl VerifiedChunk {
    /// Position of the byte after the last, bytes.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.data.len() as u64)
    }
}

/// A chunk that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The sender broke the description: sending it again is of no use.
    #[error(transparent)]
    Invalid(#[from] InvalidMessage),
    /// The bytes cannot be unpacked: another sender, or another form, may do better.
    #[error("the chunk at offset {offset} cannot be unpacked: {source}")]
    Packed {
        /// Where the chunk begins.
        offset: u64,
        /// Why.
        source: UnpackError,
    },
    /// The bytes are not those of the digest: sending them again may help.
    #[error("the chunk at offset {offset} does not have its digest")]
    Corrupt {
        /// Where the chunk begins.
        offset: u64,
    },
}

impl From<ChunkError> for Refusal {
    fn from(error: ChunkError) -> Self {
        match error {
            ChunkError::Invalid(invalid) => invalid.into(),
            ChunkError::Packed { source, .. } => {
                InvalidMessage::new("chunk.data", format!("cannot be unpacked: {source}")).into()
            }
            ChunkError::Corrupt { .. } => Self::new(RefusalReason::ChunkCorrupt, error),
        }
    }
}

/// The chunk that a message must carry, unpacked and verified.
///
/// # Errors
/// When it is absent, empty, too large, cannot be unpacked, or its bytes do not have its digest.
pub fn verified_chunk(
    chunk: Option<v1::Chunk>,
    unpacker: &mut Unpacker,
) -> Result<VerifiedChunk, ChunkError> {
    let chunk = required("chunk", chunk)?;
    let (bytes, offset) = (chunk_bytes(&chunk), chunk.offset);
    if bytes == 0 || bytes > MAX_CHUNK_BYTES || chunk.data.len() > MAX_CHUNK_BYTES {
        let problem = format!("has {bytes} bytes, expected 1 to {MAX_CHUNK_BYTES}");
        return Err(InvalidMessage::new("chunk.data", problem).into());
    }
    if offset.checked_add(bytes as u64).is_none() {
        return Err(InvalidMessage::new("chunk.offset", "is too large").into());
    }
    let data = if chunk.unpacked_bytes > 0 {
        let unpacked = unpacker.unpack(offset, &chunk.data, bytes);
        unpacked
            .map_err(|source| ChunkError::Packed { offset, source })?
            .into()
    } else {
        chunk.data
    };
    let hash = tree::hash_at(offset, &data);
    if chunk.digest[..] != hash[..] {
        return Err(ChunkError::Corrupt { offset });
    }
    Ok(VerifiedChunk { offset, data, hash })
}

/// How many bytes a chunk says to stand for.
#[must_use]
pub fn chunk_bytes(chunk: &v1::Chunk) -> usize {
    match usize::try_from(chunk.unpacked_bytes) {
        Ok(0) => chunk.data.len(),
        unpacked => unpacked.unwrap_or(usize::MAX),
    }
}

/// Makes a chunk of `data`, with its hash at `offset` of the whole.
#[must_use]
pub fn chunk(offset: u64, data: Bytes) -> v1::Chunk {
    v1::Chunk {
        offset,
        digest: Bytes::copy_from_slice(&tree::hash_at(offset, &data)),
        data,
        unpacked_bytes: 0,
    }
}

impl From<Run> for v1::Chunk {
    fn from(run: Run) -> Self {
        // A run is no longer than a chunk may be.
        let unpacked_bytes = run.unpacked_bytes.unwrap_or(0);
        Self {
            offset: run.offset,
            digest: Bytes::copy_from_slice(&run.hash),
            data: run.data,
            unpacked_bytes: u32::try_from(unpacked_bytes).unwrap_or(u32::MAX),
        }
    }
}

impl From<RejectionCode> for v1::RejectionCode {
    fn from(code: RejectionCode) -> Self {
        match code {
            RejectionCode::RoundClosed => Self::RoundClosed,
            RejectionCode::NotInvited => Self::NotInvited,
            RejectionCode::Duplicate => Self::Duplicate,
            RejectionCode::BaseMismatch => Self::BaseMismatch,
            RejectionCode::DigestMismatch => Self::DigestMismatch,
            RejectionCode::Malformed => Self::Malformed,
            RejectionCode::SchemaMismatch => Self::SchemaMismatch,
            RejectionCode::NonFinite => Self::NonFinite,
            RejectionCode::Magnitude => Self::Magnitude,
            RejectionCode::Length => Self::Length,
            RejectionCode::Unrelated => Self::Unrelated,
            RejectionCode::TooLarge => Self::TooLarge,
            RejectionCode::EncodingNotAllowed => Self::EncodingNotAllowed,
            RejectionCode::Examples => Self::Examples,
        }
    }
}

impl TryFrom<v1::RejectionCode> for RejectionCode {
    type Error = InvalidMessage;

    fn try_from(value: v1::RejectionCode) -> Result<Self, Self::Error> {
        match value {
            v1::RejectionCode::RoundClosed => Ok(Self::RoundClosed),
            v1::RejectionCode::NotInvited => Ok(Self::NotInvited),
            v1::RejectionCode::Duplicate => Ok(Self::Duplicate),
            v1::RejectionCode::BaseMismatch => Ok(Self::BaseMismatch),
            v1::RejectionCode::DigestMismatch => Ok(Self::DigestMismatch),
            v1::RejectionCode::Malformed => Ok(Self::Malformed),
            v1::RejectionCode::SchemaMismatch => Ok(Self::SchemaMismatch),
            v1::RejectionCode::NonFinite => Ok(Self::NonFinite),
            v1::RejectionCode::Magnitude => Ok(Self::Magnitude),
            v1::RejectionCode::Length => Ok(Self::Length),
            v1::RejectionCode::Unrelated => Ok(Self::Unrelated),
            v1::RejectionCode::TooLarge => Ok(Self::TooLarge),
            v1::RejectionCode::EncodingNotAllowed => Ok(Self::EncodingNotAllowed),
            v1::RejectionCode::Examples => Ok(Self::Examples),
            v1::RejectionCode::Unspecified => Err(unknown("code", value.into())),
        }
    }
}

impl From<Rejection> for v1::Rejected {
    fn from(rejection: Rejection) -> Self {
        Self {
            code: v1::RejectionCode::from(rejection.code).into(),
            detail: rejection.detail,
        }
    }
}

impl TryFrom<v1::Rejected> for Rejection {
    type Error = InvalidMessage;

    fn try_from(message: v1::Rejected) -> Result<Self, Self::Error> {
        let code =
            v1::RejectionCode::try_from(message.code).map_err(|_| unknown("code", message.code))?;
        Ok(Self::new(code.try_into()?, message.detail))
    }
}

/// What became of an update.
pub type UpdateOutcome = Result<(), Rejection>;

impl From<UpdateOutcome> for v1::CommitUploadResponse {
    fn from(outcome: UpdateOutcome) -> Self {
        use v1::commit_upload_response::Outcome;
        let outcome = match outcome {
            Ok(()) => Outcome::Accepted(v1::Accepted {}),
            Err(rejection) => Outcome::Rejected(rejection.into()),
        };
        Self {
            outcome: Some(outcome),
        }
    }
}

/// What the server says became of an update.
///
/// # Errors
/// When the answer says nothing, or names an unknown reason.
pub fn update_outcome(message: v1::CommitUploadResponse) -> Result<UpdateOutcome, InvalidMessage> {
    use v1::commit_upload_response::Outcome;
    match required("outcome", message.outcome)? {
        Outcome::Accepted(_) => Ok(Ok(())),
        Outcome::Rejected(rejected) => {
            let rejection = Rejection::try_from(rejected);
            rejection
                .map(Err)
                .map_err(|invalid| invalid.within("rejected"))
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use std::collections::BTreeMap;

    use fedmerge_common::digest::Digest;
    use fedmerge_common::ids::RoundNumber;
    use fedmerge_common::packing::Packer;
    use fedmerge_common::task_vector::Encoding;

    use super::*;
    use crate::convert::Spoiler;

    fn header() -> UpdateHeader {
        UpdateHeader {
            round: RoundNumber::new(4),
            base: Digest::of(b"base"),
            encoding: Encoding::Bf16,
            payload: Digest::of(b"payload"),
            payload_bytes: 7,
            num_examples: 120,
            metrics: BTreeMap::from([("loss".to_owned(), 0.25)]),
        }
    }

    #[test]
    fn an_update_header_round_trips() {
        let message = v1::BeginUploadRequest {
            header: Some(header().into()),
        };
        assert_eq!(UpdateHeader::try_from(message).unwrap(), header());
    }

    #[test]
    fn every_wrong_field_of_an_update_header_is_named() {
        let cases: [Spoiler<v1::UpdateHeader>; 8] = [
            ("header.round", |message| message.round = 0),
            ("header.base", |message| message.base = None),
            ("header.base.value", |message| {
                message.base.as_mut().unwrap().value = Bytes::new();
            }),
            ("header.encoding", |message| message.encoding = 0),
            ("header.encoding", |message| message.encoding = -1),
            ("header.payload", |message| message.payload = None),
            ("header.metrics", |message| {
                message.metrics = (0..=MAX_METRICS)
                    .map(|number| (number.to_string(), 0.0))
                    .collect();
            }),
            ("header.metrics", |message| {
                message
                    .metrics
                    .insert("x".repeat(MAX_METRIC_NAME_BYTES + 1), 0.0);
            }),
        ];
        for (field, spoil) in cases {
            let mut message = v1::UpdateHeader::from(header());
            spoil(&mut message);
            let request = v1::BeginUploadRequest {
                header: Some(message),
            };
            assert_eq!(UpdateHeader::try_from(request).unwrap_err().field, field);
        }
        let empty = v1::BeginUploadRequest { header: None };
        assert_eq!(UpdateHeader::try_from(empty).unwrap_err().field, "header");
    }

    fn verified(chunk: v1::Chunk) -> Result<VerifiedChunk, ChunkError> {
        verified_chunk(Some(chunk), &mut Unpacker::default())
    }

    #[test]
    fn a_packed_chunk_is_verified_by_the_digest_of_what_it_was() {
        let bytes = vec![7; 10_000];
        let packed = Packer::beside(None).unwrap().pack(10, &bytes).unwrap();
        let run = |data: &[u8], unpacked_bytes| {
            v1::Chunk::from(Run {
                offset: 10,
                hash: tree::hash_at(10, &bytes),
                data: Bytes::copy_from_slice(data),
                unpacked_bytes: Some(unpacked_bytes),
            })
        };
        let chunk = run(&packed, bytes.len());
        assert_eq!(chunk_bytes(&chunk), bytes.len());
        assert_eq!(verified(chunk).unwrap().data, bytes);
        let other = Packer::beside(None).unwrap().pack(10, &[8; 10_000]);
        let other = verified(run(&other.unwrap(), bytes.len()));
        assert_eq!(other, Err(ChunkError::Corrupt { offset: 10 }));
        for (data, bytes) in [(&packed[..9], 10_000), (&packed[..], 9_999), (&[], 10_000)] {
            let error = verified(run(data, bytes)).unwrap_err();
            assert!(matches!(error, ChunkError::Packed { .. }), "{error}");
            assert_eq!(Refusal::from(error).reason, RefusalReason::InvalidRequest);
        }
        let large = verified(run(&packed, MAX_CHUNK_BYTES + 1)).unwrap_err();
        assert!(matches!(large, ChunkError::Invalid(_)), "{large}");
    }

    #[test]
    fn a_chunk_is_verified_by_its_digest() {
        let sealed = chunk(10, Bytes::from_static(b"data"));
        let good = verified(sealed.clone()).unwrap();
        assert_eq!(
            (good.offset, &good.data[..], good.end()),
            (10, &b"data"[..], 14)
        );
        let spoilt = v1::Chunk {
            data: Bytes::from_static(b"Data"),
            ..sealed.clone()
        };
        assert_eq!(verified(spoilt), Err(ChunkError::Corrupt { offset: 10 }));
        let cut = v1::Chunk {
            digest: Bytes::new(),
            ..sealed
        };
        let refusal = Refusal::from(verified(cut).unwrap_err());
        assert_eq!(refusal.reason, RefusalReason::ChunkCorrupt);
    }

    #[test]
    fn a_chunk_of_impossible_size_or_place_is_invalid() {
        let cases = [
            (None, "chunk"),
            (Some(chunk(0, Bytes::new())), "chunk.data"),
            (
                Some(chunk(0, vec![0; MAX_CHUNK_BYTES + 1].into())),
                "chunk.data",
            ),
            (
                Some(chunk(u64::MAX, Bytes::from_static(b"x"))),
                "chunk.offset",
            ),
        ];
        for (chunk, field) in cases {
            let error = verified_chunk(chunk, &mut Unpacker::default()).unwrap_err();
            assert!(matches!(error, ChunkError::Invalid(invalid) if invalid.field == field));
        }
    }

    #[test]
    fn every_outcome_of_an_update_round_trips() {
        let rejections = RejectionCode::ALL
            .iter()
            .map(|&code| Err(Rejection::new(code, "because")));
        for outcome in rejections.chain([Ok(())]) {
            let message = v1::CommitUploadResponse::from(outcome.clone());
            assert_eq!(update_outcome(message).unwrap(), outcome);
        }
    }

    #[test]
    fn an_outcome_that_says_nothing_is_invalid() {
        use v1::commit_upload_response::Outcome;
        let empty = v1::CommitUploadResponse { outcome: None };
        assert_eq!(update_outcome(empty).unwrap_err().field, "outcome");
        for code in [0, 99] {
            let rejected = Outcome::Rejected(v1::Rejected {
                code,
                detail: String::new(),
            });
            let message = v1::CommitUploadResponse {
                outcome: Some(rejected),
            };
            assert_eq!(update_outcome(message).unwrap_err().field, "rejected.code");
        }
    }

    #[test]
    fn an_upload_is_named_by_plain_text() {
        assert_eq!(upload_id("u-1").unwrap().as_str(), "u-1");
        assert_eq!(upload_id("../x").unwrap_err().field, "upload_id");
    }
}
