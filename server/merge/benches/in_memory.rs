//! What the benchmarks have in common: models in memory that look like task vectors, the recipes that are timed, and the yardstick: a
//! plain read of the same bytes that adds them up.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use fedmerge_merge::{
    BlockError, BlockSink, BlockSource, Contribution, Control, Detail, Divide, Elect, Even,
    History, Inputs, MergePlan, MergeReport, Method, Neighbours, Outputs, Recipe, Rescale,
    Resources, Scope, Sparsify, SparsifyRule, Start, TensorExtent, Ties, Values, merge,
};
use half::{bf16, f16};
use rayon::prelude::*;

/// How many values lie in one lock of the sink: a run of the engine.
const RUN: usize = 65_536;

/// A type of number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    /// Single precision.
    F32,
    /// The upper half of it.
    Bf16,
    /// IEEE half precision.
    F16,
}

impl Type {
    /// Bytes of a value.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }
}

/// One tensor in memory.
#[derive(Debug)]
pub(crate) enum Model {
    /// Single precision.
    F32(Vec<f32>),
    /// The upper half of it.
    Bf16(Vec<bf16>),
    /// IEEE half precision.
    F16(Vec<f16>),
}

impl Model {
    /// Values around 0 that have the shape of a bell, the same for the same seed.
    pub(crate) fn noise(values: usize, seed: u64, of: Type) -> Self {
        let value = move |index: usize| {
            let mut word = (index as u64 ^ seed << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            let sum: u64 = (0..4).map(|part| word >> (16 * part) & 0xffff).sum();
            (f32::from(u16::try_from(sum >> 2).expect("a mean of 16 bits")) / 32_768.0 - 1.0) * 0.05
        };
        let all = (0..values).into_par_iter();
        match of {
            Type::F32 => Self::F32(all.map(value).collect()),
            Type::Bf16 => Self::Bf16(all.map(|index| bf16::from_f32(value(index))).collect()),
            Type::F16 => Self::F16(all.map(|index| f16::from_f32(value(index))).collect()),
        }
    }

    /// Its bytes, added up as words: what reading them costs at the least.
    fn read_and_sum(&self) -> u64 {
        let bytes: &[u8] = match self {
            Self::F32(values) => bytemuck::cast_slice(values),
            Self::Bf16(values) => bytemuck::cast_slice(values),
            Self::F16(values) => bytemuck::cast_slice(values),
        };
        bytes
            .par_chunks(1 << 18)
            .map(|chunk| {
                let mut sums = [0_u64; 32];
                for words in chunk.chunks_exact(256) {
                    for (sum, word) in sums.iter_mut().zip(words.chunks_exact(8)) {
                        let word: [u8; 8] = word.try_into().expect("eight bytes");
                        *sum = sum.wrapping_add(u64::from_le_bytes(word));
                    }
                }
                sums.iter().fold(0, |all: u64, sum| all.wrapping_add(*sum))
            })
            .reduce(|| 0, u64::wrapping_add)
    }
}

impl BlockSource for Model {
    fn read<'a>(
        &'a self,
        _tensor: usize,
        offset: usize,
        len: usize,
        _buffer: &'a mut [f32],
    ) -> Result<Values<'a>, BlockError> {
        let range = offset..offset + len;
        Ok(match self {
            Self::F32(values) => Values::F32(&values[range]),
            Self::Bf16(values) => Values::Bf16(&values[range]),
            Self::F16(values) => Values::F16(&values[range]),
        })
    }
}

/// A model in memory that is written.
struct Target<'a>(Vec<Mutex<&'a mut [f32]>>);

impl BlockSink for Target<'_> {
    #[expect(clippy::cast_possible_truncation, reason = "rounding is the purpose")]
    fn write(&self, _tensor: usize, offset: usize, values: &[f64]) -> Result<(), BlockError> {
        let mut run = self.0[offset / RUN]
            .lock()
            .map_err(|_| BlockError::new("a writer panicked"))?;
        for (slot, value) in run[offset % RUN..].iter_mut().zip(values) {
            *slot = *value as f32;
        }
        Ok(())
    }
}

