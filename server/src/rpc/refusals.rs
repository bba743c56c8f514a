//! How often callers were told no since the server started, by reason: what an operator sees of limits that are reached.
//!
//! Counted where answers leave, so each refusal counts once, whoever gave it. Those that end a stream that was open are not among them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use fedmerge_proto::status::{Refusal, RefusalReason};
use http::HeaderMap;
use tonic::Status;

/// The counts. Copies share them.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<Mutex<BTreeMap<RefusalReason, u64>>>);

impl Refusals {
    /// One more.
    pub fn count(&self, reason: RefusalReason) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(reason).or_default() += 1;
    }

    /// One more, if these headers of an answer say that it is a refusal.
    pub(super) fn count_answer(&self, headers: &HeaderMap) {
        let refusal = Status::from_header_map(headers)
            .as_ref()
            .and_then(Refusal::from_status);
        if let Some(refusal) = refusal {
            self.count(refusal.reason);
        }
    }

    /// All counts, by the names of the reasons.
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<String, u64> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = counts.iter();
        counts
            .map(|(reason, count)| (reason.name().to_owned(), *count))
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
            refusals.clone().count_answer(&headers);
        }
        refusals.count(RefusalReason::NotPermitted);
        refusals.count_answer(&HeaderMap::new());
        let found: Vec<_> = refusals.by_name().into_iter().collect();
        let busy = RefusalReason::Busy.name().to_owned();
        let not_permitted = RefusalReason::NotPermitted.name().to_owned();
        assert_eq!(found, [(busy, 2), (not_permitted, 1)]);
    }
}
