//! How often callers were told no since the server started, by reason: what an operator sees of limits that are reached.
//!
//! Counted where answers leave, so each refusal counts once, whoever gave it; and at the doors, where nobody is answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use fedmerge_proto::status::{Refusal, RefusalReason};
use http::HeaderMap;
use tonic::{Code, Status};

/// A message over the limit, which the wire's library refuses before any service sees it, in words of ours.
fn oversized(status: &Status) -> Option<Refusal> {
    let is_theirs = Refusal::from_status(status).is_none();
    let is_oversized = is_theirs && status.code() == Code::OutOfRange;
    is_oversized.then(|| Refusal::new(RefusalReason::TooLarge, status.message()))
}

/// The counts. Copies share them.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<Mutex<BTreeMap<Counted, u64>>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Counted {
    Call(RefusalReason),
    Connection(LostConnection),
}

/// Why a connection came to nothing before anyone could be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LostConnection {
    /// Its address shakes hands too often.
    TooManyHandshakes,
    /// The handshake failed: nonsense, silence, or a certificate that is not good here.
    HandshakeFailed,
    /// It had to make room for newer strangers.
    MadeRoom,
}

impl LostConnection {
    /// The reason as operators see it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooManyHandshakes => "too-many-handshakes",
            Self::HandshakeFailed => "handshake-failed",
            Self::MadeRoom => "made-room",
        }
    }
}

impl Refusals {
    /// One more.
    pub fn count(&self, reason: RefusalReason) {
        self.add(Counted::Call(reason));
    }

    /// One more connection that came to nothing.
    pub fn count_lost(&self, reason: LostConnection) {
        self.add(Counted::Connection(reason));
    }

    fn add(&self, counted: Counted) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(counted).or_default() += 1;
    }

    /// One more that ends an open stream; the status to be sent, with a reason of ours.
    pub(crate) fn counted(&self, status: Status) -> Status {
        let status = oversized(&status).map_or(status, Status::from);
        if let Some(refusal) = Refusal::from_status(&status) {
            self.count(refusal.reason);
        }
        status
    }

    /// One more, if these headers of an answer say that it is a refusal. Answers with what is to be sent instead, where that has no
    /// reason of ours.
    pub(crate) fn count_answer(&self, headers: &HeaderMap) -> Option<Refusal> {
        let status = Status::from_header_map(headers)?;
        let oversized = oversized(&status);
        if let Some(refusal) = oversized.clone().or_else(|| Refusal::from_status(&status)) {
            self.count(refusal.reason);
        }
        oversized
    }

    /// All counts, by the names of the reasons.
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<String, u64> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = counts.iter();
        counts
            .map(|(counted, count)| {
                let name = match counted {
                    Counted::Call(reason) => reason.name(),
                    Counted::Connection(reason) => reason.name(),
                };
                (name.to_owned(), *count)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_reason_and_answers_are_not() {
        let refusals = Refusals::default();
        let refused = Status::from(Refusal::new(RefusalReason::Busy, "slower"));
        let headers = refused.into_http::<()>().into_parts().0.headers;
        for _ in 0..2 {
            assert_eq!(refusals.clone().count_answer(&headers), None);
        }
        refusals.count(RefusalReason::NotPermitted);
        assert_eq!(refusals.count_answer(&HeaderMap::new()), None);
        let too_large = Status::out_of_range("message length too large");
        let headers = too_large.clone().into_http::<()>().into_parts().0.headers;
        let refusal = refusals
            .count_answer(&headers)
            .expect("a message that is too large");
        assert_eq!(refusal.reason, RefusalReason::TooLarge);
        let sent = refusals.counted(too_large);
        assert_eq!(Refusal::from_status(&sent), Some(refusal));
        refusals.count_lost(LostConnection::MadeRoom);
        let sent = refusals.counted(Refusal::new(RefusalReason::Busy, "silent").into());
        assert_eq!(sent.message(), "silent");
        let found: Vec<_> = refusals.by_name().into_iter().collect();
        let busy = RefusalReason::Busy.name().to_owned();
        let not_permitted = RefusalReason::NotPermitted.name().to_owned();
        let made_room = LostConnection::MadeRoom.name().to_owned();
        let too_large = RefusalReason::TooLarge.name().to_owned();
        let expected = [
            (busy, 3),
            (made_room, 1),
            (not_permitted, 1),
            (too_large, 2),
        ];
        assert_eq!(found, expected);
    }
}
