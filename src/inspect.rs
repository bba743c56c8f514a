//! `fedmerge inspect`: what is in a checkpoint, a task vector or a residual, tensor by tensor, and how large it is beside f32.
//!
//! Reads and writes nothing else. An encoded task vector has the shapes of its base: with `--base` it is decoded and checked as a
//! server would, without it only the sizes of its tensors are told. Memory is a block, whatever the model's size.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::{Table, presets};
use fedmerge_common::checkpoint::Checkpoint;
use fedmerge_common::digest::Digest;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::output::Output;
use fedmerge_common::schema::Schema;
use fedmerge_common::task_vector::coded::{CodedTaskVector, ReadTaskVectorError};
use fedmerge_common::task_vector::header::{CODED_FORMAT, ENCODING_KEY, FORMAT, FORMAT_KEY};
use fedmerge_common::units::ByteSize;
use serde::Serialize;

/// Values that are read at once.
const BLOCK_ELEMENTS: usize = 64 * 1024;
const F32_BYTES: u64 = 4;

/// What `inspect` takes.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fedmerge inspect hub/models/10
  fedmerge inspect ward-1/work/round-3/update/update.safetensors --base hub/models/2
  fedmerge inspect model.safetensors --format json")]
pub(crate) struct InspectArguments {
    /// A .safetensors file, or a directory of them as Hugging Face has them
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// The model that an encoded task vector is to be added to: it has the shapes
    #[arg(long, value_name = "PATH")]
    base: Option<PathBuf>,
}

