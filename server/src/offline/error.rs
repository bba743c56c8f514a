//! Why a merge of checkpoints did not succeed: which model, tensor or file, and what to do next.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use fedmerge_common::checkpoint::{Checkpoint, ReadCheckpointError, WriteCheckpointError};
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::schema::SchemaDifference;
use fedmerge_merge::{MergeError, PlanError};

use super::inputs::Inputs;
use super::source::BeyondRange;
use super::target::TargetError;
use crate::plan::recipe::ModelKind;

/// A merge that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum MergeCheckpointsError {
    /// The output may not be where it should.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The base cannot be read.
    #[error("the base cannot be read")]
    Base {
        /// Why.
        source: Box<ReadCheckpointError>,
    },
    /// A model cannot be read.
    #[error("model `{model}` cannot be read")]
    Model {
        /// Its name.
        model: String,
        /// Why.
        source: Box<ReadCheckpointError>,
    },
    /// A model has other tensors than the base.
    #[error("model `{model}` does not fit the base: {difference}")]
    Schema {
        /// Its name.
        model: String,
        /// The first difference.
        difference: SchemaDifference,
    },
    /// The merge cannot be planned.
    #[error("the merge cannot be planned")]
    Plan {
        /// The arithmetic.
        source: Box<PlanError>,
    },
    /// An input holds a value that is no finite number.
    #[error("{whose} has the value {value} at {index} of tensor `{tensor}`")]
    NonFinite {
        /// The base, or a model by its name.
        whose: String,
        /// NaN or an infinity.
        value: f64,
        /// The tensor.
        tensor: String,
        /// Where in it, counted from 0.
        index: usize,
    },
    /// The merge itself failed.
    #[error("the merge failed{}", model.as_ref().map(|model| format!(" at model `{model}`")).unwrap_or_default())]
    Engine {
        /// At which model, where it is one's.
        model: Option<String>,
        /// Why.
        source: Box<MergeError>,
    },
    /// The result does not fit its type.
    #[error(transparent)]
    BeyondRange(BeyondRange),
    /// An input is not what it was.
    #[error("`{}` changed while it was read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A file of tensors cannot be written.
    #[error("the merged model cannot be written")]
    Write(#[source] WriteCheckpointError),
    /// Something else of the output cannot be written.
    #[error("the output `{}` cannot be written", path.display())]
    Output {
        /// The output.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The caller stopped it.
    #[error("the merge was interrupted; nothing was written")]
    Cancelled,
}

impl From<MergeCheckpointsError> for Failure {
    fn from(error: MergeCheckpointsError) -> Self {
        let failure = |exit| Self::from_error(exit, &error);
        match &error {
            MergeCheckpointsError::Target(target) => of_target(&error, target),
            MergeCheckpointsError::Base { source } | MergeCheckpointsError::Model { source, .. } => {
                match **source {
                    ReadCheckpointError::Io { .. } | ReadCheckpointError::NoCheckpoint { .. } => failure(
                        ExitCode::Unavailable,
                    )
                    .with_hint("paths in a recipe are seen from the directory of its file"),
                    ReadCheckpointError::Invalid { .. }
                    | ReadCheckpointError::OutOfRange { .. }
                    | ReadCheckpointError::Convert { .. } => failure(ExitCode::BadData)
                        .with_hint("download or save it again; only safetensors are read"),
                }
            }
            MergeCheckpointsError::Schema { .. } => failure(ExitCode::BadData).with_hint(
                "models are merged tensor by tensor: all must be fine-tuned from the base that the recipe names",
            ),
            MergeCheckpointsError::Plan { source } => of_plan(&error, source),
            MergeCheckpointsError::NonFinite { .. } => failure(ExitCode::BadData).with_hint(
                "leave that model out, or freeze the tensor: freeze = [\"NAME\"] in [merge]",
            ),
            MergeCheckpointsError::BeyondRange(_) => failure(ExitCode::BadData)
                .with_hint("lower lambda or the weights, or write a wider type: out_dtype = \"bf16\" or \"f32\" at the top of the recipe"),
            MergeCheckpointsError::Engine { source, .. } => match beneath::<WriteCheckpointError>(&**source) {
                Some(write) if write.is_storage_full() => full(failure(ExitCode::Temporary)),
                Some(_) => failure(ExitCode::Unavailable),
                None => failure(ExitCode::BadData),
            },
            MergeCheckpointsError::Changed { .. } => failure(ExitCode::Temporary)
                .with_hint("wait until nothing writes to the inputs, then merge again"),
            MergeCheckpointsError::Write(write) if write.is_storage_full() => full(failure(ExitCode::Temporary)),
            MergeCheckpointsError::Output { source, .. } if is_full(source) => full(failure(ExitCode::Temporary)),
            MergeCheckpointsError::Write(WriteCheckpointError::TooManyShards { .. }) => {
                failure(ExitCode::Usage).with_hint("give a larger --shard-size")
            }
            MergeCheckpointsError::Write(_) | MergeCheckpointsError::Output { .. } => {
                failure(ExitCode::Unavailable)
            }
            MergeCheckpointsError::Cancelled => failure(ExitCode::Temporary),
        }
    }
}

fn full(failure: Failure) -> Failure {
    failure.with_hint("free some space, or give --out on another disk; nothing was replaced")
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn of_target(error: &MergeCheckpointsError, target: &TargetError) -> Failure {
    let failure = Failure::from_error(ExitCode::Usage, error);
    match target {
        TargetError::NoParent { .. } => failure.with_hint("make it first: mkdir -p"),
        TargetError::NoName { .. } => {
            failure.with_hint("give --out a new directory, or a file that ends in .safetensors")
        }
        TargetError::OverInput { .. } => {
            failure.with_hint("give --out a place of its own: a merge never changes what it reads")
        }
        TargetError::Exists { .. } => failure.with_hint(
            "give --out a new name, or --force to replace the output of an earlier merge",
        ),
        TargetError::Foreign { .. } => failure
            .with_hint("give --out a new name: --force replaces nothing but outputs of merges"),
        TargetError::Io { .. } => Failure::from_error(ExitCode::Unavailable, error),
    }
}

fn of_plan(error: &MergeCheckpointsError, plan: &PlanError) -> Failure {
    let failure = Failure::from_error(ExitCode::BadConfiguration, error);
    if matches!(plan, PlanError::MemoryTooSmall { .. }) {
        return Failure::from_error(ExitCode::Usage, error)
            .with_hint("give more --memory, or fewer --threads");
    }
    failure
}

/// The engine's error in the words of the recipe: it numbers models, people name them.
pub(super) fn engine(error: MergeError, inputs: &Inputs) -> MergeCheckpointsError {
    match error {
        MergeError::Cancelled => MergeCheckpointsError::Cancelled,
        MergeError::NonFinite {
            client,
            tensor,
            index,
            value,
        } => non_finite(inputs, client, tensor, index, value),
        MergeError::Write { ref source, .. } => match beneath::<BeyondRange>(source) {
            Some(beyond) => MergeCheckpointsError::BeyondRange(beyond.clone()),
            None => failed(error, None),
        },
        MergeError::ReadUpdate { client, .. } => failed(error, Some(&inputs.models[client].name)),
        MergeError::Contributions { .. }
        | MergeError::Weight { .. }
        | MergeError::Weights { .. }
        | MergeError::NoTrusted { .. }
        | MergeError::Read { .. } => failed(error, None),
    }
}

fn failed(error: MergeError, model: Option<&str>) -> MergeCheckpointsError {
    MergeCheckpointsError::Engine {
        model: model.map(str::to_owned),
        source: Box::new(error),
    }
}

/// A task vector has the value because its checkpoint has one like it, or the base has.
fn non_finite(
    inputs: &Inputs,
    client: usize,
    tensor: String,
    index: usize,
    value: f64,
) -> MergeCheckpointsError {
    let model = &inputs.models[client];
    let at = |checkpoint: &Checkpoint| {
        let mut value = [0.0];
        let position = checkpoint.schema().index_of(&tensor)?;
        checkpoint.read_f32(position, index, &mut value).ok()?;
        Some(f64::from(value[0])).filter(|value| !value.is_finite())
    };
    let own = at(&model.checkpoint);
    let (whose, value) = match (model.kind, own, at(&inputs.base)) {
        (ModelKind::FineTuned, None, Some(value)) => ("the base".to_owned(), value),
        (_, own, _) => (format!("model `{}`", model.name), own.unwrap_or(value)),
    };
    MergeCheckpointsError::NonFinite {
        whose,
        value,
        tensor,
        index,
    }
}

/// The cause of a type, however deep.
fn beneath<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
