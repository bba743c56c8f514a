//! The last step of the straight line: an announced base becomes this client's next task.
//!
//! Decides everything a client decides: an event in, effects out. Pure: no clock, no files, no network, no tokio, so a
//! thousand of them run in one thread. At most one task is in hand; what late work reports about another round is
//! ignored, so every effect may be lost, repeated or answered late.

use fedmerge_common::ids::RoundNumber;
use fedmerge_common::reason::{Decline, DeclineKind, Rejection};
use fedmerge_common::update::UpdateHeader;

use crate::milestone::Milestone;
use crate::task::{Notice, Task};
use crate::trainer::Trained;

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The server said what it expects.
    NoticeReceived(Notice),
    /// The stream of notices broke off; it will come back by itself.
    LinkLost,
    /// The base of a round is in the cache, verified.
    BaseDownloaded {
        /// The round.
        round: RoundNumber,
    },
    /// The trainer ended well.
    TrainingFinished {
        /// The round.
        round: RoundNumber,
        /// What it said.
        trained: Trained,
    },
    /// The update is on disk, ready to leave.
    UpdatePrepared {
        /// Its description.
        header: UpdateHeader,
    },
    /// Every byte of the update is durable on the server.
    UpdateSent {
        /// The round.
        round: RoundNumber,
    },
    /// The server decided about the update.
    UpdateAnswered {
        /// The round.
        round: RoundNumber,
        /// Its decision.
        answer: Answer,
    },
    /// A step of the task failed for good.
    TaskFailed {
        /// The round.
        round: RoundNumber,
        /// Why, as the server will hear it.
        decline: Decline,
    },
    /// A person asked the client to stop.
    StopAsked,
}

/// The server's decision about an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It counts.
    Accepted,
    /// It does not count.
    Rejected(Rejection),
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Get the task's base into the cache.
    Download(Task),
    /// Run the trainer on the base.
    Train(Task),
    /// Turn the fine-tuned checkpoint into an update on disk.
    Prepare(Task, Trained),
    /// Send the update and have it decided.
    Upload(UpdateHeader),
    /// Stop whatever is being done for the task in hand.
    Abort,
    /// Give the invitation back.
    Decline {
        /// The round.
        round: RoundNumber,
        /// Why.
        decline: Decline,
    },
    /// Tell the user.
    Tell(Milestone),
    /// End the program, well.
    Leave,
}

/// When a client leaves by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// After its first task, however it ends.
    OneRound,
    /// When the federation ends.
    WhileItLasts,
    /// Never.
    Always,
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Idle,
    Downloading(Task),
    Training(Task),
    Preparing(Task),
    Sending(Task),
    /// The server decides; a notice that comes meanwhile waits, so that the decision is not missed.
    Committing {
        task: Task,
        next: Option<Notice>,
    },
    Left,
}

/// The decisions of one client.
#[derive(Clone, Debug)]
pub struct Agent {
    stay: Stay,
    phase: Phase,
    /// The last round this client finished with: an invitation to it is an echo.
    finished: Option<RoundNumber>,
    told_waiting: String,
    told_last_round: String,
    told_examples_unknown: Told,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    No,
    Yes,
}

impl Agent {
    /// An agent that knows nothing yet.
    #[must_use]
    pub fn new(stay: Stay) -> Self {
        Self {
            stay,
            phase: Phase::Idle,
            finished: None,
            told_waiting: String::new(),
            told_last_round: String::new(),
            told_examples_unknown: Told::No,
        }
    }

    /// The task in hand, if any.
    #[must_use]
    pub fn task(&self) -> Option<&Task> {
        match &self.phase {
            Phase::Idle | Phase::Left => None,
            Phase::Downloading(task)
            | Phase::Training(task)
            | Phase::Preparing(task)
            | Phase::Sending(task)
            | Phase::Committing { task, .. } => Some(task),
        }
    }

