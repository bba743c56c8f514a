//! How the rest of the server speaks with the driver: events in, answers out, over one bounded channel.
//!
//! An answer means that what it says is durable. When the driver is gone the server is about to stop, and says so.

use std::sync::Arc;

use fedmerge_common::ids::{ClientId, ModelVersion, RoundNumber};
use fedmerge_common::reason::Rejection;
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::{Event, UpdateRef, View};
use fedmerge_proto::convert::transfer::UpdateOutcome;
use fedmerge_proto::limits::INSTANCE_BYTES;
use fedmerge_proto::status::{Refusal, RefusalReason};
use fedmerge_proto::v1;
use tokio::sync::{mpsc, oneshot, watch};

/// Inputs that wait for the driver; whoever brings another waits.
pub(super) const INPUTS_AHEAD: usize = 1024;

/// What reaches the driver.
#[derive(Debug)]
pub(super) enum Input {
    /// Something happened.
    Happened {
        event: Event,
        /// Answered when it is durable.
        durable: oneshot::Sender<()>,
    },
    /// A client shows that it works.
    Progress {
        client: ClientId,
        round: RoundNumber,
    },
    /// A client wants its place.
    Attend {
        client: ClientId,
        instance: [u8; INSTANCE_BYTES],
        seat: oneshot::Sender<Result<Seat, Refusal>>,
    },
    /// A client's stream ended.
    Left { client: ClientId, session: u64 },
    /// Intake has judged an update.
    Decide {
        client: ClientId,
        round: RoundNumber,
        verdict: Result<UpdateRef, Rejection>,
        outcome: oneshot::Sender<UpdateOutcome>,
    },
    /// A person wants an older model back.
    RollBack {
        wish: RollbackWish,
        outcome: oneshot::Sender<Result<ModelRef, String>>,
    },
}

impl Input {
    /// What happened inside the server: nobody waits for it to be durable.
    pub(super) fn unheard(event: Event) -> Self {
        let (durable, _nobody) = oneshot::channel();
        Self::Happened { event, durable }
    }
}

/// A person's wish for an older model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackWish {
    /// The older model.
    pub to: ModelRef,
    /// Why, one line.
    pub reason: String,
    /// A version that clients know: the new one is higher than it, and than the base's.
    pub above: ModelVersion,
}

impl From<RollbackWish> for Event {
    fn from(wish: RollbackWish) -> Self {
        let RollbackWish { to, reason, above } = wish;
        Self::RollbackAsked { to, reason, above }
    }
}

/// A client's place in the federation.
#[derive(Debug)]
pub struct Seat {
    /// What is expected of it, always the newest.
    pub notices: watch::Receiver<v1::Notice>,
    /// Tells this stay from the client's others.
    pub session: u64,
}

/// The running federation, as the rpcs see it.
#[derive(Debug, Clone)]
pub struct Federation {
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) view: watch::Receiver<Arc<View>>,
}

fn stopping<T>(_gone: T) -> Refusal {
    Refusal::new(
        RefusalReason::ShuttingDown,
        "the server is about to stop: try again in a moment",
    )
}

impl Federation {
    /// Reports what happened and waits until it is durable.
    ///
    /// # Errors
    /// When the server is about to stop.
    pub async fn report(&self, event: Event) -> Result<(), Refusal> {
        let (durable, is_durable) = oneshot::channel();
        self.send(Input::Happened { event, durable }).await?;
        is_durable.await.map_err(stopping)
    }

    /// Says that a client still works. Nothing is lost when it is not heard: the next one will be.
    pub fn note_progress(&self, client: &ClientId, round: RoundNumber) {
        let client = client.clone();
        let _unheard = self.inputs.try_send(Input::Progress { client, round });
    }

    /// Takes a client's place.
    ///
    /// # Errors
    /// When another process holds it, or the server is about to stop.
    pub async fn attend(
        &self,
        client: ClientId,
        instance: [u8; INSTANCE_BYTES],
    ) -> Result<Seat, Refusal> {
        let (seat, has_seat) = oneshot::channel();
        let input = Input::Attend {
            client,
            instance,
            seat,
        };
        self.send(input).await?;
        has_seat.await.map_err(stopping)?
    }

    /// Gives a place back.
    pub async fn leave(&self, client: ClientId, session: u64) {
        // A server that is about to stop sees everyone leave.
        let _gone = self.send(Input::Left { client, session }).await;
    }

    /// Has an update decided that intake has judged.
    ///
    /// # Errors
    /// When the server is about to stop.
    pub async fn decide(
        &self,
        client: ClientId,
        round: RoundNumber,
        verdict: Result<UpdateRef, Rejection>,
    ) -> Result<UpdateOutcome, Refusal> {
        let (outcome, has_outcome) = oneshot::channel();
        let input = Input::Decide {
            client,
            round,
            verdict,
            outcome,
        };
        self.send(input).await?;
        has_outcome.await.map_err(stopping)
    }

    /// Makes an older model the base again; the new base, once that is a durable fact, or why there is none.
    ///
    /// # Errors
    /// When the server is about to stop: then it goes on with the rollback when it starts again.
    pub async fn roll_back(&self, wish: RollbackWish) -> Result<Result<ModelRef, String>, Refusal> {
        let (outcome, has_outcome) = oneshot::channel();
        self.send(Input::RollBack { wish, outcome }).await?;
        has_outcome.await.map_err(stopping)
    }

    /// How things stand now.
    #[must_use]
    pub fn now(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// How things stand, now and after every change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    async fn send(&self, input: Input) -> Result<(), Refusal> {
        self.inputs.send(input).await.map_err(stopping)
    }
}
