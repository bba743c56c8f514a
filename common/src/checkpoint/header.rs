//! The header of a safetensors file: 8 bytes of length, then JSON that names each tensor with its
//! element type, shape and place.
//!
//! [`parse`] believes nothing: names and places must be unique, sizes must fit, and the tensors must
//! fill the rest of the file exactly, without a gap or an overlap. [`layout`] is its counterpart and
//! depends on the schema alone, so that equal content makes equal files.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::checkpoint::json::{Shape, UniqueMap, insert_once};
use crate::dtype::Dtype;
use crate::schema::{Schema, SchemaError, TensorSpec};

/// Largest header, and largest index of a sharded checkpoint, bytes: what other readers accept.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Size of the field before the header, bytes.
pub(super) const LENGTH_BYTES: u64 = 8;
/// Longest name of a tensor, bytes.
pub const MAX_NAME_BYTES: usize = 1024;
const METADATA_KEY: &str = "__metadata__";
/// The header is padded to a multiple of this, so that tensors are aligned in memory maps.
const ALIGNMENT: usize = 8;

/// What a reader accepts of a header, before it believes anything in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderLimits {
    /// Size of the header, bytes; [`MAX_HEADER_BYTES`] at most.
    pub bytes: u64,
    /// Tensors in a file.
    pub tensors: usize,
    /// Length of a tensor's name, bytes; [`MAX_NAME_BYTES`] at most.
    pub name_bytes: usize,
}

impl Default for HeaderLimits {
    /// What other readers accept.
    fn default() -> Self {
        Self {
            bytes: MAX_HEADER_BYTES,
            tensors: usize::MAX,
            name_bytes: MAX_NAME_BYTES,
        }
    }
}

/// What is wrong with a checkpoint's content. It names tensors and never paths.
#[derive(Debug, thiserror::Error)]
pub enum InvalidCheckpoint {
    /// Bytes are missing at the end.
    #[error("the file is truncated: {expected} bytes expected, {found} found")]
    Truncated {
        /// Bytes that the file must have, as far as it tells.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// There are bytes after the last tensor.
    #[error("the file has bytes after the last tensor: {expected} bytes expected, {found} found")]
    TrailingBytes {
        /// Bytes that the file must have.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// The header or index is larger than this reader accepts.
    #[error("the header has {bytes} bytes, the limit is {limit}")]
    HeaderTooLarge {
        /// Its size.
        bytes: u64,
        /// What is accepted.
        limit: u64,
    },
    /// There are more tensors than this reader accepts.
    #[error("there are {found} tensors, the limit is {limit}")]
    TooManyTensors {
        /// How many there are.
        found: usize,
        /// What is accepted.
        limit: usize,
    },
    /// The header or index is not the JSON it should be.
    #[error("the header is not valid")]
    Header(#[source] serde_json::Error),
    /// The header does not begin with `{`.
    #[error("the header does not begin with an opening brace: this is not a safetensors file")]
    NotSafetensors,
    /// A tensor's entry is not valid.
    #[error("tensor `{tensor}` {problem}")]
    Tensor {
        /// Its name, cut to a line.
        tensor: String,
        /// What is wrong, to be read after its name.
        problem: String,
    },
    /// The tensors do not make a schema.
    #[error("the tensors do not fit together")]
    Schema(#[source] SchemaError),
    /// The index of a sharded checkpoint is wrong.
    #[error("the index {problem}")]
    Index {
        /// What is wrong, to be read after "the index".
        problem: String,
    },
}

/// A tensor and where its bytes are, from the end of the header on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlacedTensor {
    pub(super) spec: TensorSpec,
    pub(super) begin: u64,
}

#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, String>,
    /// In the order of their places.
    pub(super) tensors: Vec<PlacedTensor>,
    /// Size of all tensors, bytes.
    pub(super) data_bytes: u64,
}

#[derive(serde::Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Shape,
    data_offsets: (u64, u64),
}

struct RawHeader {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, RawTensor>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RawHeaderVisitor)
    }
}

struct RawHeaderVisitor;

impl<'de> Visitor<'de> for RawHeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<RawHeader, A::Error> {
        let (mut metadata, mut tensors) = (None, BTreeMap::new());
        while let Some(key) = entries.next_key::<String>()? {
            if key == METADATA_KEY {
                let UniqueMap(map) = entries.next_value()?;
                if metadata.replace(map).is_some() {
                    return Err(A::Error::custom(format_args!(
                        "`{METADATA_KEY}` is there twice"
                    )));
                }
                continue;
            }
            let tensor = entries.next_value::<RawTensor>();
            let tensor = tensor
                .map_err(|error| A::Error::custom(format_args!("`{}`: {error}", line(&key))))?;
            insert_once(&mut tensors, key, tensor)?;
        }
        Ok(RawHeader {
            metadata: metadata.unwrap_or_default(),
            tensors,
        })
    }
}

