//! Tells the user what happens, calmly: in text, a wait that is over within a moment is not worth a line.
//!
//! Programs (JSON) are told everything at once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fedmerge_common::output::Output;
use tokio::time::Instant;

use crate::milestone::Milestone;

/// A wait that lasts shorter is not told.
const MOMENT: Duration = Duration::from_secs(1);

/// Hears what a user is told, in the driver's own task: it must not wait.
#[derive(Clone)]
pub struct Listener(Arc<dyn Fn(&Milestone) + Send + Sync>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

impl Listener {
    /// One that calls `hear`.
    #[must_use]
    pub fn new(hear: impl Fn(&Milestone) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }

    /// One that hears nothing.
    #[must_use]
    pub fn nobody() -> Self {
        Self::new(|_| {})
    }

    fn hear(&self, milestone: &Milestone) {
        (self.0)(milestone);
    }
}

/// What is told, and what is not yet.
#[derive(Debug)]
pub(super) struct Teller {
    output: Output,
    listener: Listener,
    held: Option<(Instant, Milestone)>,
}

impl Teller {
    pub(super) fn new(output: Output, listener: Listener) -> Self {
        Self {
            output,
            listener,
            held: None,
        }
    }

    /// Tells a milestone; a wait only when nothing else happens for a moment.
    pub(super) fn tell(&mut self, milestone: &Milestone) {
        self.output.json(milestone);
        self.held = None;
        if !matches!(milestone, Milestone::Waiting { .. }) {
            self.listener.hear(milestone);
        }
        match milestone {
            Milestone::Waiting { .. } => {
                self.held = Some((Instant::now() + MOMENT, milestone.clone()));
            }
            Milestone::ExamplesUnknown | Milestone::ResidualDropped { .. } => {
                self.output.note(milestone);
            }
            Milestone::LastRound { .. }
            | Milestone::Resumed { .. }
            | Milestone::Forgotten { .. }
            | Milestone::Base { .. }
            | Milestone::Trained { .. }
            | Milestone::Accepted { .. }
            | Milestone::Rejected { .. }
            | Milestone::Declined { .. }
            | Milestone::Withdrawn { .. }
            | Milestone::Evaluated { .. }
            | Milestone::EvaluationDeclined { .. }
            | Milestone::EvaluationOver { .. }
            | Milestone::RolledBack { .. }
            | Milestone::Ended { .. } => self.output.line(milestone),
        }
    }

    /// When [`Teller::release`] is due; none when nothing is held.
    pub(super) fn due(&self) -> Option<Instant> {
        self.held.as_ref().map(|(due, _)| *due)
    }

    /// Tells the wait that has lasted.
    pub(super) fn release(&mut self) {
        if let Some((_, milestone)) = self.held.take() {
            self.listener.hear(&milestone);
            self.output.line(&milestone);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use fedmerge_common::ids::RoundNumber;

    use super::*;

    #[test]
    fn a_wait_is_held_until_it_has_lasted_or_something_else_happens() {
        let quiet = Output {
            quiet: true,
            ..Output::default()
        };
        let heard = Arc::new(AtomicUsize::new(0));
        let listener = {
            let heard = Arc::clone(&heard);
            Listener::new(move |_| {
                heard.fetch_add(1, Ordering::Relaxed);
            })
        };
        let mut teller = Teller::new(quiet, listener);
        let waiting_for = "1 of 2 clients".to_owned();
        teller.tell(&Milestone::Waiting { waiting_for });
        assert!(teller.due().is_some_and(|due| due > Instant::now()));
        let round = RoundNumber::new(1);
        teller.tell(&Milestone::Accepted { round });
        assert_eq!(teller.due(), None);
        let waiting_for = "the merge".to_owned();
        teller.tell(&Milestone::Waiting { waiting_for });
        teller.release();
        assert_eq!(teller.due(), None);
        let told = heard.load(Ordering::Relaxed);
        assert_eq!(told, 2, "what is accepted, and the wait that lasted");
    }
}
