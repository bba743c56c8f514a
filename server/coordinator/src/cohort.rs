//! Who is invited to a round: how many, and which.
//!
//! The choice is a digest of (seed, round, client): the same wherever it is computed, and no client can improve its odds
//! except by its name, which it has before it knows the seed.

use std::collections::BTreeSet;

use fedmerge_common::digest::{Digest, DigestWriter};
use fedmerge_common::ids::{ClientId, RoundNumber};

use crate::plan::{Cohort, MAX_TARGET};

/// Rounding errors of a product such as 1.1 × 10 must not ask for one client more.
const SLACK: f64 = 1e-9;

/// Number of clients to invite when `attending` are there: the wanted fraction of them, at least the target,
/// at most the target with over-selection.
pub fn invitation_size(cohort: &Cohort, attending: usize) -> usize {
    let most = ceil_product(cohort.target, cohort.over_select);
    let wanted = ceil_product(attending, cohort.fraction);
    wanted.max(cohort.target).min(most.max(cohort.target))
}

/// Chooses `size` of the `attending` clients, all of them where there are not more.
pub fn choose(
    seed: u64,
    round: RoundNumber,
    attending: &BTreeSet<ClientId>,
    size: usize,
) -> BTreeSet<ClientId> {
    let mut drawn: Vec<(Digest, &ClientId)> = attending
        .iter()
        .map(|client| (lot(seed, round, client), client))
        .collect();
    drawn.sort_unstable_by(|left, right| {
        (left.0.as_bytes(), left.1).cmp(&(right.0.as_bytes(), right.1))
    });
    drawn
        .into_iter()
        .take(size)
        .map(|(_, client)| client.clone())
        .collect()
}

fn lot(seed: u64, round: RoundNumber, client: &ClientId) -> Digest {
    let mut digest = DigestWriter::new();
    digest.update(b"fedmerge cohort v1");
    digest.update(&seed.to_le_bytes());
    digest.update(&round.get().to_le_bytes());
    digest.update(client.as_str().as_bytes());
    digest.finish()
}

/// ⌈count × factor⌉ for a factor that is not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the product is clamped to a range that fits; a negative or NaN product becomes 0"
)]
fn ceil_product(count: usize, factor: f64) -> usize {
    let most = MAX_TARGET as f64 * crate::plan::MAX_OVER_SELECT;
    (count as f64 * factor - SLACK).ceil().clamp(0.0, most) as usize
}