/// A name from a file, fit for a line of text.
fn line(name: &str) -> String {
    name.chars()
        .take(128)
        .flat_map(char::escape_debug)
        .collect()
}

fn invalid(tensor: &str, problem: impl Into<String>) -> InvalidCheckpoint {
    InvalidCheckpoint::Tensor {
        tensor: line(tensor),
        problem: problem.into(),
    }
}

/// Reads the JSON of a header.
pub(super) fn parse(json: &[u8], limits: &HeaderLimits) -> Result<Header, InvalidCheckpoint> {
    if json.first() != Some(&b'{') {
        return Err(InvalidCheckpoint::NotSafetensors);
    }
    let raw: RawHeader = serde_json::from_slice(json).map_err(InvalidCheckpoint::Header)?;
    let (found, limit) = (raw.tensors.len(), limits.tensors);
    if found > limit {
        return Err(InvalidCheckpoint::TooManyTensors { found, limit });
    }
    let mut entries = raw
        .tensors
        .into_iter()
        .map(|entry| place(entry, limits.name_bytes))
        .collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(|(tensor, end)| (tensor.begin, *end));
    let mut data_bytes = 0;
    for (tensor, end) in &entries {
        if tensor.begin != data_bytes {
            let relation = if tensor.begin < data_bytes {
                "overlaps the tensor before"
            } else {
                "leaves a gap"
            };
            let problem = format!(
                "{relation}: it begins at byte {}, expected {data_bytes}",
                tensor.begin
            );
            return Err(invalid(tensor.spec.name(), problem));
        }
        data_bytes = *end;
    }
    let tensors = entries.into_iter().map(|(tensor, _)| tensor).collect();
    Ok(Header {
        metadata: raw.metadata,
        tensors,
        data_bytes,
    })
}

/// Checks one entry by itself. Answers the tensor and where it ends.
fn place(
    (name, raw): (String, RawTensor),
    name_bytes: usize,
) -> Result<(PlacedTensor, u64), InvalidCheckpoint> {
    if name.is_empty() || name.len() > name_bytes || name.chars().any(char::is_control) {
        let problem =
            format!("has a name that is empty, over {name_bytes} bytes, or not plain text");
        return Err(invalid(&name, problem));
    }
    let dtype: Dtype = raw.dtype.parse().map_err(|_| {
        invalid(
            &name,
            format!("has the unknown dtype `{}`", line(&raw.dtype)),
        )
    })?;
    let spec = TensorSpec::new(name, dtype, raw.shape.0).map_err(InvalidCheckpoint::Schema)?;
    let (begin, end) = raw.data_offsets;
    if end.checked_sub(begin) != Some(spec.byte_len()) {
        let (shape, needed) = (spec.shape(), spec.byte_len());
        let problem = format!(
            "is at bytes {begin} to {end}, but {dtype} of shape {shape:?} has {needed} bytes"
        );
        return Err(invalid(spec.name(), problem));
    }
    Ok((PlacedTensor { spec, begin }, end))
}

/// Where each tensor of `schema` goes (by its position there), and the whole beginning of the file.
pub(super) fn layout(schema: &Schema, metadata: &BTreeMap<String, String>) -> (Vec<u64>, Vec<u8>) {
    let mut order: Vec<usize> = (0..schema.len()).collect();
    // Larger elements first keeps every tensor aligned; the sort is stable, so names stay in order.
    order.sort_by_key(|&tensor| std::cmp::Reverse(schema.tensors()[tensor].dtype().bytes()));
    let mut begins = vec![0; schema.len()];
    let mut entries = Vec::with_capacity(schema.len() + 1);
    if !metadata.is_empty() {
        entries.push(format!("{}:{}", quoted(METADATA_KEY), quoted(metadata)));
    }
    let mut begin = 0;
    for tensor in order {
        let spec = &schema.tensors()[tensor];
        let end = begin + spec.byte_len();
        entries.push(format!(
            r#"{}:{{"dtype":"{}","shape":{},"data_offsets":[{begin},{end}]}}"#,
            quoted(spec.name()),
            spec.dtype(),
            quoted(spec.shape()),
        ));
        begins[tensor] = begin;
        begin = end;
    }
    let mut json = format!("{{{}}}", entries.join(",")).into_bytes();
    json.resize(json.len().next_multiple_of(ALIGNMENT), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    (begins, bytes)
}

fn quoted<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("text, numbers and maps of text are JSON")
}
