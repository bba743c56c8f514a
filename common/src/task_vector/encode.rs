//! Writes a task vector in an encoding, and what of it the encoding lost.
//!
//! The file is a safetensors file in which each tensor is a row of bytes under its own name; tensors that are all zero are left
//! out. Memory is a few blocks, whatever the model's size: values are read again for each look at them.
//! What is lost is the residual e ← e + x − C(e + x), which the next task vector is given back (error feedback; Karimireddy et
//! al., "Error Feedback Fixes SignSGD and other Gradient Compression Schemes", 2019).

use std::collections::BTreeMap;
use std::path::Path;

use crate::checkpoint::{Checkpoint, CheckpointWriter, WrittenCheckpoint};
use crate::dtype::Dtype;
use crate::schema::{DtypeRule, Schema, TensorSpec};
use crate::task_vector::coded::CodedTaskVector;
use crate::task_vector::delta::{WriteTaskVectorError, subtract_base};
use crate::task_vector::encoding::{Codec, Draft, Sparsity, Values, row_elements};
use crate::task_vector::header::{
    CODED_FORMAT, DENSITY_KEY, ENCODING_KEY, FORMAT_KEY, MASK_SEED_KEY, expected_schema,
};
use crate::task_vector::{Content, Encoding};

/// What a task vector is made of: x = fine-tuned − base, and the residual where there is one.
#[derive(Debug)]
pub struct Difference<'a> {
    base: &'a Checkpoint,
    fine_tuned: &'a Checkpoint,
    /// Its tensors are those of `schema`.
    residual: Option<&'a Checkpoint>,
    /// The base's mergeable tensors as F32.
    schema: Schema,
    /// Positions of these in the base.
    positions: Vec<usize>,
    /// Which of these are 0, whatever the checkpoints say.
    withheld: Vec<bool>,
}

impl<'a> Difference<'a> {
    /// Of a fine-tuned checkpoint and its base.
    ///
    /// # Errors
    /// When they differ in a tensor's name, shape or kind: the first difference is named.
    pub fn new(
        base: &'a Checkpoint,
        fine_tuned: &'a Checkpoint,
    ) -> Result<Self, WriteTaskVectorError> {
        let found = fine_tuned.schema();
        let difference = base.schema().first_difference(found, DtypeRule::AnyFloat);
        if let Some(difference) = difference {
            return Err(WriteTaskVectorError::SchemaMismatch(difference));
        }
        let tensors = base.schema().iter().enumerate();
        let mergeable = tensors.filter(|(_, tensor)| tensor.is_mergeable());
        let positions: Vec<usize> = mergeable.map(|(position, _)| position).collect();
        Ok(Self {
            base,
            fine_tuned,
            residual: None,
            schema: expected_schema(base.schema(), Dtype::F32),
            withheld: vec![false; positions.len()],
            positions,
        })
    }

    /// The same with 0 for every tensor that `is_withheld`.
    #[must_use]
    pub fn without(self, is_withheld: &dyn Fn(&str) -> bool) -> Self {
        let withheld = self
            .schema
            .iter()
            .map(|tensor| is_withheld(tensor.name()))
            .collect();
        Self { withheld, ..self }
    }

    /// The same with what earlier encodings lost. A residual of other tensors is not taken.
    #[must_use]
    pub fn with_residual(self, residual: &'a Checkpoint) -> Self {
        let fits = *residual.schema() == self.schema;
        Self {
            residual: fits.then_some(residual),
            ..self
        }
    }

    /// Whether it has one.
    #[must_use]
    pub fn has_residual(&self) -> bool {
        self.residual.is_some()
    }

