//! Quarantine: a client whose updates are rejected in round after round is shut out until a person has looked.
//!
//! A round is counted once, however often it is told of; an update that counts, and a person's approval, begin the number anew.

use fedmerge_common::reason::Rejection;
use fedmerge_coordinator::{ClientOutcome, RoundSummary};

use crate::audit::AuditEvent;
use crate::store::ledger::clients::{self, ClientState, EnrolledClient};
use crate::store::ledger::{Ledger, LedgerError, audit};

impl Ledger {
    /// Counts the rejections of a round that is over, and puts into quarantine whose number has reached the limit; answers with the
    /// keys of those.
    ///
    /// # Errors
    /// When the ledger cannot be written; then nobody is counted.
    pub async fn count_rejections(
        &self,
        summary: &RoundSummary,
        limit: u32,
    ) -> Result<Vec<[u8; 32]>, LedgerError> {
        let round = summary.round.get();
        let mut shut_out = Vec::new();
        let mut transaction = self.begin().await?;
        for (client, outcome) in &summary.clients {
            let rejection = match outcome {
                ClientOutcome::Rejected(rejection) => Some(rejection),
                ClientOutcome::Accepted { .. } => None,
                ClientOutcome::Declined(_)
                | ClientOutcome::Silent { .. }
                | ClientOutcome::Lost { .. }
                | ClientOutcome::CarriedOver => continue,
            };
            let Some(known) = clients::find(&mut transaction, client).await? else {
                continue;
            };
            let says_nothing_new = rejection.is_none() && known.rejections == 0;
            if known.counted_round >= round || says_nothing_new {
                continue;
            }
            let counted = count(known, round, rejection, limit);
            clients::put(&mut transaction, &counted).await?;
            if let Some(rejection) = rejection.filter(|_| counted.rejections == limit) {
                let event = AuditEvent::ClientQuarantined {
                    client: client.clone(),
                    rejections: counted.rejections,
                    last: rejection.to_string(),
                };
                audit::append(&mut transaction, summary.closed, event).await?;
                shut_out.extend([Some(counted.key), counted.next_key].into_iter().flatten());
            }
        }
        transaction.commit().await?;
        Ok(shut_out)
    }
}

fn count(
    known: EnrolledClient,
    round: u64,
    rejection: Option<&Rejection>,
    limit: u32,
) -> EnrolledClient {
    let rejections = match rejection {
        Some(_) => known.rejections.saturating_add(1),
        None => 0,
    };
    EnrolledClient {
        state: if rejections >= limit && known.state == ClientState::Admitted {
            ClientState::Quarantined
        } else {
            known.state
        },
        rejections,
        counted_round: round,
        ..known
    }
}
