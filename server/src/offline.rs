//! A merge of checkpoints on disk by a recipe: the same engine as a round's, without a federation.
//!
//! Read in order: a recipe (`plan/recipe.rs`) and an [`Order`] become a [`PreparedMerge`], whose inputs are open and compared, whose
//! target is free and whose memory is known; [`PreparedMerge::run`] merges. Invariant: until then nothing is written, and the
//! output appears at once and whole, or not at all. The same files and recipe give the same bytes.

mod error;
mod inputs;
mod manifest;
pub mod report;
mod source;
pub mod summary;
mod target;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use fedmerge_common::checkpoint::{Checkpoint, ShardedWriter, WrittenFile};
use fedmerge_common::digest::Digest;
use fedmerge_common::dtype::Dtype;
use fedmerge_common::schema::Schema;
use fedmerge_merge::{
    Contribution, Control, Detail, History, MergePlan, MergeReport, Outputs, PlanError,
    REDUCTION_UNIT, Resources,
};

pub use error::MergeCheckpointsError;
use inputs::Inputs;
use manifest::Manifest;
pub use source::BeyondRange;
use source::{BaseBlocks, BaseSource, ModelSink, ModelSource};
use summary::Summary;
pub use target::{Existing, TargetError};
use target::{Form, Stage, Target};

use crate::files;
use crate::plan::recipe::{MergeRecipe, ModelKind};

/// Values that are carried over at a time.
const CARRY_VALUES: usize = 64 * 1024;
/// What Hugging Face tools want to find in a header, and its value for tensors as `PyTorch` has them.
const HEADER_FORMAT: (&str, &str) = ("format", "pt");

/// What is wanted of a merge, beside its recipe.
#[derive(Debug, Clone)]
pub struct Order {
    /// Where the model goes: one file where this ends in `.safetensors`, else a directory.
    pub out: PathBuf,
    /// What becomes of an earlier output there.
    pub existing: Existing,
    /// Most bytes of tensors in one file of a directory.
    pub max_shard_bytes: u64,
    /// Threads of the pool that the merge runs on.
    pub threads: usize,
    /// Most memory for values.
    pub memory_bytes: u64,
    /// What the report tells.
    pub detail: Detail,
}

/// A merge whose inputs are open and compared and whose output has a place.
#[derive(Debug)]
pub struct PreparedMerge {
    recipe: MergeRecipe,
    order: Order,
    inputs: Inputs,
    target: Target,
    plan: MergePlan,
}

/// A model that was merged.
#[derive(Debug)]
pub struct FinishedMerge {
    /// Where it is, without detours.
    pub path: PathBuf,
    /// Its files.
    pub files: Vec<WrittenFile>,
    /// What the engine saw.
    pub report: MergeReport,
    /// Bytes of tensors that were read, of the base and of all models, all passes together.
    pub bytes_read: u64,
}

impl FinishedMerge {
    /// Size of all its files of tensors, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.written.bytes).sum()
    }

    /// The digest of its file; of several, that of their digests and names, a line each as `b3sum` prints it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        if let [file] = &self.files[..] {
            return file.written.digest;
        }
        let lines: String = self
            .files
            .iter()
            .map(|file| format!("{}  {}\n", file.written.digest.hex(), file.name))
            .collect();
        Digest::of(lines.as_bytes())
    }
}

impl PreparedMerge {
    /// Opens and compares everything, and plans the merge. Writes nothing.
    ///
    /// # Errors
    /// When an input cannot be read or is of another kind, the output may not be where it should, or the memory is too little.
    pub fn new(recipe: MergeRecipe, order: Order) -> Result<Self, MergeCheckpointsError> {
        let target = Target::check(&order.out, &inputs::paths(&recipe), order.existing)?;
        let inputs = Inputs::open(&recipe)?;
        let plan = plan(&recipe, &inputs, &order)?;
        Ok(Self {
            recipe,
            order,
            inputs,
            target,
            plan,
        })
    }