    /// Takes one event and says what to do, in order.
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::NoticeReceived(notice) => self.notice(notice, &mut effects),
            Event::LinkLost => self.link_lost(&mut effects),
            Event::TaskFailed { round, decline } => self.failed(round, decline, &mut effects),
            Event::StopAsked => self.stop(&mut effects),
            Event::UpdateAnswered { round, answer } => self.answered(round, answer, &mut effects),
            Event::BaseDownloaded { .. }
            | Event::TrainingFinished { .. }
            | Event::UpdatePrepared { .. }
            | Event::UpdateSent { .. } => self.advance(event, &mut effects),
        }
        effects
    }

    /// The task goes on by one step; a report that does not fit the step in hand is late and changes nothing.
    fn advance(&mut self, event: Event, effects: &mut Vec<Effect>) {
        self.phase = match (std::mem::replace(&mut self.phase, Phase::Idle), event) {
            (Phase::Downloading(task), Event::BaseDownloaded { round }) if task.round == round => {
                let base = task.base;
                effects.push(Effect::Tell(Milestone::Base { round, base }));
                effects.push(Effect::Train(task.clone()));
                Phase::Training(task)
            }
            (Phase::Training(task), Event::TrainingFinished { round, trained })
                if task.round == round =>
            {
                self.tell_trained(round, &trained, effects);
                effects.push(Effect::Prepare(task.clone(), trained));
                Phase::Preparing(task)
            }
            (Phase::Preparing(task), Event::UpdatePrepared { header })
                if task.round == header.round =>
            {
                effects.push(Effect::Upload(header));
                Phase::Sending(task)
            }
            (Phase::Sending(task), Event::UpdateSent { round }) if task.round == round => {
                Phase::Committing { task, next: None }
            }
            (phase, _late) => phase,
        };
    }

    fn tell_trained(&mut self, round: RoundNumber, trained: &Trained, effects: &mut Vec<Effect>) {
        if trained.num_examples.is_none() && self.told_examples_unknown == Told::No {
            self.told_examples_unknown = Told::Yes;
            effects.push(Effect::Tell(Milestone::ExamplesUnknown));
        }
        effects.push(Effect::Tell(Milestone::Trained {
            round,
            num_examples: trained.num_examples.unwrap_or(1),
            loss: trained.metrics.get("loss").copied(),
            elapsed_ms: trained.elapsed.get(),
        }));
    }

    fn notice(&mut self, notice: Notice, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Left {
            return;
        }
        if let (Some(task), Notice::Invited(invited)) = (self.task(), &notice)
            && task.round == invited.round
            && task.base == invited.base
        {
            return;
        }
        if let Phase::Committing { next, .. } = &mut self.phase {
            *next = Some(notice);
            return;
        }
        if let Some(round) = self.task().map(|task| task.round) {
            effects.push(Effect::Abort);
            effects.push(Effect::Tell(Milestone::Withdrawn { round }));
            self.finish(round, effects);
        }
        if self.phase == Phase::Idle {
            self.begin(notice, effects);
        }
    }

    fn begin(&mut self, notice: Notice, effects: &mut Vec<Effect>) {
        match notice {
            Notice::Standby {
                waiting_for,
                last_round,
            } => {
                if !last_round.is_empty() && last_round != self.told_last_round {
                    self.told_last_round.clone_from(&last_round);
                    effects.push(Effect::Tell(Milestone::LastRound {
                        outcome: last_round,
                    }));
                }
                if !waiting_for.is_empty() && waiting_for != self.told_waiting {
                    self.told_waiting.clone_from(&waiting_for);
                    effects.push(Effect::Tell(Milestone::Waiting { waiting_for }));
                }
            }
            Notice::Invited(task) => {
                if self.finished != Some(task.round) {
                    self.told_waiting.clear();
                    effects.push(Effect::Download(task.clone()));
                    self.phase = Phase::Downloading(task);
                }
            }
            Notice::Ended { reason, last } => {
                effects.push(Effect::Tell(Milestone::Ended { reason, last }));
                if self.stay != Stay::Always {
                    self.leave(effects);
                }
            }
        }
    }

    /// The server may end right after it said so: then the decision about the last update never comes.
    fn link_lost(&mut self, effects: &mut Vec<Effect>) {
        if let Phase::Committing { next, .. } = &mut self.phase
            && matches!(next, Some(Notice::Ended { .. }))
            && let Some(ended) = next.take()
        {
            effects.push(Effect::Abort);
            self.phase = Phase::Idle;
            self.begin(ended, effects);
        }
    }

    fn answered(&mut self, round: RoundNumber, answer: Answer, effects: &mut Vec<Effect>) {
        if !matches!(&self.phase, Phase::Sending(task) | Phase::Committing { task, .. } if task.round == round)
        {
            return;
        }
        effects.push(Effect::Tell(match answer {
            Answer::Accepted => Milestone::Accepted { round },
            Answer::Rejected(rejection) => Milestone::Rejected { round, rejection },
        }));
        self.finish(round, effects);
    }

    fn failed(&mut self, round: RoundNumber, decline: Decline, effects: &mut Vec<Effect>) {
        if self.task().is_none_or(|task| task.round != round) {
            return;
        }
        effects.push(Effect::Tell(Milestone::Declined {
            round,
            decline: decline.clone(),
        }));
        effects.push(Effect::Decline { round, decline });
        self.finish(round, effects);
    }

    fn stop(&mut self, effects: &mut Vec<Effect>) {
        if let Some(round) = self.task().map(|task| task.round) {
            let decline = Decline::new(DeclineKind::Interrupted, "a person stopped the client");
            effects.push(Effect::Abort);
            effects.push(Effect::Tell(Milestone::Declined {
                round,
                decline: decline.clone(),
            }));
            effects.push(Effect::Decline { round, decline });
        }
        self.leave(effects);
    }

    fn finish(&mut self, round: RoundNumber, effects: &mut Vec<Effect>) {
        self.finished = Some(round);
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        if self.stay == Stay::OneRound {
            self.leave(effects);
        } else if let Phase::Committing {
            next: Some(next), ..
        } = phase
        {
            self.begin(next, effects);
        }
    }

    fn leave(&mut self, effects: &mut Vec<Effect>) {
        if self.phase != Phase::Left {
            self.phase = Phase::Left;
            effects.push(Effect::Leave);
        }
    }
}

#[cfg(test)]
mod tests;
