//! The accepted updates of a round as a merge takes them: in their order, opened, weighed.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use fedmerge_common::checkpoint::ReadCheckpointError;
use fedmerge_common::failure::explain;
use fedmerge_common::ids::ClientId;
use fedmerge_common::schema::Schema;
use fedmerge_common::task_vector::coded::{ReadTaskVectorError, TaskVector};
use fedmerge_coordinator::Counted;
use fedmerge_merge::WeightUse;

use super::ports::Source;
use super::{MergeFailure, MergeJob};
use crate::files;

/// An update in its place in the order of summation.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) client: ClientId,
    pub(super) counted: Counted,
}

/// By digest, then client: the order of summation does not know who came first.
pub(super) fn in_order(updates: &BTreeMap<ClientId, Counted>) -> Vec<Ordered> {
    let pairs = updates.iter().map(|(client, counted)| Ordered {
        client: client.clone(),
        counted: counted.clone(),
    });
    let mut ordered: Vec<Ordered> = pairs.collect();
    ordered.sort_by(|left, right| {
        let key = |of: &Ordered| (of.counted.update.payload, of.client.clone());
        key(left).cmp(&key(right))
    });
    ordered
}

/// The place of the client whom the method trusts.
pub(super) fn trusted(job: &MergeJob, ordered: &[Ordered]) -> Result<Option<usize>, MergeFailure> {
    let Some(client) = &job.trusted else {
        return Ok(None);
    };
    let place = ordered.iter().position(|update| update.client == *client);
    match place {
        Some(place) => Ok(Some(place)),
        None => Err(MergeFailure::Trusted {
            method: job.recipe.method_name(),
            client: client.clone(),
        }),
    }
}

/// The files of the updates.
///
/// # Errors
/// All that are lost, so that a merge is begun anew once; or the first that cannot be read though it may be there.
pub(super) fn open(
    job: &MergeJob,
    ordered: &[Ordered],
    base: &Schema,
) -> Result<Vec<TaskVector>, MergeFailure> {
    let mut lost = BTreeMap::new();
    let mut opened = Vec::with_capacity(ordered.len());
    for Ordered { client, counted } in ordered {
        let payload = &counted.update.payload;
        let path = files::update(&job.directory, counted.round, client, payload);
        match TaskVector::open(&path, base) {
            Ok(update) => opened.push(update),
            Err(error) if is_lost(&error) => {
                lost.insert(client.clone(), explain(&error));
            }
            Err(source) => {
                return Err(MergeFailure::Update {
                    client: client.clone(),
                    source,
                });
            }
        }
    }
    if lost.is_empty() {
        Ok(opened)
    } else {
        Err(MergeFailure::Lost { lost })
    }
}

/// Whether an update is gone or garbage, and not merely out of reach at this moment.
fn is_lost(error: &ReadTaskVectorError) -> bool {
    let ReadTaskVectorError::Checkpoint(error) = error else {
        return true;
    };
    match error {
        ReadCheckpointError::Invalid { .. } | ReadCheckpointError::NoCheckpoint { .. } => true,
        ReadCheckpointError::Io { source, .. } => source.kind() == ErrorKind::NotFound,
        ReadCheckpointError::OutOfRange { .. } | ReadCheckpointError::Convert { .. } => false,
    }
}

/// The tensors called `names` of each update, discounted by its staleness before anything else happens to it.
pub(super) fn sources<'a>(
    updates: &'a [TaskVector],
    ordered: &[Ordered],
    names: &[String],
) -> Vec<Source<'a>> {
    let pairs = updates.iter().zip(ordered);
    pairs
        .map(|(update, ordered)| Source::of(update, names).times(ordered.counted.discount()))
        .collect()
}

/// What each update counts. Where weights are the factors of a sum they are 1 on average, so that the sum does not grow with the
/// number of examples.
#[expect(
    clippy::cast_precision_loss,
    reason = "there are fewer than 2^52 clients"
)]
pub(super) fn weights(job: &MergeJob, ordered: &[Ordered]) -> Vec<f64> {
    let claims = ordered.iter();
    let claims: Vec<u64> = claims
        .map(|ordered| ordered.counted.update.num_examples)
        .collect();
    let counts = job.weight.of(&claims, job.max_weight);
    match job.recipe.method.weight_use() {
        WeightUse::Ignored | WeightUse::Shares => counts,
        WeightUse::Factors => {
            let average = counts.iter().sum::<f64>() / counts.len() as f64;
            counts.iter().map(|count| count / average).collect()
        }
    }
}
