//! What the server expects of this client, read from the wire into types that cannot be wrong.
//!
//! A notice that cannot be read is an error that names the field; encodings this client does not know are skipped,
//! because a plan may prefer newer ones.

use fedmerge_common::endorsement::Endorsement;
use fedmerge_common::ids::{ClientId, RoundNumber};
use fedmerge_common::rollback::Rollback;
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::task_vector::encoding::{Density, Sparsity};
use fedmerge_common::task_vector::private::LocalNoise;
use fedmerge_common::units::{ByteSize, Timestamp};
use fedmerge_common::update::ModelRef;
use fedmerge_proto::convert::evaluation::EvaluationRequest;
use fedmerge_proto::convert::round::{density, round_number};
use fedmerge_proto::convert::{InvalidMessage, nested};
use fedmerge_proto::v1;

use crate::lineage::StepBack;

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
    /// Share of the values that sparse encodings keep.
    pub density: Density,
    /// Largest payload the server accepts.
    pub max_update_bytes: ByteSize,
    /// That the base is an older model again, where the federation's authority says so.
    pub step_back: Option<StepBack>,
    /// Noise to be added to the update before it leaves.
    pub noise: Option<LocalNoise>,
    /// Why it is not believed that the base is the federation's now; then nothing is trained.
    pub doubt: Option<String>,
}

/// What an invitation says that the federation's authority has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// That the base is an older model again.
    pub rollback: Option<Rollback>,
    /// That it is the federation's base now.
    pub endorsement: Option<Endorsement>,
}

/// What a client believes of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Belief {
    /// That the base is an older model again.
    pub step_back: Option<StepBack>,
    /// Why it is not the federation's base now.
    pub doubt: Option<String>,
}

impl Task {
    /// Which values `client`'s update keeps, where the encoding keeps only some.
    #[must_use]
    pub fn sparsity(&self, client: &ClientId) -> Sparsity {
        Sparsity::of_update(self.density, &self.base.digest, self.round, client)
    }
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

impl Task {
    /// Reads an invitation; `believe` says what is believed of what it claims of its base.
    ///
    /// # Errors
    /// When a field is missing or wrong.
    fn read(
        message: v1::Invitation,
        believe: impl FnOnce(Claims, &ModelRef) -> Belief,
    ) -> Result<Self, InvalidMessage> {
        let encodings = message
            .encodings
            .iter()
            .filter_map(|&number| v1::Encoding::try_from(number).ok())
            .filter_map(|encoding| Encoding::try_from(encoding).ok())
            .collect();
        let base = nested("base", message.base)?;
        let claims = Claims {
            rollback: message.rollback.map(Rollback::try_from).transpose()?,
            endorsement: message.endorsement.map(Endorsement::try_from).transpose()?,
        };
        let Belief { step_back, doubt } = believe(claims, &base);
        Ok(Self {
            round: round_number("round", message.round)?,
            base,
            deadline: Timestamp::new(message.deadline_ms),
            encodings,
            density: density("density_ppm", message.density_ppm)?,
            max_update_bytes: ByteSize::new(message.max_update_bytes),
            step_back,
            doubt,
            noise: message.noise.map(LocalNoise::try_from).transpose()?,
        })
    }
}

impl Notice {
    /// Reads a notice; `believe` says what is believed of what it claims of a base.
    ///
    /// # Errors
    /// When a field is missing or wrong.
    pub fn read(
        message: v1::Notice,
        believe: impl FnOnce(Claims, &ModelRef) -> Belief,
    ) -> Result<Self, InvalidMessage> {
        match message.state {
            Some(v1::notice::State::Standby(standby)) => Ok(Self::Standby {
                waiting_for: standby.waiting_for,
                last_round: standby.last_round,
            }),
            Some(v1::notice::State::Invitation(invitation)) => {
                Ok(Self::Invited(Task::read(invitation, believe)?))
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
