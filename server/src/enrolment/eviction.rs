//! Eviction: a person strikes a client off, while the server runs.
//!
//! First the ledger, then the wires, then the round: whoever is told is out already. An update of it that a collecting round has
//! accepted does not come to the merge; what was merged before stays, and `models rollback` takes it back.

use std::fs;
use std::io;

use fedmerge_common::ids::{ClientId, RoundNumber};
use fedmerge_common::reason::{Decline, DeclineKind};
use fedmerge_common::units::Timestamp;
use fedmerge_coordinator::{Event, View};
use fedmerge_proto::status::{Refusal, RefusalReason};

use crate::compute;
use crate::directory::ServerDirectory;
use crate::driver::Federation;
use crate::listener::Connections;
use crate::store::ledger::Ledger;

/// The hexadecimal digits of a digest in the name of an update's file, and the ending.
const NAME_END: usize = 64 + ".safetensors".len();

/// What an eviction works on.
#[derive(Debug)]
pub struct Eviction<'a> {
    /// Where updates are.
    pub directory: &'a ServerDirectory,
    /// Where the client is struck off.
    pub ledger: &'a Ledger,
    /// Where it is cut off.
    pub connections: &'a Connections,
    /// Where it is not waited for any more.
    pub federation: &'a Federation,
}

impl Eviction<'_> {
    /// Evicts a client.
    ///
    /// # Errors
    /// When there is none of that name, the ledger cannot be written, or the server is about to stop.
    pub async fn evict(
        &self,
        client: &ClientId,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let keys = self.ledger.evict(client, reason, now).await?;
        let keys = keys.ok_or_else(|| {
            let words = format!("there is no client `{client}`");
            Refusal::new(RefusalReason::ClientUnknown, words)
        })?;
        self.connections.cut(&keys);
        tracing::warn!(%client, reason, "client evicted");
        let view = self.federation.now();
        if view.phase == "collecting"
            && let Some(round) = view.round
        {
            self.drop_update(client, round).await;
        }
        for event in given_back(&view, client, &Decline::new(DeclineKind::Evicted, reason)) {
            self.federation.report(event).await?;
        }
        Ok(())
    }

    async fn drop_update(&self, client: &ClientId, round: RoundNumber) {
        let (directory, client) = (self.directory.round_updates(round), client.clone());
        let removed = compute::blocking(move || {
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                let name = entry.file_name();
                let is_its = name
                    .to_str()
                    .is_some_and(|name| is_update_of(&client, name));
                if is_its {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok::<_, io::Error>(())
        });
        match removed.await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "an evicted client's update cannot be removed");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

fn is_update_of(client: &ClientId, name: &str) -> bool {
    let end = name.strip_prefix(client.as_str());
    let end = end.and_then(|rest| rest.strip_prefix('-'));
    end.is_some_and(|end| end.len() == NAME_END)
}

/// What the client is waited for, given back in its name.
fn given_back(view: &View, client: &ClientId, decline: &Decline) -> Vec<Event> {
    let is_pending = view.clients.get(client).is_some_and(Option::is_none);
    let own = view.round.filter(|_| is_pending);
    let origin = view.origins.get(client).map(|origin| origin.round);
    let declined = |round| Event::ClientDeclined {
        client: client.clone(),
        round,
        decline: decline.clone(),
    };
    let evaluates = view
        .evaluation
        .as_ref()
        .is_some_and(|evaluation| evaluation.asked.contains(client));
    let evaluation = view
        .round
        .filter(|_| evaluates)
        .map(|round| Event::EvaluationDeclined {
            client: client.clone(),
            round,
            decline: decline.clone(),
        });
    let mut rounds: Vec<RoundNumber> = own.into_iter().chain(origin).collect();
    rounds.dedup();
    rounds.into_iter().map(declined).chain(evaluation).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_an_update_names_its_client() {
        let (ward, digits) = ("ward".parse().unwrap(), "0f".repeat(32));
        for (name, is_its) in [
            (format!("ward-{digits}.safetensors"), true),
            (format!("ward-3-{digits}.safetensors"), false),
            (format!("war-{digits}.safetensors"), false),
            (format!("ward{digits}.safetensors"), false),
            ("ward-.safetensors".to_owned(), false),
        ] {
            assert_eq!(is_update_of(&ward, &name), is_its, "{name}");
        }
    }
}
