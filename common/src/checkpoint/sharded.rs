//! Writing a checkpoint as one file or as many: shards of a bounded size, and the index that says which tensor is where.
//!
//! The shards depend on the schema and the bound alone, so that equal content makes equal files. Each file takes its name when it
//! is complete; a directory as a whole is made to appear at once by whoever owns it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::checkpoint::index::{MAX_SHARDS, shard_name, write_index};
use crate::checkpoint::write::{CheckpointWriter, WriteCheckpointError, WrittenCheckpoint};
use crate::schema::Schema;

/// One finished file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenFile {
    /// Its name in the directory.
    pub name: String,
    /// What is in it.
    pub written: WrittenCheckpoint,
}

/// A checkpoint in the making, of one file or many. Tensors are addressed by their position in the whole schema; what is never
/// written is zero.
#[derive(Debug)]
pub struct ShardedWriter {
    directory: PathBuf,
    shards: Vec<Shard>,
    /// Shard and position in it, by position in the whole schema.
    places: Vec<(usize, usize)>,
    schema: Schema,
}

#[derive(Debug)]
struct Shard {
    name: String,
    writer: CheckpointWriter,
}

impl ShardedWriter {
    /// Begins a checkpoint in `directory`, which must exist: `model.safetensors` where `max_shard_bytes` of tensors are not exceeded, or
    /// shards of no more than that, unless one tensor alone is larger, with `model.safetensors.index.json`.
    ///
    /// # Errors
    /// When there would be more shards than readers open, or a temporary file cannot be made.
    ///
    /// # Panics
    /// Never: a part of a schema is a schema.
    pub fn in_directory(
        directory: &Path,
        schema: &Schema,
        metadata: &BTreeMap<String, String>,
        max_shard_bytes: u64,
    ) -> Result<Self, WriteCheckpointError> {
        let groups = split(schema, max_shard_bytes);
        if groups.len() > MAX_SHARDS {
            return Err(WriteCheckpointError::TooManyShards {
                path: directory.to_owned(),
                shards: groups.len(),
            });
        }
        let mut places = Vec::with_capacity(schema.len());
        let mut shards = Vec::with_capacity(groups.len());
        for (number, group) in groups.iter().enumerate() {
            let specs = &schema.tensors()[group.clone()];
            let part = Schema::new(specs.to_vec()).expect("a part of a schema is a schema");
            let name = shard_name(number, groups.len());
            let writer = CheckpointWriter::create(&directory.join(&name), &part, metadata)?;
            places.extend((0..group.len()).map(|position| (number, position)));
            shards.push(Shard { name, writer });
        }
        Ok(Self {
            directory: directory.to_owned(),
            shards,
            places,
            schema: schema.clone(),
        })
    }

