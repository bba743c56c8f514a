//! `round.proto`: digests, models, encodings, reports and declines; [`super::invitation`] has the invitation.

use bytes::Bytes;
use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ModelVersion, RoundNumber};
use fedmerge_common::reason::{Decline, DeclineKind};
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::task_vector::encoding::Density;
use fedmerge_common::update::ModelRef;

use crate::convert::{InvalidMessage, nested};
use crate::limits::INSTANCE_BYTES;
use crate::v1;

impl TryFrom<v1::Digest> for Digest {
    type Error = InvalidMessage;

    fn try_from(message: v1::Digest) -> Result<Self, Self::Error> {
        match message.algorithm() {
            v1::DigestAlgorithm::Blake3 => {}
            v1::DigestAlgorithm::Unspecified => {
                return Err(unknown("algorithm", message.algorithm));
            }
        }
        let bytes = <[u8; 32]>::try_from(&message.value[..]).map_err(|_| {
            InvalidMessage::new(
                "value",
                format!("has {} bytes, expected 32", message.value.len()),
            )
        })?;
        Ok(Self::from_bytes(bytes))
    }
}

impl From<Digest> for v1::Digest {
    fn from(digest: Digest) -> Self {
        Self {
            algorithm: v1::DigestAlgorithm::Blake3.into(),
            value: Bytes::copy_from_slice(digest.as_bytes()),
        }
    }
}

impl TryFrom<v1::Model> for ModelRef {
    type Error = InvalidMessage;

    fn try_from(message: v1::Model) -> Result<Self, Self::Error> {
        Ok(Self {
            version: ModelVersion::new(message.version),
            digest: nested("digest", message.digest)?,
            size_bytes: message.size_bytes,
        })
    }
}

impl From<ModelRef> for v1::Model {
    fn from(model: ModelRef) -> Self {
        Self {
            version: model.version.get(),
            digest: Some(model.digest.into()),
            size_bytes: model.size_bytes,
        }
    }
}

impl TryFrom<v1::Encoding> for Encoding {
    type Error = InvalidMessage;

    fn try_from(value: v1::Encoding) -> Result<Self, Self::Error> {
        match value {
            v1::Encoding::F32 => Ok(Self::F32),
            v1::Encoding::Bf16 => Ok(Self::Bf16),
            v1::Encoding::Int8 => Ok(Self::Int8),
            v1::Encoding::TopK => Ok(Self::TopK),
            v1::Encoding::Ternary => Ok(Self::Ternary),
            v1::Encoding::Sign => Ok(Self::Sign),
            v1::Encoding::SeededMask => Ok(Self::SeededMask),
            v1::Encoding::Unspecified => Err(unknown("encoding", value.into())),
        }
    }
}

impl From<Encoding> for v1::Encoding {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::F32 => Self::F32,
            Encoding::Bf16 => Self::Bf16,
            Encoding::Int8 => Self::Int8,
            Encoding::TopK => Self::TopK,
            Encoding::Ternary => Self::Ternary,
            Encoding::Sign => Self::Sign,
            Encoding::SeededMask => Self::SeededMask,
        }
    }
}

/// An encoding as it stands in a message.
///
/// # Errors
/// When the number is not one we know.
pub fn encoding(field: &str, number: i32) -> Result<Encoding, InvalidMessage> {
    let value = v1::Encoding::try_from(number).map_err(|_| unknown(field, number))?;
    value.try_into().map_err(|_| unknown(field, number))
}

/// A density as it stands in a message: 0 is the usual one.
///
/// # Errors
/// When it is more than 1.
pub fn density(field: &str, ppm: u32) -> Result<Density, InvalidMessage> {
    if ppm == 0 {
        return Ok(Density::default());
    }
    Density::from_ppm(ppm)
        .map_err(|_| InvalidMessage::new(field, format!("is {ppm} millionths, at most all")))
}

/// A round's number.
///
/// # Errors
/// When it is 0, which no round has.
pub fn round_number(field: &str, number: u64) -> Result<RoundNumber, InvalidMessage> {
    if number == 0 {
        return Err(InvalidMessage::new(
            field,
            "is 0, but rounds are counted from 1",
        ));
    }
    Ok(RoundNumber::new(number))
}

pub(super) fn unknown(field: &str, number: i32) -> InvalidMessage {
    InvalidMessage::new(field, format!("has the unknown value {number}"))
}

/// The bytes by which a client process tells itself apart.
///
/// # Errors
/// When they are not 16.
pub fn instance(message: &v1::AttendRequest) -> Result<[u8; INSTANCE_BYTES], InvalidMessage> {
    message.instance[..].try_into().map_err(|_| {
        let problem = format!(
            "has {} bytes, expected {INSTANCE_BYTES}",
            message.instance.len()
        );
        InvalidMessage::new("instance", problem)
    })
}

/// A sign of life from a client at work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProgressReport {
    /// The round of the task.
    pub round: RoundNumber,
    /// Share of the work that is done, 0 to 1.
    pub progress: f64,
    /// The trainer's last loss, where it said one.
    pub loss: Option<f64>,
}

impl TryFrom<v1::ReportProgressRequest> for ProgressReport {
    type Error = InvalidMessage;

    fn try_from(message: v1::ReportProgressRequest) -> Result<Self, Self::Error> {
        if !(0.0..=1.0).contains(&message.progress) {
            return Err(InvalidMessage::new(
                "progress",
                format!("is {}, expected 0 to 1", message.progress),
            ));
        }
        let round = round_number("round", message.round)?;
        Ok(Self {
            round,
            progress: message.progress,
            loss: message.loss,
        })
    }
}

