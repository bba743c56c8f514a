//! Shuts clients out whose updates are rejected in round after round, when a round is told of as closed.

use fedmerge_coordinator::RoundSummary;

use crate::listener::Connections;
use crate::store::ledger::Ledger;

/// How clients whose updates are rejected again and again are shut out.
#[derive(Debug)]
pub struct Quarantine {
    /// Rounds in a row after which that happens.
    pub rejections: u32,
    /// Who is connected, to be cut off.
    pub connections: Connections,
}

impl Quarantine {
    /// Counts what a round rejected, and cuts those off who are shut out by it. Where the ledger fails, the round is counted when it
    /// is told of again, or not at all.
    pub(super) async fn count(&self, ledger: &Ledger, summary: &RoundSummary) {
        match ledger.count_rejections(summary, self.rejections).await {
            Ok(keys) if keys.is_empty() => {}
            Ok(keys) => {
                tracing::warn!(round = %summary.round, "clients are in quarantine: `clients list` names them");
                self.connections.cut(&keys);
            }
            Err(error) => tracing::warn!(%error, "rejections cannot be counted"),
        }
    }
}