/// What there is; its JSON is a contract.
#[derive(Debug, Serialize)]
struct Inspected {
    path: PathBuf,
    /// `checkpoint`, `task-vector` or `residual`.
    kind: &'static str,
    /// How a task vector is encoded, where it is no plain floats.
    encoding: Option<String>,
    /// Digest of the file; none for a directory.
    digest: Option<Digest>,
    /// Size on disk.
    bytes: u64,
    /// What its tensors that are merged would take as f32; none where their shapes are not known.
    f32_bytes: Option<u64>,
    tensors: Vec<Tensor>,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct Tensor {
    name: String,
    dtype: String,
    /// None where only a base has it.
    shape: Option<Vec<usize>>,
    bytes: u64,
    /// None where there are none to merge, or they cannot be read.
    values: Option<Values>,
}

/// What its numbers are like.
#[derive(Debug, Default, Serialize)]
struct Values {
    norm: f64,
    largest: f32,
    not_zero: u64,
    not_finite: u64,
}

/// Prints what is in a file.
pub(crate) fn run(arguments: &InspectArguments, output: &Output) -> Result<(), Failure> {
    let inspected = inspect(arguments)?;
    for line in head(&inspected) {
        output.line(line);
    }
    output.line("");
    output.line(table(&inspected.tensors));
    let is_guessed = inspected.encoding.is_some() && inspected.f32_bytes.is_none();
    if is_guessed {
        output.note(
            "give the model that it is to be added to as --base, and its values are told too",
        );
    }
    output.json(&inspected);
    Ok(())
}

fn inspect(arguments: &InspectArguments) -> Result<Inspected, Failure> {
    let checkpoint = open(&arguments.path)?;
    let metadata = checkpoint.metadata().clone();
    let mark = metadata.get(FORMAT_KEY).map_or("", String::as_str);
    let kind = match mark {
        FORMAT | CODED_FORMAT => "task-vector",
        mark if mark.starts_with("residual/") => "residual",
        _ => "checkpoint",
    };
    let encoding = metadata.get(ENCODING_KEY).cloned();
    let encoding = encoding.filter(|_| mark == CODED_FORMAT);
    let files: Result<Vec<_>, _> = checkpoint.files().map(std::fs::metadata).collect();
    let files = files.map_err(|error| unreadable(&arguments.path, &error))?;
    let digest = match arguments.path.is_file() {
        true => Some(Digest::of_file(&arguments.path)),
        false => None,
    };
    let digest = digest.transpose();
    let mut inspected = Inspected {
        path: arguments.path.clone(),
        kind,
        encoding,
        digest: digest.map_err(|error| unreadable(&arguments.path, &error))?,
        bytes: files.iter().map(std::fs::Metadata::len).sum(),
        f32_bytes: None,
        tensors: Vec::new(),
        metadata,
    };
    match (&inspected.encoding, &arguments.base) {
        (None, _) => floats(&checkpoint, &mut inspected)?,
        (Some(_), None) => {
            inspected.tensors = checkpoint.schema().iter().map(packed).collect();
        }
        (Some(_), Some(base)) => {
            let base = open(base)?;
            coded(checkpoint, base.schema(), &mut inspected)?;
        }
    }
    Ok(inspected)
}

fn floats(checkpoint: &Checkpoint, inspected: &mut Inspected) -> Result<(), Failure> {
    inspected.f32_bytes = Some(f32_bytes(checkpoint.schema()));
    for (position, spec) in checkpoint.schema().iter().enumerate() {
        let read = |offset: usize, block: &mut [f32]| {
            let read = checkpoint.read_f32(position, offset, block);
            read.map_err(|error| unreadable(&inspected.path, &error))
        };
        let values = match spec.is_mergeable() {
            true => Some(values(spec.elements(), read)?),
            false => None,
        };
        inspected.tensors.push(Tensor {
            name: spec.name().to_owned(),
            dtype: spec.dtype().to_string(),
            shape: Some(spec.shape().to_vec()),
            bytes: spec.byte_len(),
            values,
        });
    }
    Ok(())
}

fn coded(checkpoint: Checkpoint, base: &Schema, inspected: &mut Inspected) -> Result<(), Failure> {
    let wrong = |error: &ReadTaskVectorError| {
        unreadable(&inspected.path, error).with_hint("is it an update of a model like --base?")
    };
    let coded = CodedTaskVector::of(checkpoint, base).map_err(|error| wrong(&error))?;
    coded.verify(&|| true).map_err(|error| wrong(&error))?;
    inspected.f32_bytes = Some(f32_bytes(coded.schema()));
    for (position, spec) in coded.schema().iter().enumerate() {
        let read = |offset: usize, block: &mut [f32]| {
            let read = coded.read_f32(position, offset, block);
            read.map_err(|error| unreadable(&inspected.path, &error))
        };
        let file = coded.checkpoint().schema();
        inspected.tensors.push(Tensor {
            name: spec.name().to_owned(),
            dtype: coded.encoding().to_string(),
            shape: Some(spec.shape().to_vec()),
            bytes: file.get(spec.name()).map_or(0, |packed| packed.byte_len()),
            values: Some(values(spec.elements(), read)?),
        });
    }
    Ok(())
}

/// A tensor of which nothing is known but its size.
fn packed(spec: &fedmerge_common::schema::TensorSpec) -> Tensor {
    Tensor {
        name: spec.name().to_owned(),
        dtype: spec.dtype().to_string(),
        shape: None,
        bytes: spec.byte_len(),
        values: None,
    }
}

fn f32_bytes(schema: &Schema) -> u64 {
    let mergeable = schema.iter().filter(|tensor| tensor.is_mergeable());
    mergeable
        .map(|tensor| F32_BYTES * tensor.elements() as u64)
        .sum()
}

fn values(
    elements: usize,
    read: impl Fn(usize, &mut [f32]) -> Result<(), Failure>,
) -> Result<Values, Failure> {
    let mut block = vec![0.0; BLOCK_ELEMENTS.min(elements)];
    let (mut values, mut squares) = (Values::default(), 0.0);
    for offset in (0..elements).step_by(BLOCK_ELEMENTS) {
        let block = &mut block[..BLOCK_ELEMENTS.min(elements - offset)];
        read(offset, block)?;
        for value in block.iter().copied() {
            values.not_finite += u64::from(!value.is_finite());
            values.not_zero += u64::from(value.abs() > 0.0 || value.is_nan());
            values.largest = values.largest.max(value.abs());
            squares += f64::from(value) * f64::from(value);
        }
    }
    values.norm = f64::sqrt(squares);
    Ok(values)
}

fn open(path: &Path) -> Result<Checkpoint, Failure> {
    Checkpoint::open(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &dyn std::error::Error) -> Failure {
    let message = format!("cannot inspect {}", path.display());
    Failure::new(ExitCode::BadData, message).with_source(error)
}

fn head(inspected: &Inspected) -> Vec<String> {
    let what = match (inspected.kind, &inspected.encoding) {
        ("task-vector", Some(encoding)) => format!("task vector in {encoding}"),
        ("task-vector", None) => "task vector".to_owned(),
        (kind, _) => kind.to_owned(),
    };
    let size = ByteSize::new(inspected.bytes);
    let beside = inspected.f32_bytes.map_or_else(String::new, |f32_bytes| {
        let whole = ByteSize::new(f32_bytes);
        format!(
            ", {} of the {whole} of its values as f32",
            percent(inspected.bytes, f32_bytes)
        )
    });
    let mut lines = vec![
        format!("file    {}", inspected.path.display()),
        format!("kind    {what}"),
        format!("size    {size}{beside}"),
    ];
    lines.extend(inspected.digest.map(|digest| format!("digest  {digest}")));
    lines
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "more".to_owned();
    }
    format!("{:.1} %", 100.0 * part as f64 / whole as f64)
}

fn table(tensors: &[Tensor]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "tensor", "type", "shape", "bytes", "norm", "largest", "not zero",
    ]);
    for tensor in tensors {
        let shape = tensor.shape.as_ref().map(|shape| format!("{shape:?}"));
        let told = |tell: &dyn Fn(&Values) -> String| {
            tensor.values.as_ref().map_or_else(String::new, tell)
        };
        table.add_row([
            tensor.name.clone(),
            tensor.dtype.clone(),
            shape.unwrap_or_default(),
            tensor.bytes.to_string(),
            told(&|values| format!("{:.4}", values.norm)),
            told(&|values| format!("{:.4}", values.largest)),
            told(&|values| match values.not_finite {
                0 => values.not_zero.to_string(),
                count => format!("{} ({count} not finite)", values.not_zero),
            }),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.to_string();
    let lines: Vec<&str> = lines.lines().map(str::trim_end).collect();
    lines.join("\n")
}
