//! Between rounds: clients gather until there are enough of them to open the next.
//!
//! A round opens at once when as many clients attend as would be invited, or when the quorum has been there for the grace time.
//! After an abandoned round the opening pauses, so that a federation that can not succeed does not spin.

use std::collections::{BTreeMap, BTreeSet};

use fedmerge_common::ids::ClientId;
use fedmerge_common::units::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

use super::collecting::Collecting;
use super::{Phase, Surroundings, Turn};
use crate::cohort;
use crate::effect::Effect;
use crate::late::Late;
use crate::plan::{Mode, RoundPlan};
use crate::round::OpenRound;

/// The pause after the first abandoned round; it doubles with each further one.
const FIRST_PAUSE: Millis = Millis::from_secs(2);
/// The longest pause between rounds.
const LONGEST_PAUSE: Millis = Millis::from_secs(60);

/// The pause after `failures` abandoned rounds in a row.
pub(crate) fn pause(failures: u32) -> Option<Millis> {
    let doublings = failures.checked_sub(1)?.min(16);
    let pause = FIRST_PAUSE.get().saturating_mul(1 << doublings);
    Some(Millis::new(pause.min(LONGEST_PAUSE.get())))
}

/// The wait for clients.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Gathering {
    /// No round opens before; absent after a published one.
    pub(crate) paused_until: Option<Timestamp>,
    /// Since when the quorum attends without a break.
    pub(crate) quorum_since: Option<Timestamp>,
}

impl Gathering {
    /// After a round, or before the first: `failures` rounds in a row were abandoned.
    pub(crate) fn after(failures: u32, now: Timestamp) -> Self {
        Self {
            paused_until: pause(failures).map(|pause| now + pause),
            quorum_since: None,
        }
    }

    pub(super) fn settle(
        mut self,
        around: &mut Surroundings<'_>,
        effects: &mut Vec<Effect>,
    ) -> Turn {
        let now = around.now;
        self.watch_quorum(around);
        self.watch_pause(now);
        let present = present(around.attending, around.late);
        let size = cohort::invitation_size(&around.plan.cohort, present);
        let waited = self.quorum_since.is_some_and(|since| {
            // Whoever comes later gets a task of a buffered round then.
            around.plan.mode == Mode::Buffered || since + around.plan.grace <= now
        });
        if self.paused_until.is_some() || !(present >= size || waited) {
            return Turn::Stay(Phase::Gathering(self));
        }
        Turn::Go(Phase::Collecting(Collecting {
            round: open(around, size, effects),
        }))
    }

    pub(super) fn wake_at(&self, plan: &RoundPlan) -> Option<Timestamp> {
        let grace_over = self.quorum_since.map(|since| since + plan.grace);
        // A buffered round opens with its quorum, so nothing is due but the end of a pause.
        match (self.paused_until, grace_over) {
            (Some(pause), _) => Some(pause),
            (None, grace_over) => grace_over,
        }
    }

    fn watch_quorum(&mut self, around: &Surroundings<'_>) {
        let present = present(around.attending, around.late);
        self.quorum_since = if present < around.plan.quorum.max(1) {
            None
        } else {
            // A clock that was set back must not lengthen the wait.
            Some(self.quorum_since.unwrap_or(around.now).min(around.now))
        };
    }

    fn watch_pause(&mut self, now: Timestamp) {
        self.paused_until = self
            .paused_until
            .filter(|until| *until > now)
            .map(|until| until.min(now + LONGEST_PAUSE));
    }
}

/// How many clients a round could count on: those that attend, and those whose tasks go on.
pub(crate) fn present(attending: &BTreeSet<ClientId>, late: &Late) -> usize {
    let tasks = late.roll.clients.keys();
    attending.len() + tasks.filter(|client| !attending.contains(*client)).count()
}

/// Opens a round: it takes over the tasks that go on, and gives new ones to as many as are still wanted.
fn open(around: &mut Surroundings<'_>, size: usize, effects: &mut Vec<Effect>) -> OpenRound {
    around
        .late
        .end_stale(around.base, around.plan.max_staleness, effects);
    let roll = around.late.hand_over();
    let free = around
        .attending
        .iter()
        .filter(|client| !roll.clients.contains_key(*client));
    let free: BTreeSet<ClientId> = free.cloned().collect();
    let wanted = size.saturating_sub(roll.clients.len());
    let invited = cohort::choose(around.plan.seed, around.next_round, &free, wanted);
    let mut round = OpenRound {
        number: around.next_round,
        base: *around.base,
        plan: around.plan.clone(),
        opened: around.now,
        deadline: around.now + around.plan.deadline,
        collected: None,
        roll,
        evaluations: BTreeMap::new(),
    };
    let frame = round.frame(around.now);
    for client in invited {
        round.roll.invite(client, &frame, effects);
    }
    round
}
