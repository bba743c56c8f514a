//! Whoever asked for a rollback hears what became of it, and whoever is invited to its base is shown what the authority signed.
//!
//! Invariant: each wish gets one answer, while the process lives.

use fedmerge_common::update::ModelRef;
use tokio_util::sync::CancellationToken;

use super::{Driver, Halt, LEDGER_PAUSE};

impl Driver {
    /// Answers whoever asked last: those before have been heard.
    pub(super) fn refuse_rollback(&mut self, detail: String) {
        if let Some(outcome) = self.rollbacks.pop_back() {
            let _gone = outcome.send(Err(detail));
        }
    }

    /// Answers everyone else who asked.
    pub(super) fn answer_rollback(&mut self, outcome: &Result<ModelRef, String>) {
        match outcome {
            Ok(model) => {
                if let Some(rollback) = self.seats.rollback(model.version) {
                    self.console.rolled_back(model, rollback);
                }
            }
            Err(detail) => tracing::error!(detail, "the rollback failed"),
        }
        for waiting in self.rollbacks.drain(..) {
            let _gone = waiting.send(outcome.clone());
        }
    }

    /// Reads what the authority signed: clients that are invited to the new base are shown it.
    pub(super) async fn learn_rollbacks(&mut self, stop: &CancellationToken) -> Result<(), Halt> {
        let rollbacks = loop {
            match self.ledger.rollbacks().await {
                Ok(rollbacks) => break rollbacks,
                Err(error) if error.passes() => {
                    tracing::warn!(%error, "ledger not read, trying again");
                }
                Err(error) => return Err(Halt::Ledger(error)),
            }
            tokio::select! {
                () = stop.cancelled() => return Err(Halt::Stopped),
                () = tokio::time::sleep(LEDGER_PAUSE) => {}
            }
        };
        self.seats.learn(rollbacks);
        Ok(())
    }
}
