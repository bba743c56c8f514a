//! What the server expects of this client, read from the wire into types that cannot be wrong.
//!
//! A notice that cannot be read is an error that names the field; encodings this client does not know are skipped,
//! because a plan may prefer newer ones.

use fedmerge_common::ids::RoundNumber;
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::units::{ByteSize, Timestamp};
use fedmerge_common::update::ModelRef;
use fedmerge_proto::convert::evaluation::EvaluationRequest;
use fedmerge_proto::convert::round::round_number;
use fedmerge_proto::convert::{InvalidMessage, nested};
use fedmerge_proto::v1;

/// One round's work for this client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The round.
    pub round: RoundNumber,
    /// The base to start from.
    pub base: ModelRef,
    /// When uploads close, on the server's clock.
    pub deadline: Timestamp,
    /// Encodings the plan allows and this client knows, the plan's preferred first.
    pub encodings: Vec<Encoding>,
    /// Largest payload the server accepts.
    pub max_update_bytes: ByteSize,
}

/// What is expected of this client from now on; each notice replaces the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Nothing to do yet.
    Standby {
        /// What the federation waits for, one line.
        waiting_for: String,
        /// Outcome of the round before, one line; empty before the first.
        last_round: String,
    },
    /// Train and submit.
    Invited(Task),
    /// Compare a candidate with its base.
    Evaluate(EvaluationRequest),
    /// The federation is over.
    Ended {
        /// Why, one line.
        reason: String,
        /// The last model, where there is one.
        last: Option<ModelRef>,
    },
}

impl TryFrom<v1::Invitation> for Task {
    type Error = InvalidMessage;

    fn try_from(message: v1::Invitation) -> Result<Self, InvalidMessage> {
        let encodings = message
            .encodings
            .iter()
            .filter_map(|&number| v1::Encoding::try_from(number).ok())
            .filter_map(|encoding| Encoding::try_from(encoding).ok())
            .collect();
        Ok(Self {
            round: round_number("round", message.round)?,
            base: nested("base", message.base)?,
            deadline: Timestamp::new(message.deadline_ms),
            encodings,
            max_update_bytes: ByteSize::new(message.max_update_bytes),
        })
    }
}

impl TryFrom<v1::Notice> for Notice {
    type Error = InvalidMessage;

    fn try_from(message: v1::Notice) -> Result<Self, InvalidMessage> {
        match message.state {
            Some(v1::notice::State::Standby(standby)) => Ok(Self::Standby {
                waiting_for: standby.waiting_for,
                last_round: standby.last_round,
            }),
            Some(v1::notice::State::Invitation(invitation)) => {
                Ok(Self::Invited(invitation.try_into()?))
            }
            Some(v1::notice::State::Evaluation(evaluation)) => {
                Ok(Self::Evaluate(evaluation.try_into()?))
            }
            Some(v1::notice::State::Ended(ended)) => Ok(Self::Ended {
                reason: ended.reason,
                last: ended.last.map(ModelRef::try_from).transpose()?,
            }),
            None => Err(InvalidMessage::new("notice.state", "is missing")),
        }
    }
}
