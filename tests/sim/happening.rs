//! What will happen, in the queue of the world.

use std::collections::BTreeMap;

use fedmerge_client::agent::Event as AgentEvent;
use fedmerge_common::ids::{ClientId, RoundNumber};
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::{Counted, Rollback};

use super::calls::{Call, Reply, Streamed};
use super::client::Reminder;
use super::server::{self, Asked};

/// What will happen.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Arrives {
        asked: Asked,
        call: Call,
    },
    Answered {
        asked: Asked,
        reply: Reply,
    },
    Streamed {
        client: usize,
        streamed: Streamed,
    },
    ClientLosesStream {
        client: usize,
        session: u64,
    },
    ServerLosesStream {
        client: usize,
        session: u64,
        life: u64,
    },
    Worked {
        client: usize,
        life: u64,
        work: u64,
        event: AgentEvent,
    },
    Reminded {
        client: usize,
        life: u64,
        what: Reminder,
    },
    ClientStarts {
        client: usize,
    },
    ServerStarts,
    Merged {
        life: u64,
        round: RoundNumber,
        base: ModelRef,
        updates: BTreeMap<ClientId, Counted>,
    },
    Published {
        life: u64,
        round: RoundNumber,
        candidate: ModelRef,
    },
    /// A person wants an older model back.
    WantsBack,
    RolledBack {
        life: u64,
        order: Rollback,
    },
    Wakes {
        life: u64,
    },
    /// The ledger could be written at last.
    Written {
        life: u64,
        wishes: Vec<server::Wish>,
    },
    FaultsEnd,
}

impl Happening {
    /// Whether it waits while the server waits for its ledger.
    pub(crate) fn is_for_the_server(&self) -> bool {
        match self {
            Self::Arrives { .. }
            | Self::ServerLosesStream { .. }
            | Self::Merged { .. }
            | Self::Published { .. }
            | Self::WantsBack
            | Self::RolledBack { .. }
            | Self::Wakes { .. } => true,
            Self::Answered { .. }
            | Self::Streamed { .. }
            | Self::ClientLosesStream { .. }
            | Self::Worked { .. }
            | Self::Reminded { .. }
            | Self::ClientStarts { .. }
            | Self::ServerStarts
            | Self::Written { .. }
            | Self::FaultsEnd => false,
        }
    }
}