impl From<ProgressReport> for v1::ReportProgressRequest {
    fn from(report: ProgressReport) -> Self {
        Self {
            round: report.round.get(),
            progress: report.progress,
            loss: report.loss,
        }
    }
}

impl From<DeclineKind> for v1::DeclineKind {
    fn from(kind: DeclineKind) -> Self {
        match kind {
            DeclineKind::TrainerFailed => Self::TrainerFailed,
            DeclineKind::TrainerTimedOut => Self::TrainerTimedOut,
            DeclineKind::BadCheckpoint => Self::BadCheckpoint,
            DeclineKind::Policy => Self::Policy,
            DeclineKind::Interrupted => Self::Interrupted,
            DeclineKind::Storage => Self::Storage,
            DeclineKind::NoEvaluator => Self::NoEvaluator,
            DeclineKind::EvaluatorFailed => Self::EvaluatorFailed,
            DeclineKind::EvaluatorTimedOut => Self::EvaluatorTimedOut,
            DeclineKind::BaseRefused => Self::BaseRefused,
            DeclineKind::Evicted => Self::Evicted,
        }
    }
}

impl TryFrom<v1::DeclineKind> for DeclineKind {
    type Error = InvalidMessage;

    fn try_from(value: v1::DeclineKind) -> Result<Self, Self::Error> {
        match value {
            v1::DeclineKind::TrainerFailed => Ok(Self::TrainerFailed),
            v1::DeclineKind::TrainerTimedOut => Ok(Self::TrainerTimedOut),
            v1::DeclineKind::BadCheckpoint => Ok(Self::BadCheckpoint),
            v1::DeclineKind::Policy => Ok(Self::Policy),
            v1::DeclineKind::Interrupted => Ok(Self::Interrupted),
            v1::DeclineKind::Storage => Ok(Self::Storage),
            v1::DeclineKind::NoEvaluator => Ok(Self::NoEvaluator),
            v1::DeclineKind::EvaluatorFailed => Ok(Self::EvaluatorFailed),
            v1::DeclineKind::EvaluatorTimedOut => Ok(Self::EvaluatorTimedOut),
            v1::DeclineKind::BaseRefused => Ok(Self::BaseRefused),
            v1::DeclineKind::Evicted => Ok(Self::Evicted),
            v1::DeclineKind::Unspecified => Err(unknown("kind", value.into())),
        }
    }
}

impl TryFrom<v1::DeclineRequest> for (RoundNumber, Decline) {
    type Error = InvalidMessage;

    fn try_from(message: v1::DeclineRequest) -> Result<Self, Self::Error> {
        let round = round_number("round", message.round)?;
        Ok((round, decline(message.kind, &message.detail)?))
    }
}

/// A reason to give something back, as its fields `kind` and `detail` stand in a message.
pub(super) fn decline(kind: i32, detail: &str) -> Result<Decline, InvalidMessage> {
    let kind = v1::DeclineKind::try_from(kind).map_err(|_| unknown("kind", kind))?;
    Ok(Decline::new(kind.try_into()?, detail))
}

impl From<(RoundNumber, Decline)> for v1::DeclineRequest {
    fn from((round, decline): (RoundNumber, Decline)) -> Self {
        Self {
            round: round.get(),
            kind: v1::DeclineKind::from(decline.kind).into(),
            detail: decline.detail,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    #[test]
    fn a_digest_of_an_unknown_algorithm_is_refused() {
        for algorithm in [0, 99] {
            let message = v1::Digest {
                algorithm,
                ..Digest::of(b"").into()
            };
            assert_eq!(Digest::try_from(message).unwrap_err().field, "algorithm");
        }
    }

    #[test]
    fn every_kind_of_decline_round_trips() {
        for &kind in DeclineKind::ALL {
            let decline = (RoundNumber::new(1), Decline::new(kind, "because"));
            let message = v1::DeclineRequest::from(decline.clone());
            assert_eq!(
                <(RoundNumber, Decline)>::try_from(message).unwrap(),
                decline
            );
        }
        for kind in [0, 99] {
            let message = v1::DeclineRequest {
                round: 1,
                kind,
                detail: String::new(),
            };
            assert_eq!(
                <(RoundNumber, Decline)>::try_from(message)
                    .unwrap_err()
                    .field,
                "kind"
            );
        }
    }

    #[test]
    fn progress_is_a_share() {
        for progress in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let message = v1::ReportProgressRequest {
                round: 1,
                progress,
                loss: None,
            };
            assert_eq!(
                ProgressReport::try_from(message).unwrap_err().field,
                "progress"
            );
        }
        let report = ProgressReport {
            round: RoundNumber::new(1),
            progress: 0.5,
            loss: Some(0.3),
        };
        assert_eq!(
            ProgressReport::try_from(v1::ReportProgressRequest::from(report)).unwrap(),
            report
        );
    }

    #[test]
    fn an_instance_has_16_bytes() {
        let request = |bytes: &'static [u8]| v1::AttendRequest {
            instance: Bytes::from_static(bytes),
        };
        assert_eq!(instance(&request(&[7; 16])).unwrap(), [7; 16]);
        assert_eq!(instance(&request(&[7; 15])).unwrap_err().field, "instance");
    }
}
