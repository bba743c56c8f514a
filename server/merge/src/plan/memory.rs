//! The bound of a plan's memory: the larger of its passes, and what lives through all of them.

use half::bf16;

use super::{Detail, MergePlan, Pass, REDUCTION_UNIT};
use crate::block::TensorExtent;
use crate::engine::bounds;
use crate::method::Rule;
use crate::recipe::{Before, Method};

/// An upper bound of what the engine allocates, in bytes; `None` when it cannot be counted.
pub(super) fn peak_bytes(plan: &MergePlan) -> Option<u64> {
    let mut largest = 0;
    for pass in plan.passes() {
        let lane = match pass {
            Pass::Measure => bounds::measure_lane(plan)?,
            Pass::Vary => bounds::vary_lane(plan)?,
            Pass::Correlate => bounds::correlate_lane(plan)?,
            Pass::Combine => combine_lane(plan)?,
        };
        largest = largest.max(lane);
    }
    let names: usize = plan
        .tensors
        .iter()
        .map(|tensor| tensor.name.len() + size_of::<TensorExtent>())
        .sum();
    let resident = bounds::resident(plan)?.checked_add(names)?;
    u64::try_from(largest.checked_mul(plan.lanes)?.checked_add(resident)?).ok()
}

/// What the rows that one thread works on take.
pub(super) fn rows_bytes(plan: &MergePlan) -> Option<usize> {
    plan.clients
        .checked_mul(plan.block_len)?
        .checked_mul(size_of::<f32>())
}

fn combine_lane(plan: &MergePlan) -> Option<usize> {
    let rows = rows_of(plan);
    let rule = Rule::of(plan.recipe.method, &vec![1.0; rows], rows);
    let workspaces = rule
        .workspace_bytes::<f32>(rows)?
        .checked_add(rule.workspace_bytes::<bf16>(rows)?)?;
    let read = plan
        .clients
        .checked_add(2)?
        .checked_mul(plan.block_len)?
        .checked_mul(size_of::<f32>())?;
    // Rows as converted, as thinned out and as mixed; the merged task vector and the model.
    let worked_on = rows
        .max(plan.clients)
        .checked_mul(3)?
        .checked_add(6)?
        .checked_mul(REDUCTION_UNIT * size_of::<f32>())?;
    let buffers = read.checked_add(worked_on)?;
    let eyes = if plan.detail == Detail::Full {
        bounds::eyes(plan)
    } else {
        0
    };
    bounds::combine_lane(plan)?
        .checked_add(workspaces)?
        .checked_add(buffers)?
        .checked_add(eyes)
}

/// How many rows the rule sees.
fn rows_of(plan: &MergePlan) -> usize {
    let mut rows = plan.clients;
    for stage in &plan.recipe.before {
        if let Before::Bucketing { size } = *stage {
            rows = rows.div_ceil(size);
        }
    }
    if let Method::Bulyan { tolerate, .. } = plan.recipe.method {
        rows.saturating_sub(2 * tolerate)
    } else {
        rows
    }
}
