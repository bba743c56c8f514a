//! `round.proto`: an invitation, and what the federation's authority has signed of its base.

use fedmerge_common::endorsement::Endorsement;
use fedmerge_common::ids::{ModelVersion, RoundNumber};
use fedmerge_common::reason::one_line;
use fedmerge_common::rollback::Rollback;
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::task_vector::encoding::Density;
use fedmerge_common::task_vector::private::LocalNoise;
use fedmerge_common::units::{ByteSize, Timestamp};
use fedmerge_common::update::ModelRef;

use crate::convert::round::{density, encoding, round_number};
use crate::convert::{InvalidMessage, nested};
use crate::limits::{MAX_CERTIFICATE_BYTES, MAX_SIGNATURE_BYTES};
use crate::v1;

impl TryFrom<v1::Rollback> for Rollback {
    type Error = InvalidMessage;

    fn try_from(message: v1::Rollback) -> Result<Self, Self::Error> {
        check_length(
            "rollback.signature",
            &message.signature,
            MAX_SIGNATURE_BYTES,
        )?;
        Ok(Self {
            of: ModelVersion::new(message.of),
            reason: one_line(&message.reason),
            signature: message.signature.into(),
        })
    }
}

impl From<Rollback> for v1::Rollback {
    fn from(rollback: Rollback) -> Self {
        Self {
            of: rollback.of.get(),
            reason: rollback.reason,
            signature: rollback.signature.into(),
        }
    }
}

fn check_length(field: &str, bytes: &[u8], limit: usize) -> Result<(), InvalidMessage> {
    let length = bytes.len();
    if length <= limit {
        return Ok(());
    }
    let problem = format!("has {length} bytes, the limit is {limit}");
    Err(InvalidMessage::new(field, problem))
}

impl TryFrom<v1::Endorsement> for Endorsement {
    type Error = InvalidMessage;

    fn try_from(message: v1::Endorsement) -> Result<Self, Self::Error> {
        let v1::Endorsement {
            at_ms,
            signature,
            successor,
        } = message;
        check_length("endorsement.signature", &signature, MAX_SIGNATURE_BYTES)?;
        check_length("endorsement.successor", &successor, MAX_CERTIFICATE_BYTES)?;
        Ok(Self {
            at: Timestamp::new(at_ms),
            signature: signature.into(),
            successor: Some(successor.into()).filter(|successor: &Vec<u8>| !successor.is_empty()),
        })
    }
}

impl From<Endorsement> for v1::Endorsement {
    fn from(endorsement: Endorsement) -> Self {
        Self {
            at_ms: endorsement.at.get(),
            signature: endorsement.signature.into(),
            successor: endorsement.successor.unwrap_or_default().into(),
        }
    }
}

/// A client's task in one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The round.
    pub round: RoundNumber,
    /// The base to start from.
    pub base: ModelRef,
    /// When uploads close, on the server's clock.
    pub deadline: Timestamp,
    /// Encodings the plan allows, preferred first; never empty.
    pub encodings: Vec<Encoding>,
    /// Share of the values that sparse encodings keep.
    pub density: Density,
    /// Largest payload that is accepted.
    pub max_update: ByteSize,
    /// That the base is an older model again, where it is one.
    pub rollback: Option<Rollback>,
    /// Noise that the client adds to its update.
    pub noise: Option<LocalNoise>,
    /// That the base is the federation's now; put in when the invitation is sent.
    pub endorsement: Option<Endorsement>,
}

impl TryFrom<v1::Invitation> for Invitation {
    type Error = InvalidMessage;

