//! Tells the user what happens, calmly: in text, a wait that is over within a moment is not worth a line.
//!
//! Programs (JSON) are told everything at once.

use std::time::Duration;

use fedmerge_common::output::Output;
use tokio::time::Instant;

use crate::milestone::Milestone;

/// A wait that lasts shorter is not told.
const MOMENT: Duration = Duration::from_secs(1);

/// What is told, and what is not yet.
#[derive(Debug)]
pub(super) struct Teller {
    output: Output,
    held: Option<(Instant, Milestone)>,
}

impl Teller {
    pub(super) fn new(output: Output) -> Self {
        Self { output, held: None }
    }

    /// Tells a milestone; a wait only when nothing else happens for a moment.
    pub(super) fn tell(&mut self, milestone: &Milestone) {
        self.output.json(milestone);
        self.held = None;
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
            self.output.line(&milestone);
        }
    }
}

#[cfg(test)]
mod tests {
    use fedmerge_common::ids::RoundNumber;

    use super::*;

    #[test]
    fn a_wait_is_held_until_it_has_lasted_or_something_else_happens() {
        let mut teller = Teller::new(Output {
            quiet: true,
            ..Output::default()
        });
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
    }
}