/// A federation's round in memory.
#[derive(Debug)]
pub(crate) struct Round {
    base: Model,
    updates: Vec<Model>,
    merged: Vec<f32>,
}

impl Round {
    /// So many task vectors of so many values.
    pub(crate) fn new(clients: usize, values: usize, of: Type) -> Self {
        Self {
            base: Model::noise(values, 0, of),
            updates: (1..=clients as u64)
                .map(|seed| Model::noise(values, seed, of))
                .collect(),
            merged: vec![0.0; values],
        }
    }

    /// All bytes that one pass reads, added up.
    pub(crate) fn read_and_sum(&self) -> u64 {
        let updates = self.updates.iter().map(Model::read_and_sum);
        updates.fold(self.base.read_and_sum(), u64::wrapping_add)
    }

    /// Merges by a recipe.
    pub(crate) fn merge(&mut self, recipe: &Recipe, detail: Detail) -> MergeReport {
        let resources = Resources {
            threads: rayon::current_num_threads(),
            memory_bytes: 512 << 20,
        };
        let tensors =
            vec![TensorExtent::new("w", self.merged.len()).in_rows_of(4096.min(self.merged.len()))];
        let plan = MergePlan::new(
            recipe.clone(),
            tensors,
            self.updates.len(),
            resources,
            detail,
        )
        .expect("a sound recipe");
        let updates: Vec<Contribution<'_>> = self
            .updates
            .iter()
            .map(|update| Contribution::new(update, 1.0))
            .collect();
        let inputs = Inputs {
            base: &self.base,
            updates: &updates,
            trusted: Some(0),
            history: History::default(),
        };
        let target = Target(self.merged.chunks_mut(RUN).map(Mutex::new).collect());
        let control = Control {
            cancelled: &AtomicBool::new(false),
            progress: &|_| {},
        };
        merge(&plan, &inputs, &Outputs::model(&target), &control).expect("sound inputs")
    }
}

/// The recipes that are timed, by name, as far as so many clients allow them.
pub(crate) fn recipes(clients: usize) -> Vec<(&'static str, Recipe)> {
    let ties = Recipe::of(Method::Ties(Ties {
        elect: Elect::Mass,
        even: Even::Nothing,
        divide: Divide::Weights,
    }));
    let sparsify = |rule| {
        Some(Sparsify {
            rule,
            scope: Scope::Tensor,
            rescale: Rescale::Nothing,
        })
    };
    let tolerate = clients.saturating_sub(3) / 4;
    let neighbours = Neighbours::Paper;
    let trimmed = |tolerate| Recipe::of(Method::TrimmedMean { tolerate });
    let all = vec![
        ("mean", Recipe::of(Method::Mean)),
        ("trimmed-mean f=1", trimmed(1)),
        ("trimmed-mean f=3", trimmed(3)),
        ("median", Recipe::of(Method::Median { tolerate: 0 })),
        ("meamed", Recipe::of(Method::Meamed { tolerate: 3 })),
        (
            "ties 0.2",
            Recipe {
                sparsify: sparsify(SparsifyRule::Trim { density: 0.2 }),
                ..ties.clone()
            },
        ),
        (
            "dare-ties 0.2",
            Recipe {
                sparsify: sparsify(SparsifyRule::Dare { density: 0.2 }),
                ..ties
            },
        ),
        (
            "krum",
            Recipe::of(Method::Krum {
                tolerate,
                neighbours,
            }),
        ),
        (
            "geometric-median",
            Recipe::of(Method::GeometricMedian {
                nu: 1e-6,
                iterations: 1000,
                start: Start::Mean,
            }),
        ),
        (
            "bulyan",
            Recipe::of(Method::Bulyan {
                tolerate,
                neighbours,
            }),
        ),
        (
            "nnm, trimmed-mean",
            Recipe {
                before: vec![fedmerge_merge::Before::Nnm { tolerate }],
                ..trimmed(tolerate)
            },
        ),
    ];
    all.into_iter()
        .filter(|(_, recipe)| recipe.check(clients).is_ok())
        .collect()
}