    fn try_from(message: v1::Invitation) -> Result<Self, Self::Error> {
        let encodings: Vec<_> = message
            .encodings
            .iter()
            .map(|&number| encoding("encodings", number))
            .collect::<Result<_, _>>()?;
        if encodings.is_empty() {
            return Err(InvalidMessage::new("encodings", "is empty"));
        }
        Ok(Self {
            round: round_number("round", message.round)?,
            base: nested("base", message.base)?,
            deadline: Timestamp::new(message.deadline_ms),
            encodings,
            density: density("density_ppm", message.density_ppm)?,
            max_update: ByteSize::new(message.max_update_bytes),
            rollback: message.rollback.map(Rollback::try_from).transpose()?,
            noise: message.noise.map(LocalNoise::try_from).transpose()?,
            endorsement: message.endorsement.map(Endorsement::try_from).transpose()?,
        })
    }
}

impl From<Invitation> for v1::Invitation {
    fn from(invitation: Invitation) -> Self {
        let encodings = invitation.encodings.into_iter();
        Self {
            round: invitation.round.get(),
            base: Some(invitation.base.into()),
            deadline_ms: invitation.deadline.get(),
            encodings: encodings
                .map(|encoding| v1::Encoding::from(encoding).into())
                .collect(),
            max_update_bytes: invitation.max_update.get(),
            density_ppm: invitation.density.ppm(),
            rollback: invitation.rollback.map(v1::Rollback::from),
            noise: invitation.noise.map(v1::ClientNoise::from),
            endorsement: invitation.endorsement.map(v1::Endorsement::from),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use bytes::Bytes;
    use fedmerge_common::digest::Digest;

    use super::*;
    use crate::convert::Spoiler;

    fn model() -> ModelRef {
        ModelRef {
            version: ModelVersion::new(3),
            digest: Digest::of(b"m"),
            size_bytes: 9,
        }
    }

    fn invitation() -> Invitation {
        Invitation {
            round: RoundNumber::new(2),
            base: model(),
            deadline: Timestamp::new(77),
            encodings: Encoding::ALL.to_vec(),
            density: Density::WHOLE,
            max_update: ByteSize::new(1024),
            rollback: Some(Rollback {
                of: ModelVersion::new(1),
                reason: "as it was".into(),
                signature: vec![1, 2, 3],
            }),
            noise: Some(LocalNoise::new(1.5, 4.0).unwrap()),
            endorsement: Some(Endorsement {
                at: Timestamp::new(76),
                signature: vec![4, 5, 6],
                successor: Some(vec![7]),
            }),
        }
    }

    #[test]
    fn an_invitation_round_trips() {
        let message = v1::Invitation::from(invitation());
        assert_eq!(Invitation::try_from(message).unwrap(), invitation());
    }

    #[test]
    fn every_wrong_field_of_an_invitation_is_named() {
        let cases: [Spoiler<v1::Invitation>; 11] = [
            ("endorsement.signature", |message| {
                let signature = &mut message.endorsement.as_mut().unwrap().signature;
                *signature = vec![0; MAX_SIGNATURE_BYTES + 1].into();
            }),
            ("endorsement.successor", |message| {
                let successor = &mut message.endorsement.as_mut().unwrap().successor;
                *successor = vec![0; MAX_CERTIFICATE_BYTES + 1].into();
            }),
            ("noise", |message| {
                message.noise.as_mut().unwrap().clip = f64::NAN;
            }),
            ("rollback.signature", |message| {
                let signature = &mut message.rollback.as_mut().unwrap().signature;
                *signature = vec![0; MAX_SIGNATURE_BYTES + 1].into();
            }),
            ("round", |message| message.round = 0),
            ("base", |message| message.base = None),
            ("base.digest", |message| {
                message.base.as_mut().unwrap().digest = None;
            }),
            ("encodings", |message| message.encodings.clear()),
            ("encodings", |message| message.encodings.push(99)),
            ("density_ppm", |message| message.density_ppm = 1_000_001),
            ("base.digest.value", |message| {
                message
                    .base
                    .as_mut()
                    .unwrap()
                    .digest
                    .as_mut()
                    .unwrap()
                    .value = Bytes::from_static(b"short");
            }),
        ];
        for (field, spoil) in cases {
            let mut message = v1::Invitation::from(invitation());
            spoil(&mut message);
            assert_eq!(Invitation::try_from(message).unwrap_err().field, field);
        }
    }
}
