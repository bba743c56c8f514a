//! The last step of the straight line: an announced base becomes this client's next task.
//!
//! Decides everything a client decides: an event in, effects out. Pure: no clock, no files, no network, no tokio, so a
//! thousand of them run in one thread. At most one task or evaluation is in hand; what late work reports about another
//! round is ignored, so every effect may be lost, repeated or answered late. What must outlive the process is
//! [`Agent::memory`] and [`Agent::lineage`], durable before the effects of a step are carried out.

mod effect;
mod event;
mod gate;
mod memory;
mod phase;

use fedmerge_common::ids::RoundNumber;
use fedmerge_common::reason::{Decline, DeclineKind, RejectionCode};

use self::gate::Gate;
use self::phase::Phase;
use crate::lineage::{Lineage, StepBack};
use crate::milestone::{Milestone, Step};
use crate::task::{Notice, Task};
use crate::trainer::Trained;

pub use effect::Effect;
pub use event::{Answer, Event};
pub use gate::Evaluator;
pub use memory::Memory;

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

/// The decisions of one client.
#[derive(Clone, Debug)]
pub struct Agent {
    stay: Stay,
    phase: Phase,
    /// What an earlier process had finished, until the server's first notice says whether it is of use.
    remains: Option<Memory>,
    /// The last round this client finished with: an invitation to it is an echo.
    finished: Option<RoundNumber>,
    lineage: Lineage,
    gate: Gate,
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
    /// An agent that knows nothing but what an earlier process had finished.
    #[must_use]
    pub fn new(stay: Stay, evaluator: Evaluator, remains: Option<Memory>) -> Self {
        Self {
            stay,
            phase: Phase::Idle,
            remains,
            finished: None,
            lineage: Lineage::default(),
            gate: Gate::new(evaluator),
            told_waiting: String::new(),
            told_last_round: String::new(),
            told_examples_unknown: Told::No,
        }
    }

    /// The same agent, that was led along these bases before.
    #[must_use]
    pub fn with_lineage(self, lineage: Lineage) -> Self {
        Self { lineage, ..self }
    }

    /// The line of bases so far: to be durable, like [`Agent::memory`], before the effects of a step are carried out.
    #[must_use]
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// What is finished of a task that goes on, and would be lost with the process.
    #[must_use]
    pub fn memory(&self) -> Option<Memory> {
        self.remains.clone().or_else(|| self.phase.memory())
    }

