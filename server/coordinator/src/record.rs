//! The state of a federation as it is stored, with the version of its form.
//!
//! A record of a newer version is refused, not guessed at. Whoever changes `State` or what it holds raises [`VERSION`] and
//! reads the older forms too. What version 2 added, late tasks and the answers of evaluators, is empty in a record of
//! version 1, and what version 3 added, rollbacks and scores of models, in one of version 2.

use fedmerge_common::update::ModelRef;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use crate::effect::EndReason;
use crate::late::Late;
use crate::phase::Phase;
use crate::summary::RoundSummary;

/// The version this program writes.
pub const VERSION: u32 = 3;

/// Everything that must survive a crash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) base: ModelRef,
    pub(crate) phase: Phase,
    pub(crate) rounds_opened: u64,
    /// Abandoned rounds since the last published one.
    pub(crate) failures_in_a_row: u32,
    pub(crate) last_round: Option<RoundSummary>,
    /// Tasks that outlived their round, while no round collects.
    #[serde(default)]
    pub(crate) late: Late,
}

/// A stored state.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
}

/// Why a record can not be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RestoreError {
    /// It was written by a newer program.
    #[error("the record has version {found}, this program knows versions up to {known}")]
    NewerVersion {
        /// Its version.
        found: u32,
        /// The newest version this program reads.
        known: u32,
    },
    /// It is of a known version, but damaged.
    #[error("the record of version {version} is damaged")]
    Unreadable {
        /// Its version.
        version: u32,
    },
}

impl Record {
    pub(crate) fn of(state: State) -> Self {
        Self {
            version: VERSION,
            state: Some(state),
        }
    }

    /// The version of its form.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Why the federation was over when the record was taken, if it was.
    pub fn ended(&self) -> Option<EndReason> {
        self.state.as_ref()?.phase.ended()
    }

    pub(crate) fn into_state(self) -> Result<State, RestoreError> {
        if self.version > VERSION {
            return Err(RestoreError::NewerVersion {
                found: self.version,
                known: VERSION,
            });
        }
        self.state.ok_or(RestoreError::Unreadable {
            version: self.version,
        })
    }
}

/// What is there, read so that a newer form is recognised as such and not as garbage.
#[derive(Deserialize)]
#[serde(untagged)]
enum Form {
    Known { version: u32, state: Box<State> },
    Foreign { version: u32 },
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Form::deserialize(deserializer)? {
            Form::Known { version, state } => Ok(Self {
                version,
                state: Some(*state),
            }),
            Form::Foreign { version } => Ok(Self {
                version,
                state: None,
            }),
        }
    }
}
