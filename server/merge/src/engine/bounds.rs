//! What the engine's parts allocate, for the plan's bound: each part counts its own.

use super::correlate::{Eyes, Seen};
use super::drop::Dropper;
use super::load::Room;
use super::measure::Measured;
use super::optimize::Moments;
use super::schedule::DEPTH;
use super::vary::Varied;
use crate::coefficients::Needs;
use crate::plan::{Detail, MergePlan, Pass};
use crate::sparsify::Bounds;

/// A lane's few words, and its share of what waits to be folded.
const LANE_BYTES: usize = 4096;

/// A lane of the pass that measures.
pub(crate) fn measure_lane(plan: &MergePlan) -> Option<usize> {
    Measured::lane_bytes(plan)?.checked_add(LANE_BYTES)
}

/// A lane of the pass that looks for variance.
pub(crate) fn vary_lane(plan: &MergePlan) -> Option<usize> {
    Varied::lane_bytes(plan)?.checked_add(LANE_BYTES)
}

/// A lane of the pass that correlates.
pub(crate) fn correlate_lane(plan: &MergePlan) -> Option<usize> {
    Room::<f32>::bytes(plan.clients() + 1, plan.block_len())?
        .checked_add(eyes(plan))?
        .checked_add(LANE_BYTES)
}

/// A lane's eyes, and what of its runs waits to be folded.
pub(crate) fn eyes(plan: &MergePlan) -> usize {
    Eyes::<f32>::bytes(plan) + DEPTH * Eyes::<f32>::run_bytes(plan)
}

/// A lane of the pass that combines, but for its rows and its rule.
pub(crate) fn combine_lane(plan: &MergePlan) -> Option<usize> {
    let parts = DEPTH * (plan.clients() + 1) * size_of::<f64>();
    let moments = plan.recipe().optimizer.map_or(0, |_| Moments::bytes());
    // The rule of a tensor: a weight and bounds for each client.
    let rule = plan.clients() * (size_of::<f64>() + size_of::<Bounds>());
    Dropper::<f32>::bytes(plan)?
        .checked_add(parts + moments + rule)?
        .checked_add(LANE_BYTES)
}

/// What lives from one pass to the next.
pub(crate) fn resident(plan: &MergePlan) -> Option<usize> {
    let clients = plan.clients();
    let mut bytes = clients.checked_mul(1024)?;
    if plan.passes().contains(&Pass::Measure) {
        bytes = bytes.checked_add(Measured::bytes(plan)?)?;
    }
    if plan.varies().is_some() {
        let tensor = clients.checked_add(4)?.checked_mul(size_of::<f64>())?;
        bytes = bytes.checked_add(plan.tensors().len().checked_mul(tensor)?)?;
    }
    if plan.needs() == Needs::Gram || plan.detail() == Detail::Full {
        bytes = bytes.checked_add(Seen::bytes(plan)?)?;
    }
    if plan.needs() != Needs::Nothing {
        let scopes = plan.scopes(plan.recipe().scope).len();
        let mixing = clients.checked_pow(2)?.checked_mul(3 * size_of::<f64>())?;
        bytes = bytes.checked_add(scopes.checked_mul(mixing)?)?;
    }
    Some(bytes)
}
