//! How long updates are: the median length of those in the merge that made the base.
//!
//! A minority of hostile clients moves a median only among the lengths of honest ones. Of a merge that did not measure lengths, or of
//! fewer than three clients, nothing is known.

use std::sync::{Mutex, PoisonError};

use fedmerge_common::update::ModelRef;
use serde_json::Value;

use crate::store::ledger::{Ledger, LedgerError};

/// Fewest clients whose median is anybody's measure.
const FEWEST_CLIENTS: usize = 3;

/// The measure, found once for each base.
#[derive(Debug, Default)]
pub struct Yardstick(Mutex<Option<(ModelRef, Option<f64>)>>);

impl Yardstick {
    /// The median length of the updates that made a base, where it is known.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub(super) async fn typical(
        &self,
        ledger: &Ledger,
        base: &ModelRef,
    ) -> Result<Option<f64>, LedgerError> {
        let known = || *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, typical)) = known()
            && of == *base
        {
            return Ok(typical);
        }
        let typical = find(ledger, base).await?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((*base, typical));
        Ok(typical)
    }
}

async fn find(ledger: &Ledger, base: &ModelRef) -> Result<Option<f64>, LedgerError> {
    let mut model = ledger.model(base.version).await?;
    // A base that is an older model again was merged when that was.
    while let Some(rollback) = model.as_ref().and_then(|model| model.rollback.as_ref()) {
        model = ledger.model(rollback.of).await?;
    }
    let Some(round) = model.and_then(|model| model.round) else {
        return Ok(None);
    };
    let note = ledger.merge_note(round).await?;
    Ok(note.and_then(|note| median(&note.report)))
}

/// The median length of the updates of a merge's story.
fn median(story: &Value) -> Option<f64> {
    let updates = story.get("updates")?.as_array()?;
    let lengths = updates.iter().map(|update| update.get("norm")?.as_f64());
    let mut lengths: Vec<f64> = lengths.collect::<Option<_>>()?;
    if lengths.len() < FEWEST_CLIENTS {
        return None;
    }
    lengths.sort_by(f64::total_cmp);
    let (lower, upper) = (lengths[(lengths.len() - 1) / 2], lengths[lengths.len() / 2]);
    Some(f64::midpoint(lower, upper)).filter(|median| *median > 0.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(norms: &[Value]) -> Option<f64> {
        let updates = norms.iter().map(|norm| json!({ "norm": norm }));
        median(&json!({ "updates": updates.collect::<Vec<_>>() }))
    }

    #[test]
    fn the_median_is_that_of_all_lengths_or_unknown() {
        assert_eq!(of(&[json!(3.0), json!(1.0), json!(900.0)]), Some(3.0));
        let four = [json!(3.0), json!(1.0), json!(5.0), json!(900.0)];
        assert_eq!(of(&four), Some(4.0));
        assert_eq!(of(&[json!(3.0), json!(1.0)]), None, "no crowd");
        assert_eq!(of(&[json!(0.0), json!(0.0), json!(1.0)]), None);
        assert_eq!(of(&[json!(3.0), json!(1.0), json!(null)]), None);
        assert_eq!(median(&json!({})), None);
    }
}