    /// Takes one event and says what to do, in order.
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::NoticeReceived(notice) => self.notice(notice, &mut effects),
            Event::LinkLost => self.link_lost(&mut effects),
            Event::TaskFailed { round, decline } => self.failed(round, decline, &mut effects),
            Event::ModelMeasured {
                round,
                digest,
                measurement,
            } => self.measured(round, digest, measurement, &mut effects),
            Event::EvaluationFailed { round, decline } => {
                self.evaluation_failed(round, decline, &mut effects);
            }
            Event::StopAsked => self.stop(&mut effects),
            Event::UpdateAnswered { round, answer } => self.answered(round, answer, &mut effects),
            Event::BaseDownloaded { .. }
            | Event::TrainingFinished { .. }
            | Event::UpdatePrepared(_)
            | Event::UpdateSent { .. } => self.advance(event, &mut effects),
        }
        effects
    }

    /// The task goes on by one step; a report that does not fit the step in hand is late and changes nothing.
    fn advance(&mut self, event: Event, effects: &mut Vec<Effect>) {
        self.phase = match (std::mem::replace(&mut self.phase, Phase::Idle), event) {
            (Phase::Downloading { task, trained }, Event::BaseDownloaded { round })
                if task.round == round =>
            {
                let base = task.base;
                effects.push(Effect::Tell(Milestone::Base { round, base }));
                match trained {
                    Some(trained) => prepare(task, trained, effects),
                    None => {
                        effects.push(Effect::Train(task.clone()));
                        Phase::Training(task)
                    }
                }
            }
            (Phase::Training(task), Event::TrainingFinished { round, trained })
                if task.round == round =>
            {
                self.tell_trained(round, &trained, effects);
                prepare(task, trained, effects)
            }
            (Phase::Preparing(task, _), Event::UpdatePrepared(prepared))
                if task.round == prepared.header.round =>
            {
                let header = prepared.header;
                if let Some(reason) = prepared.residual_dropped {
                    let round = task.round;
                    effects.push(Effect::Tell(Milestone::ResidualDropped { round, reason }));
                }
                effects.push(Effect::Upload(header.clone()));
                Phase::Sending(header)
            }
            (Phase::Sending(header), Event::UpdateSent { round }) if header.round == round => {
                Phase::Committing { header, next: None }
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
        if let Some(remains) = self.remains.take() {
            return self.recall(remains, notice, effects);
        }
        if self.phase.is_about(&notice) {
            return;
        }
        match &mut self.phase {
            Phase::Committing { next, .. } => {
                *next = Some(notice);
                return;
            }
            Phase::Asking { next, .. } => {
                *next = notice;
                return;
            }
            Phase::Idle
            | Phase::Downloading { .. }
            | Phase::Training(_)
            | Phase::Preparing(..)
            | Phase::Sending(_)
            | Phase::Evaluating(_)
            | Phase::Left => {}
        }
        if let Phase::Evaluating(request) = &self.phase {
            let round = request.round;
            effects.push(Effect::Abort);
            effects.push(Effect::Tell(Milestone::EvaluationOver { round }));
            self.phase = Phase::Idle;
        }
        if let Some((round, _)) = self.phase.task() {
            effects.push(Effect::Abort);
            effects.push(Effect::Tell(Milestone::Withdrawn { round }));
            self.finish(round, effects);
        }
        if self.phase == Phase::Idle {
            self.begin(notice, effects);
        }
    }

    /// The first notice says what the remains of an earlier process are good for.
    fn recall(&mut self, remains: Memory, notice: Notice, effects: &mut Vec<Effect>) {
        let round = remains.round();
        let invited = match &notice {
            Notice::Invited(task) => Some(task),
            Notice::Standby { .. } | Notice::Evaluate(_) | Notice::Ended { .. } => None,
        };
        match (remains, invited) {
            (remains, Some(task)) if remains.is_of(task) => self.resume(remains, task, effects),
            (Memory::Prepared(_), Some(task)) if task.round == round => {
                tell_forgotten(round, "the round starts from another base now", effects);
                self.begin(notice, effects);
            }
            // It may count already: the answer may be all that was lost.
            (Memory::Prepared(header), _) => {
                effects.push(Effect::Upload(header.clone()));
                self.phase = Phase::Asking {
                    header,
                    next: notice,
                };
            }
            (Memory::Trained { .. }, _) => {
                tell_forgotten(round, "the server waits for it no longer", effects);
                self.begin(notice, effects);
            }
        }
    }

    fn resume(&mut self, remains: Memory, task: &Task, effects: &mut Vec<Effect>) {
        let round = task.round;
        let step = match &remains {
            Memory::Trained { .. } => Step::Training,
            Memory::Prepared(_) => Step::Update,
        };
        effects.push(Effect::Tell(Milestone::Resumed { round, step }));
        self.phase = match remains {
            Memory::Trained { trained, .. } => {
                effects.push(Effect::Download(task.clone()));
                Phase::Downloading {
                    task: task.clone(),
                    trained: Some(trained),
                }
            }
            Memory::Prepared(header) => {
                effects.push(Effect::Upload(header.clone()));
                Phase::Sending(header)
            }
        };
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
                    self.begin_task(task, effects);
                }
            }
            Notice::Evaluate(request) => {
                if !self.gate.has_answered(&request) {
                    self.told_waiting.clear();
                    self.evaluate(request, effects);
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

    /// Begins a task, unless its base is in doubt, or a step backwards that nobody signed.
    fn begin_task(&mut self, task: Task, effects: &mut Vec<Effect>) {
        if let Some(doubt) = &task.doubt {
            let decline = Decline::new(DeclineKind::BaseRefused, doubt.clone());
            return self.decline(task.round, decline, effects);
        }
        let is_new = self.lineage.newest_version() != Some(task.base.version);
        if let Err(backwards) = self.lineage.follow(&task.base, task.step_back.as_ref()) {
            let decline = Decline::new(DeclineKind::BaseRefused, backwards.to_string());
            return self.decline(task.round, decline, effects);
        }
        if let Some(StepBack { of, reason }) = task.step_back.as_ref().filter(|_| is_new) {
            effects.push(Effect::Tell(Milestone::RolledBack {
                base: task.base.version,
                of: *of,
                reason: reason.clone(),
            }));
        }
        effects.push(Effect::Download(task.clone()));
        self.phase = Phase::Downloading {
            task,
            trained: None,
        };
    }

    /// The server may end right after it said so: then the decision about the last update never comes.
    fn link_lost(&mut self, effects: &mut Vec<Effect>) {
        let next = match &self.phase {
            Phase::Committing { next, .. } => next.clone(),
            Phase::Asking { next, .. } => Some(next.clone()),
            Phase::Idle
            | Phase::Downloading { .. }
            | Phase::Training(_)
            | Phase::Preparing(..)
            | Phase::Sending(_)
            | Phase::Evaluating(_)
            | Phase::Left => None,
        };
        if let Some(ended @ Notice::Ended { .. }) = next {
            effects.push(Effect::Abort);
            if let Phase::Asking { header, .. } = &self.phase {
                tell_forgotten(header.round, "the server is gone", effects);
            }
            self.phase = Phase::Idle;
            self.begin(ended, effects);
        }
    }

    fn answered(&mut self, round: RoundNumber, answer: Answer, effects: &mut Vec<Effect>) {
        let is_asking = match &self.phase {
            Phase::Sending(header) | Phase::Committing { header, .. } if header.round == round => {
                false
            }
            Phase::Asking { header, .. } if header.round == round => true,
            Phase::Idle
            | Phase::Downloading { .. }
            | Phase::Training(_)
            | Phase::Preparing(..)
            | Phase::Sending(_)
            | Phase::Committing { .. }
            | Phase::Asking { .. }
            | Phase::Evaluating(_)
            | Phase::Left => return,
        };
        match answer {
            Answer::Accepted => effects.push(Effect::Tell(Milestone::Accepted { round })),
            // A server remembers what became of an update until the next round is over.
            Answer::Rejected(rejection)
                if is_asking && rejection.code == RejectionCode::RoundClosed =>
            {
                tell_forgotten(round, "the round is over", effects);
            }
            Answer::Rejected(rejection) => {
                effects.push(Effect::Tell(Milestone::Rejected { round, rejection }));
            }
        }
        self.finish(round, effects);
    }

    fn failed(&mut self, round: RoundNumber, decline: Decline, effects: &mut Vec<Effect>) {
        if self.phase.task().is_none_or(|(ours, _)| ours != round) {
            return;
        }
        self.decline(round, decline, effects);
    }

    /// Gives a task back for good.
    fn decline(&mut self, round: RoundNumber, decline: Decline, effects: &mut Vec<Effect>) {
        effects.push(Effect::Tell(Milestone::Declined {
            round,
            decline: decline.clone(),
        }));
        effects.push(Effect::Decline { round, decline });
        self.finish(round, effects);
    }

    fn stop(&mut self, effects: &mut Vec<Effect>) {
        if let Phase::Evaluating(request) = &self.phase {
            let round = request.round;
            effects.push(Effect::Abort);
            self.answer(round, Err(interrupted()), effects);
        } else if let Phase::Asking { .. } = &self.phase {
            // It was given to the server long ago: the next process asks again.
            self.remains = self.phase.memory();
            effects.push(Effect::Abort);
        } else if let Some((round, _)) = self.phase.task() {
            let decline = interrupted();
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
        }
        | Phase::Asking { next, .. } = phase
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

fn prepare(task: Task, trained: Trained, effects: &mut Vec<Effect>) -> Phase {
    effects.push(Effect::Prepare(task.clone(), trained.clone()));
    Phase::Preparing(task, trained)
}

fn interrupted() -> Decline {
    Decline::new(DeclineKind::Interrupted, "a person stopped the client")
}

fn tell_forgotten(round: RoundNumber, reason: &'static str, effects: &mut Vec<Effect>) {
    effects.push(Effect::Tell(Milestone::Forgotten { round, reason }));
}

#[cfg(test)]
mod tests;