    /// What will be done, for people and programs.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary::of(self)
    }

    /// Most bytes that values take at any moment.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        self.plan.peak_bytes() + kept_bytes(&self.recipe, &self.order, self.plan.block_len())
    }

    /// Whether `path` is one of the files that are read, or would lie in the output.
    #[must_use]
    pub fn touches(&self, path: &Path) -> bool {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let path = path
            .canonicalize()
            .unwrap_or_else(|_| files::without_detours(&path));
        let is_read = |input: &Path| input.canonicalize().is_ok_and(|input| input == path);
        path.starts_with(&self.target.path)
            || is_read(&self.recipe.path)
            || self.inputs.files().any(is_read)
    }

    /// The tensors of the merged model.
    fn schema(&self) -> Schema {
        let base = self.inputs.base.schema();
        let Some(dtype) = self.recipe.out_dtype else {
            return base.clone();
        };
        let tensors = base.iter().map(|tensor| {
            if tensor.is_mergeable() {
                tensor.with_dtype(dtype)
            } else {
                tensor.clone()
            }
        });
        Schema::new(tensors.collect()).expect("the sizes fit with any type")
    }

    /// Merges, on the current pool, and puts the result in its place.
    ///
    /// # Errors
    /// When an input cannot be read, changes meanwhile or is not finite, the output cannot be written, or the caller cancels. Then
    /// the output's place is as it was.
    pub fn run(&self, control: &Control<'_>) -> Result<FinishedMerge, MergeCheckpointsError> {
        let failed = |source| self.cannot_write(source);
        let (stage, writer) = match self.target.form {
            Form::File => (None, self.begin_file()?),
            Form::Directory => {
                let stage = self.target.stage().map_err(failed)?;
                let writer = self.begin_directory(&stage)?;
                (Some(stage), writer)
            }
        };
        for &position in &self.inputs.carried {
            self.check_cancelled(control)?;
            self.carry(&writer, position)?;
        }
        let sources = self.inputs.sources();
        let report = self.merge(&sources, &writer, control)?;
        self.inputs.check_unchanged()?;
        self.check_cancelled(control)?;
        let files = writer.finish().map_err(MergeCheckpointsError::Write)?;
        let finished = FinishedMerge {
            path: self.target.path.clone(),
            bytes_read: self.inputs.bytes_read(),
            files,
            report,
        };
        if let Some(stage) = stage {
            self.complete(&stage, &finished).map_err(failed)?;
            self.check_cancelled(control)?;
            self.target.publish(stage).map_err(failed)?;
        }
        Ok(finished)
    }

    fn begin_file(&self) -> Result<ShardedWriter, MergeCheckpointsError> {
        ShardedWriter::in_file(&self.target.path, &self.schema(), &self.metadata())
            .map_err(MergeCheckpointsError::Write)
    }

    fn begin_directory(&self, stage: &Stage) -> Result<ShardedWriter, MergeCheckpointsError> {
        let (schema, bytes) = (self.schema(), self.order.max_shard_bytes);
        ShardedWriter::in_directory(&stage.directory, &schema, &self.metadata(), bytes)
            .map_err(MergeCheckpointsError::Write)
    }

    /// What the output's files say of themselves: what the base does, and that they come from a merge.
    fn metadata(&self) -> BTreeMap<String, String> {
        let mut metadata = self.inputs.base.metadata().clone();
        let (key, value) = HEADER_FORMAT;
        metadata
            .entry(key.to_owned())
            .or_insert_with(|| value.to_owned());
        let (key, value) = target::MERGED_BY;
        metadata.insert(key.to_owned(), value.to_owned());
        metadata
    }

    fn merge(
        &self,
        sources: &[ModelSource<'_>],
        writer: &ShardedWriter,
        control: &Control<'_>,
    ) -> Result<MergeReport, MergeCheckpointsError> {
        let base = BaseSource {
            base: &self.inputs.base,
            positions: &self.inputs.merged,
        };
        let updates: Vec<Contribution<'_>> = sources
            .iter()
            .zip(&self.recipe.models)
            .map(|(source, model)| Contribution {
                source,
                weight: model.weight,
                sparsify: model.sparsify,
                previous: None,
            })
            .collect();
        let inputs = fedmerge_merge::Inputs {
            base: &base,
            updates: &updates,
            trusted: self.recipe.trusted,
            history: History::default(),
        };
        let sink = ModelSink {
            writer,
            positions: &self.inputs.merged,
        };
        let outputs = Outputs {
            model: &sink,
            optimizer: None,
        };
        fedmerge_merge::merge(&self.plan, &inputs, &outputs, control)
            .map_err(|error| error::engine(error, &self.inputs))
    }

    /// Takes a tensor from the base as it is, or in the type of the output.
    fn carry(&self, writer: &ShardedWriter, position: usize) -> Result<(), MergeCheckpointsError> {
        let base = &self.inputs.base;
        let (from, to) = (
            &base.schema().tensors()[position],
            &writer.schema().tensors()[position],
        );
        let read_failed = |source| MergeCheckpointsError::Base {
            source: Box::new(source),
        };
        if from.dtype() == to.dtype() {
            return copy_bytes(base, writer, position);
        }
        let mut values = vec![0.0; CARRY_VALUES.min(from.elements())];
        let mut wide = Vec::with_capacity(values.len());
        for offset in (0..from.elements()).step_by(CARRY_VALUES) {
            let values = &mut values[..CARRY_VALUES.min(from.elements() - offset)];
            base.read_f32(position, offset, values)
                .map_err(read_failed)?;
            wide.clear();
            wide.extend(values.iter().copied().map(f64::from));
            let count = writer.write_f64(position, offset, &wide);
            let count = count.map_err(MergeCheckpointsError::Write)?;
            BeyondRange::check(count, to).map_err(MergeCheckpointsError::BeyondRange)?;
        }
        Ok(())
    }

    /// Puts what belongs to a model beside its tensors.
    fn complete(&self, stage: &Stage, finished: &FinishedMerge) -> io::Result<()> {
        if self.recipe.base.is_dir() {
            files::copy_companions(&self.recipe.base, &stage.directory)?;
        }
        let manifest = Manifest::of(&self.recipe, finished, &stage.directory)?;
        files::write_json(&stage.directory.join(files::MANIFEST), &manifest)
    }

    fn check_cancelled(&self, control: &Control<'_>) -> Result<(), MergeCheckpointsError> {
        if control.cancelled.load(Ordering::Relaxed) {
            Err(MergeCheckpointsError::Cancelled)
        } else {
            Ok(())
        }
    }

    fn cannot_write(&self, source: io::Error) -> MergeCheckpointsError {
        MergeCheckpointsError::Output {
            path: self.target.path.clone(),
            source,
        }
    }
}