    /// Begins a checkpoint that will be the one file `target`. Its directory must exist.
    ///
    /// # Errors
    /// When the temporary file cannot be made.
    pub fn in_file(
        target: &Path,
        schema: &Schema,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, WriteCheckpointError> {
        let name = target.file_name().unwrap_or(OsStr::new("")).display();
        let shard = Shard {
            name: name.to_string(),
            writer: CheckpointWriter::create(target, schema, metadata)?,
        };
        Ok(Self {
            directory: PathBuf::new(),
            shards: vec![shard],
            places: (0..schema.len()).map(|position| (0, position)).collect(),
            schema: schema.clone(),
        })
    }

    /// All tensors.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Writes a tensor's bytes, as [`CheckpointWriter::write_bytes`] does.
    ///
    /// # Errors
    /// When the tensor has fewer, or the file system refuses.
    ///
    /// # Panics
    /// When `tensor` is not a position in the schema.
    pub fn write_bytes(
        &self,
        tensor: usize,
        byte_offset: u64,
        bytes: &[u8],
    ) -> Result<(), WriteCheckpointError> {
        let (shard, position) = self.places[tensor];
        self.shards[shard]
            .writer
            .write_bytes(position, byte_offset, bytes)
    }

    /// Writes a mergeable tensor's elements, as [`CheckpointWriter::write_f64`] does.
    ///
    /// # Errors
    /// When the tensor has fewer or is not mergeable, or the file system refuses.
    ///
    /// # Panics
    /// When `tensor` is not a position in the schema.
    pub fn write_f64(
        &self,
        tensor: usize,
        element_offset: usize,
        values: &[f64],
    ) -> Result<usize, WriteCheckpointError> {
        let (shard, position) = self.places[tensor];
        self.shards[shard]
            .writer
            .write_f64(position, element_offset, values)
    }

    /// Makes all files durable and gives them their names, the index last. Answers the files in order.
    ///
    /// # Errors
    /// When the file system refuses; then the files that have their name already are left to the owner of the directory.
    pub fn finish(self) -> Result<Vec<WrittenFile>, WriteCheckpointError> {
        let names: Vec<&str> = self
            .shards
            .iter()
            .map(|shard| shard.name.as_str())
            .collect();
        if names.len() > 1 {
            let pairs = self.schema.iter().zip(&self.places);
            let shard_of: BTreeMap<&str, &str> = pairs
                .map(|(spec, (shard, _))| (spec.name(), names[*shard]))
                .collect();
            write_index(&self.directory, &shard_of, self.schema.byte_len()).map_err(|source| {
                WriteCheckpointError::Io {
                    path: self.directory.clone(),
                    source,
                }
            })?;
        }
        let finish = |Shard { name, writer }: Shard| {
            let written = writer.finish()?;
            Ok(WrittenFile { name, written })
        };
        self.shards.into_iter().map(finish).collect()
    }
}

/// The positions of each shard's tensors, in the order of names.
fn split(schema: &Schema, max_shard_bytes: u64) -> Vec<std::ops::Range<usize>> {
    let mut groups = Vec::new();
    let (mut begin, mut bytes) = (0, 0_u64);
    for (position, spec) in schema.iter().enumerate() {
        if position > begin && bytes.saturating_add(spec.byte_len()) > max_shard_bytes {
            groups.push(begin..position);
            (begin, bytes) = (position, 0);
        }
        bytes += spec.byte_len();
    }
    groups.push(begin..schema.len());
    groups
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
#[expect(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::dtype::Dtype;
    use crate::schema::TensorSpec;

    /// Tensors `a`, `b`, … of so many F32 elements.
    fn schema(elements: &[usize]) -> Schema {
        let specs = ('a'..).zip(elements).map(|(name, &elements)| {
            TensorSpec::new(name.to_string(), Dtype::F32, vec![elements]).unwrap()
        });
        Schema::new(specs.collect()).unwrap()
    }

    fn names_in(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_shard_holds_what_fits_and_never_nothing() {
        let groups = |elements: &[usize], bytes| split(&schema(elements), bytes);
        assert_eq!(groups(&[1, 1, 1], 12), vec![0..3]);
        assert_eq!(groups(&[1, 1, 1], 11), vec![0..2, 2..3]);
        assert_eq!(groups(&[1, 9, 0, 1], 4), vec![0..1, 1..2, 2..4]);
        assert_eq!(groups(&[9, 9], 0), vec![0..1, 1..2]);
        assert_eq!(groups(&[], 10), vec![0..0]);
    }

    #[test]
    fn shards_are_read_back_as_one_checkpoint() {
        let directory = TempDir::new().unwrap();
        let schema = schema(&[2, 3, 0, 1]);
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let writer = ShardedWriter::in_directory(directory.path(), &schema, &metadata, 12).unwrap();
        for (tensor, spec) in schema.iter().enumerate() {
            let values: Vec<f64> = (0_u8..9).map(f64::from).take(spec.elements()).collect();
            assert_eq!(writer.write_f64(tensor, 0, &values).unwrap(), 0);
        }
        let files = writer.finish().unwrap();
        let names: Vec<_> = files.iter().map(|file| file.name.clone()).collect();
        let expected = [1, 2, 3].map(|number| shard_name(number - 1, 3));
        assert_eq!(names, expected);
        assert_eq!(names[0], "model-00001-of-00003.safetensors");
        assert_eq!(names_in(directory.path()).len(), 4);

        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        assert_eq!(checkpoint.schema(), &schema);
        assert_eq!(checkpoint.metadata(), &metadata);
        let mut values = [0.0; 3];
        checkpoint.read_f32(1, 0, &mut values).unwrap();
        assert!(values == [0.0, 1.0, 2.0], "{values:?}");
    }

    #[test]
    fn what_fits_is_one_file_without_an_index() {
        let directory = TempDir::new().unwrap();
        let writer =
            ShardedWriter::in_directory(directory.path(), &schema(&[2]), &BTreeMap::new(), 8);
        writer.unwrap().finish().unwrap();
        assert_eq!(names_in(directory.path()), ["model.safetensors"]);
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let directory = TempDir::new().unwrap();
        let writer =
            ShardedWriter::in_directory(directory.path(), &schema(&[2, 2]), &BTreeMap::new(), 8);
        assert_eq!(names_in(directory.path()).len(), 2);
        drop(writer);
        assert!(names_in(directory.path()).is_empty());
    }

    #[test]
    fn more_shards_than_readers_open_are_refused() {
        let directory = TempDir::new().unwrap();
        let schema = {
            let specs = (0..=MAX_SHARDS)
                .map(|number| TensorSpec::new(number.to_string(), Dtype::F32, vec![1]).unwrap());
            Schema::new(specs.collect()).unwrap()
        };
        let error = ShardedWriter::in_directory(directory.path(), &schema, &BTreeMap::new(), 1);
        assert!(matches!(
            error,
            Err(WriteCheckpointError::TooManyShards { shards: 1001, .. })
        ));
    }
}
