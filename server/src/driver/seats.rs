//! Who attends: one place for each client, held by one process at a time, with the newest notice for it.
//!
//! A process that reconnects shows the same random instance and takes its place back; another one is refused while the
//! place is held. Notices are replaced, never queued: a slow client costs one notice.

use std::collections::BTreeMap;

use fedmerge_common::ids::{ClientId, ModelVersion};
use fedmerge_common::rollback::Rollback;
use fedmerge_coordinator::{Briefing, Coordinator};
use fedmerge_proto::limits::INSTANCE_BYTES;
use fedmerge_proto::status::{Refusal, RefusalReason};
use fedmerge_proto::v1;
use tokio::sync::watch;

use super::inbox::Seat;
use crate::notice::{Offer, evaluation, notice};
use crate::plan::ByRound;

#[derive(Debug)]
struct Place {
    instance: [u8; INSTANCE_BYTES],
    session: u64,
    notices: watch::Sender<v1::Notice>,
}

/// The places of all who attend.
#[derive(Debug)]
pub(super) struct Seats {
    offers: ByRound<Offer>,
    /// The bases that are older models again, with what the authority signed.
    rollbacks: BTreeMap<ModelVersion, Rollback>,
    places: BTreeMap<ClientId, Place>,
    sessions: u64,
}

impl Seats {
    pub(super) fn new(offers: ByRound<Offer>, rollbacks: BTreeMap<ModelVersion, Rollback>) -> Self {
        Self {
            offers,
            rollbacks,
            places: BTreeMap::new(),
            sessions: 0,
        }
    }

    /// Takes note of every rollback there was.
    pub(super) fn learn(&mut self, rollbacks: BTreeMap<ModelVersion, Rollback>) {
        self.rollbacks = rollbacks;
    }

    /// What the authority signed of a base that is an older model again.
    pub(super) fn rollback(&self, version: ModelVersion) -> Option<&Rollback> {
        self.rollbacks.get(&version)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Gives a process the place of its client, unless another process holds it.
    pub(super) fn take(
        &mut self,
        client: &ClientId,
        instance: [u8; INSTANCE_BYTES],
        coordinator: &Coordinator,
    ) -> Result<Seat, Refusal> {
        if let Some(place) = self.places.get(client)
            && place.instance != instance
            && !place.notices.is_closed()
        {
            return Err(Refusal::new(
                RefusalReason::IdentityInUse,
                format_args!("another process attends as {client}"),
            ));
        }
        self.sessions += 1;
        let session = self.sessions;
        let notice = self.expected(client, coordinator, &coordinator.briefing());
        let (sender, notices) = watch::channel(notice);
        let place = Place {
            instance,
            session,
            notices: sender,
        };
        // Dropping an earlier place of the same process ends its stream.
        self.places.insert(client.clone(), place);
        Ok(Seat { notices, session })
    }

    /// Ends the stays of those whose seat is gone though nobody gave it back, as when a call was cut off before its answer.
    pub(super) fn clear(&mut self) -> Vec<ClientId> {
        let gone = |place: &mut Place| place.notices.is_closed();
        self.places
            .extract_if(.., |_, place| gone(place))
            .map(|(client, _)| client)
            .collect()
    }

    /// Ends a stay; false when the client has taken its place anew since.
    pub(super) fn leave(&mut self, client: &ClientId, session: u64) -> bool {
        let is_current = self
            .places
            .get(client)
            .is_some_and(|place| place.session == session);
        if is_current {
            self.places.remove(client);
        }
        is_current
    }

    /// What is expected of a client now: an evaluation of those who are asked for one.
    fn expected(
        &self,
        client: &ClientId,
        coordinator: &Coordinator,
        briefing: &Briefing<'_>,
    ) -> v1::Notice {
        match coordinator.evaluation(client) {
            Some(task) => evaluation(task),
            None => notice(&self.offers, &self.rollbacks, briefing.of(client)),
        }
    }

    /// Tells everyone what is expected of them now, where that has changed.
    pub(super) fn refresh(&self, coordinator: &Coordinator) {
        let briefing = coordinator.briefing();
        for (client, place) in &self.places {
            let notice = self.expected(client, coordinator, &briefing);
            place.notices.send_if_modified(|shown| {
                let is_new = *shown != notice;
                if is_new {
                    *shown = notice;
                }
                is_new
            });
        }
    }
}