    fn read(
        &self,
        tensor: usize,
        offset: usize,
        values: &mut [f32],
    ) -> Result<(), WriteTaskVectorError> {
        if self.withheld[tensor] {
            values.fill(0.0);
            return Ok(());
        }
        let position = self.positions[tensor];
        let mut other = vec![0.0; values.len()];
        self.fine_tuned
            .read_f32(position, offset, values)
            .map_err(WriteTaskVectorError::FineTuned)?;
        self.base
            .read_f32(position, offset, &mut other)
            .map_err(WriteTaskVectorError::Base)?;
        subtract_base(values, &other);
        if let Some(residual) = self.residual {
            residual
                .read_f32(tensor, offset, &mut other)
                .map_err(WriteTaskVectorError::Residual)?;
            for (value, lost) in values.iter_mut().zip(&other) {
                *value += lost;
            }
        }
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(at) => Err(WriteTaskVectorError::NonFinite {
                tensor: self.schema.tensors()[tensor].name().to_owned(),
                index: offset + at,
                value: values[at],
            }),
        }
    }

    fn with_values<T>(
        &self,
        tensor: usize,
        use_them: impl FnOnce(&Values<'_, WriteTaskVectorError>) -> T,
    ) -> T {
        let spec = &self.schema.tensors()[tensor];
        use_them(&Values {
            elements: spec.elements(),
            row_elements: row_elements(spec.shape()),
            read: &|offset, values| self.read(tensor, offset, values),
        })
    }

    /// Writes it to `out` in the encoding of `codec`.
    ///
    /// # Errors
    /// When a value is not finite, which no encoding can say, or a file cannot be read or written.
    ///
    /// # Panics
    /// Never: no encoding takes more bytes than memory can be addressed.
    pub fn write(
        &self,
        codec: Codec,
        sparsity: &Sparsity,
        out: &Path,
    ) -> Result<WrittenCheckpoint, WriteTaskVectorError> {
        let mut drafts = Vec::new();
        for tensor in 0..self.schema.len() {
            let sparsity = sparsity.of(self.schema.tensors()[tensor].name());
            let draft = self.with_values(tensor, |values| Draft::of(codec, sparsity, values))?;
            drafts.extend(draft.map(|draft| (tensor, draft)));
        }
        let specs = drafts.iter().map(|(tensor, draft)| {
            let name = self.schema.tensors()[*tensor].name();
            let bytes = usize::try_from(draft.bytes()).expect("no more than the values take");
            TensorSpec::new(name, Dtype::U8, vec![bytes])
        });
        let specs: Result<Vec<_>, _> = specs.collect();
        let schema = specs.and_then(Schema::new).expect("smaller than the base");
        let mut metadata = BTreeMap::from([
            (FORMAT_KEY.to_owned(), CODED_FORMAT.to_owned()),
            (ENCODING_KEY.to_owned(), name_of(codec).to_owned()),
        ]);
        if codec == Codec::Masked {
            metadata.extend([
                (DENSITY_KEY.to_owned(), sparsity.density.ppm().to_string()),
                (MASK_SEED_KEY.to_owned(), sparsity.seed.to_string()),
            ]);
        }
        let writer = CheckpointWriter::create(out, &schema, &metadata)
            .map_err(WriteTaskVectorError::Write)?;
        for (position, (tensor, draft)) in drafts.iter().enumerate() {
            let sink = |offset, bytes: &[u8]| {
                let written = writer.write_bytes(position, offset, bytes);
                written.map_err(WriteTaskVectorError::Write)
            };
            self.with_values(*tensor, |values| draft.write(values, &sink))?;
        }
        writer.finish().map_err(WriteTaskVectorError::Write)
    }

    /// Writes to `out` what `coded`, which was made of it, does not say: F32, in the shapes of the base.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn write_residual(
        &self,
        coded: &CodedTaskVector,
        metadata: &BTreeMap<String, String>,
        out: &Path,
    ) -> Result<WrittenCheckpoint, WriteTaskVectorError> {
        let writer = CheckpointWriter::create(out, &self.schema, metadata)
            .map_err(WriteTaskVectorError::Write)?;
        let mut told = Vec::new();
        for tensor in 0..self.schema.len() {
            let mut keep_lost = |offset, block: &[f32]| {
                told.resize(block.len(), 0.0);
                coded
                    .read_f32(tensor, offset, &mut told)
                    .map_err(WriteTaskVectorError::ReadBack)?;
                for (told, value) in told.iter_mut().zip(block) {
                    *told = value - *told;
                }
                let written = writer.write_f32(tensor, offset, &told);
                written.map_err(WriteTaskVectorError::Write)
            };
            self.with_values(tensor, |values| values.for_each_block(&mut keep_lost))?;
        }
        writer.finish().map_err(WriteTaskVectorError::Write)
    }
}

fn name_of(codec: Codec) -> &'static str {
    let encodings = Encoding::ALL.iter();
    let mut encodings = encodings.filter(|encoding| encoding.content() == Content::Coded(codec));
    encodings
        .next()
        .expect("every codec is an encoding's")
        .as_str()
}

#[cfg(test)]
mod tests;