/// Plans the merge so that the engine and the sources together stay within the memory.
fn plan(
    recipe: &MergeRecipe,
    inputs: &Inputs,
    order: &Order,
) -> Result<MergePlan, MergeCheckpointsError> {
    let within = |memory_bytes| {
        let resources = Resources {
            threads: order.threads,
            memory_bytes,
        };
        let models = recipe.models.len();
        MergePlan::new(
            recipe.recipe.clone(),
            inputs.extents(),
            models,
            resources,
            order.detail,
        )
        .map_err(|source| MergeCheckpointsError::Plan {
            source: Box::new(source),
        })
    };
    let least = kept_bytes(recipe, order, REDUCTION_UNIT);
    let refused = |error| with_kept(error, least, order.memory_bytes);
    let plan = within(order.memory_bytes).map_err(refused)?;
    let kept = kept_bytes(recipe, order, plan.block_len());
    if plan.peak_bytes().saturating_add(kept) <= order.memory_bytes {
        return Ok(plan);
    }
    within(order.memory_bytes.saturating_sub(kept))
        .or_else(|error| match shortest(&error) {
            // What is kept beside shorter blocks is less.
            Some(needed) if needed.saturating_add(least) <= order.memory_bytes => within(needed),
            Some(_) | None => Err(error),
        })
        .map_err(refused)
}

/// What the shortest blocks would need, where not even they fit.
fn shortest(error: &MergeCheckpointsError) -> Option<u64> {
    let MergeCheckpointsError::Plan { source } = error else {
        return None;
    };
    if let PlanError::MemoryTooSmall { needed_bytes, .. } = **source {
        Some(needed_bytes)
    } else {
        None
    }
}

/// The same refusal in terms of the whole budget: who gives what it says is needed must not be refused again.
fn with_kept(error: MergeCheckpointsError, kept: u64, budget: u64) -> MergeCheckpointsError {
    let MergeCheckpointsError::Plan { mut source } = error else {
        return error;
    };
    if let PlanError::MemoryTooSmall {
        needed_bytes,
        memory_bytes,
        ..
    } = &mut *source
    {
        *needed_bytes = needed_bytes.saturating_add(kept);
        *memory_bytes = budget;
    }
    MergeCheckpointsError::Plan { source }
}

/// What the sources keep beside the engine, in bytes.
fn kept_bytes(recipe: &MergeRecipe, order: &Order, block_len: usize) -> u64 {
    let mut models = recipe.models.iter();
    if models.any(|model| model.kind == ModelKind::FineTuned) {
        BaseBlocks::bytes(order.threads, block_len)
    } else {
        0
    }
}

fn copy_bytes(
    base: &Checkpoint,
    writer: &ShardedWriter,
    position: usize,
) -> Result<(), MergeCheckpointsError> {
    let whole = base.schema().tensors()[position].byte_len();
    let mut buffer = vec![0; CARRY_VALUES * size_of::<f32>()];
    let mut offset = 0;
    while offset < whole {
        let left = usize::try_from(whole - offset).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        let bytes = &mut buffer[..length];
        base.read_bytes(position, offset, bytes)
            .map_err(|source| MergeCheckpointsError::Base {
                source: Box::new(source),
            })?;
        writer
            .write_bytes(position, offset, bytes)
            .map_err(MergeCheckpointsError::Write)?;
        offset += bytes.len() as u64;
    }
    Ok(())
}

/// The type of all merged tensors, where there is one.
fn common_dtype(schema: &Schema) -> Option<Dtype> {
    let mut dtypes = schema
        .iter()
        .filter(|tensor| tensor.is_mergeable())
        .map(fedmerge_common::schema::TensorSpec::dtype);
    let first = dtypes.next()?;
    dtypes.all(|dtype| dtype == first).then_some(first)
}
