//! The end of a server that exits with its federation: it waits until its clients have heard of the end.
//!
//! Those who took part in the last round are waited for, also after a restart, when they need a moment to come back; but
//! not longer than [`LIMIT`], because a client may be gone for good.

use std::collections::BTreeSet;
use std::time::Duration;

use fedmerge_common::ids::ClientId;
use fedmerge_coordinator::{ClientOutcome, RoundSummary};
use tokio::time::Instant;

use super::seats::Seats;

/// Longest wait: a client that lost its server tries again within 15 s.
const LIMIT: Duration = Duration::from_secs(20);

/// Who has not heard of the end yet.
#[derive(Debug, Default)]
pub(super) struct Farewell {
    until: Option<Instant>,
    awaited: BTreeSet<ClientId>,
    /// Whether anybody has attended since the start.
    was_attended: bool,
}

impl Farewell {
    /// A client took its place.
    pub(super) fn arrived(&mut self) {
        self.was_attended = true;
    }

    /// The federation is over, and this was its last round.
    pub(super) fn begin(&mut self, last_round: Option<&RoundSummary>) {
        let clients = last_round.into_iter().flat_map(|round| &round.clients);
        let took_part = clients.filter(|(_, outcome)| {
            matches!(
                outcome,
                ClientOutcome::Accepted { .. } | ClientOutcome::Rejected(_)
            )
        });
        self.awaited = took_part.map(|(client, _)| client.clone()).collect();
        self.until = Some(Instant::now() + LIMIT);
    }

    /// A client's stay ended: what it was told last, it has heard.
    pub(super) fn left(&mut self, client: &ClientId) {
        self.awaited.remove(client);
    }

    /// Whether nobody is left to be told.
    pub(super) fn is_over(&self, seats: &Seats) -> bool {
        let have_all_heard = self.was_attended && self.awaited.is_empty() && seats.is_empty();
        self.until
            .is_some_and(|until| have_all_heard || Instant::now() >= until)
    }

    /// When the wait ends at the latest; none before the federation is over.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }
}
