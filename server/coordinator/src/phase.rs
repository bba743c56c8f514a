//! The phases of a federation, one file each, and how one follows another.
//!
//! A phase consumes itself: it is asked what an event or the time makes of it and answers with a [`Turn`].
//! Only `coordinator.rs` moves the federation from phase to phase and closes rounds.

pub(crate) mod collecting;
pub(crate) mod evaluating;
pub(crate) mod gathering;
pub(crate) mod merging;
pub(crate) mod publishing;
pub(crate) mod rolling_back;

use std::collections::BTreeSet;

use fedmerge_common::ids::{ClientId, RoundNumber};
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;
use serde::{Deserialize, Serialize};

use crate::effect::{Effect, EndReason};
use crate::event::Event;
use crate::late::Late;
use crate::plan::RoundPlan;
use crate::round::OpenRound;
use crate::summary::RoundOutcome;
use collecting::Collecting;
use evaluating::Evaluating;
use gathering::Gathering;
use merging::Merging;
use publishing::Publishing;
use rolling_back::RollingBack;

/// What a federation does now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// Between rounds: waits for clients.
    Gathering(Gathering),
    /// Waits for updates.
    Collecting(Collecting),
    /// Waits for the merge.
    Merging(Merging),
    /// Waits for the clients' verdict on the candidate.
    Evaluating(Evaluating),
    /// Waits until the candidate is the base.
    Publishing(Publishing),
    /// Waits until an older model is the base again.
    RollingBack(RollingBack),
    /// Over.
    Ended(EndReason),
}

/// What a phase may look at beside itself, and the tasks that it may hand on.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) now: Timestamp,
    pub(crate) plan: &'a RoundPlan,
    pub(crate) attending: &'a BTreeSet<ClientId>,
    pub(crate) base: &'a ModelRef,
    /// The number the next round gets.
    pub(crate) next_round: RoundNumber,
    pub(crate) late: &'a mut Late,
}

/// What follows.
#[derive(Debug)]
pub(crate) enum Turn {
    /// The phase goes on.
    Stay(Phase),
    /// Another phase begins.
    Go(Phase),
    /// The round is over.
    Close(OpenRound, RoundOutcome),
}

impl Phase {
    /// Takes in an event.
    pub(crate) fn on(
        self,
        event: &Event,
        around: &mut Surroundings<'_>,
        effects: &mut Vec<Effect>,
    ) -> Turn {
        match self {
            Self::Gathering(gathering) => Turn::Stay(Self::Gathering(gathering)),
            Self::Collecting(collecting) => collecting.on(event, around, effects),
            Self::Merging(merging) => merging.on(event, around, effects),
            Self::Evaluating(evaluating) => evaluating.on(event, around, effects),
            Self::Publishing(publishing) => publishing.on(event),
            // The coordinator itself takes in what becomes of a rollback.
            waiting @ (Self::RollingBack(_) | Self::Ended(_)) => Turn::Stay(waiting),
        }
    }

    /// Does what is due by now.
    pub(crate) fn settle(self, around: &mut Surroundings<'_>, effects: &mut Vec<Effect>) -> Turn {
        match self {
            Self::Gathering(gathering) => gathering.settle(around, effects),
            Self::Collecting(collecting) => collecting.settle(around, effects),
            Self::Evaluating(evaluating) => evaluating.settle(around, effects),
            waiting @ (Self::Merging(_)
            | Self::Publishing(_)
            | Self::RollingBack(_)
            | Self::Ended(_)) => Turn::Stay(waiting),
        }
    }

    /// When something will be due if nothing happens.
    pub(crate) fn wake_at(&self, around_plan: &RoundPlan) -> Option<Timestamp> {
        match self {
            Self::Gathering(gathering) => gathering.wake_at(around_plan),
            Self::Collecting(collecting) => collecting.wake_at(),
            Self::Evaluating(evaluating) => evaluating.wake_at(),
            Self::Merging(_) | Self::Publishing(_) | Self::RollingBack(_) | Self::Ended(_) => None,
        }
    }

    /// The round that is open, if one is.
    pub(crate) fn round(&self) -> Option<&OpenRound> {
        match self {
            Self::Gathering(_) | Self::RollingBack(_) | Self::Ended(_) => None,
            Self::Collecting(collecting) => Some(&collecting.round),
            Self::Merging(merging) => Some(&merging.round),
            Self::Evaluating(evaluating) => Some(&evaluating.round),
            Self::Publishing(publishing) => Some(&publishing.round),
        }
    }

    /// Why the federation is over, once it is.
    pub(crate) fn ended(&self) -> Option<EndReason> {
        match self {
            Self::Ended(reason) => Some(*reason),
            Self::Gathering(_)
            | Self::Collecting(_)
            | Self::Merging(_)
            | Self::Evaluating(_)
            | Self::Publishing(_)
            | Self::RollingBack(_) => None,
        }
    }

    /// The phase's name, as the status says it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Gathering(_) => "gathering",
            Self::Collecting(_) => "collecting",
            Self::Merging(_) => "merging",
            Self::Evaluating(_) => "evaluating",
            Self::Publishing(_) => "publishing",
            Self::RollingBack(_) => "rolling-back",
            Self::Ended(_) => "ended",
        }
    }
}
