//! Models in memory, and one call that merges them.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use crate::engine::merge_in;
use crate::sparsify::Magnitude;
use crate::{
    BlockError, BlockSink, BlockSource, Contribution, Control, Detail, Divide, Elect, Even,
    History, Inputs, MergeError, MergePlan, MergeReport, Method, Neighbours, Outputs, Recipe,
    Rescale, Resources, Scope, Sparsify, SparsifyRule, Start, TensorExtent, Ties, Values,
};

/// All tensors of a model.
pub(super) type Tensors<T = f32> = Vec<Vec<T>>;

/// A model that lends its memory.
pub(super) struct Memory<T>(pub(super) Tensors<T>);

impl BlockSource for Memory<f32> {
    fn read<'a>(
        &'a self,
        tensor: usize,
        offset: usize,
        len: usize,
        _: &'a mut [f32],
    ) -> Result<Values<'a>, BlockError> {
        Ok(Values::F32(&self.0[tensor][offset..offset + len]))
    }
}

impl BlockSource for Memory<f64> {
    fn read<'a>(
        &'a self,
        tensor: usize,
        offset: usize,
        len: usize,
        _: &'a mut [f32],
    ) -> Result<Values<'a>, BlockError> {
        Ok(Values::F64(&self.0[tensor][offset..offset + len]))
    }
}

pub(super) struct Sink(pub(super) Mutex<Tensors<f64>>);

impl Sink {
    pub(super) fn like<T>(tensors: &Tensors<T>) -> Self {
        Self(Mutex::new(
            tensors
                .iter()
                .map(|values| vec![f64::NAN; values.len()])
                .collect(),
        ))
    }

    pub(super) fn into_tensors(self) -> Tensors<f64> {
        self.0.into_inner().unwrap()
    }
}

impl BlockSink for Sink {
    fn write(&self, tensor: usize, offset: usize, values: &[f64]) -> Result<(), BlockError> {
        self.0.lock().unwrap()[tensor][offset..offset + values.len()].copy_from_slice(values);
        Ok(())
    }
}

pub(super) const AMPLE: Resources = Resources {
    threads: 2,
    memory_bytes: 1 << 30,
};

/// A merge in memory.
#[derive(Clone)]
pub(super) struct Merge<'a, T> {
    pub(super) recipe: Recipe,
    pub(super) base: &'a Tensors<T>,
    pub(super) updates: &'a [Tensors<T>],
    pub(super) weights: Vec<f64>,
    pub(super) trusted: Option<usize>,
    pub(super) resources: Resources,
    pub(super) detail: Detail,
    /// How many values a row has, of every tensor that can be cut into such rows.
    pub(super) row: usize,
}

impl<'a, T: Magnitude> Merge<'a, T>
where
    Memory<T>: BlockSource,
{
    /// Of equal weights, the first client trusted, with ample resources.
    pub(super) fn new(recipe: Recipe, base: &'a Tensors<T>, updates: &'a [Tensors<T>]) -> Self {
        Self {
            recipe,
            base,
            updates,
            weights: vec![1.0; updates.len()],
            trusted: Some(0),
            resources: AMPLE,
            detail: Detail::Brief,
            row: 7,
        }
    }

    pub(super) fn extents(&self) -> Vec<TensorExtent> {
        let tensors = self.base.iter().enumerate();
        tensors
            .map(|(index, values)| {
                let extent = TensorExtent::new(format!("t{index}"), values.len());
                if values.len().is_multiple_of(self.row) {
                    extent.in_rows_of(self.row)
                } else {
                    extent
                }
            })
            .collect()
    }

    pub(super) fn plan(&self) -> MergePlan {
        let recipe = self.recipe.clone();
        MergePlan::new(
            recipe,
            self.extents(),
            self.updates.len(),
            self.resources,
            self.detail,
        )
        .unwrap()
    }

    pub(super) fn run(&self) -> Result<(Tensors<f64>, MergeReport), MergeError> {
        self.run_after(History::default())
    }

    pub(super) fn run_after(
        &self,
        history: History<'_>,
    ) -> Result<(Tensors<f64>, MergeReport), MergeError> {
        let sources: Vec<Memory<T>> = self.updates.iter().cloned().map(Memory).collect();
        let pairs = sources.iter().zip(&self.weights);
        let updates: Vec<Contribution<'_>> = pairs
            .map(|(source, &weight)| Contribution::new(source, weight))
            .collect();
        let base = Memory(self.base.clone());
        let inputs = Inputs {
            base: &base,
            updates: &updates,
            trusted: self.trusted,
            history,
        };
        let sink = Sink::like(self.base);
        let report = merge_in::<T>(&self.plan(), &inputs, &Outputs::model(&sink), &GO_ON)?;
        Ok((sink.into_tensors(), report))
    }

    /// The merged model.
    pub(super) fn model(&self) -> Tensors<f64> {
        self.run().unwrap().0
    }
}

static NEVER: AtomicBool = AtomicBool::new(false);

pub(super) const GO_ON: Control<'static> = Control {
    cancelled: &NEVER,
    progress: &|_| {},
};

pub(super) fn bits(tensors: &Tensors<f64>) -> Vec<u64> {
    tensors
        .iter()
        .flatten()
        .map(|value| value.to_bits())
        .collect()
}

pub(super) fn zeros<T: Default + Clone>(like: &Tensors<T>) -> Tensors<T> {
    like.iter()
        .map(|values| vec![T::default(); values.len()])
        .collect()
}

pub(super) fn sparsify(rule: SparsifyRule, scope: Scope, rescale: Rescale) -> Option<Sparsify> {
    Some(Sparsify {
        rule,
        scope,
        rescale,
    })
}

pub(super) const TIES: Ties = Ties {
    elect: Elect::Mass,
    even: Even::Nothing,
    divide: Divide::Weights,
};

/// Every method that so many clients allow, hostile clients as many as possible.
pub(super) fn methods(clients: usize) -> Vec<Method> {
    let neighbours = Neighbours::Byzfl;
    let minority = clients.saturating_sub(1) / 2;
    let few = clients.saturating_sub(2) / 2;
    let mut methods = vec![
        Method::Mean,
        Method::Median { tolerate: minority },
        Method::TrimmedMean { tolerate: minority },
        Method::TrimmedMean {
            tolerate: minority / 2,
        },
        Method::Meamed { tolerate: minority },
        Method::Phocas { tolerate: minority },
        Method::SignMajority,
        Method::TaskArithmetic { normalize: false },
        Method::TaskArithmetic { normalize: true },
        Method::Ties(TIES),
        Method::Ties(Ties {
            elect: Elect::Count,
            even: Even::Positive,
            divide: Divide::Count,
        }),
        Method::Sce { density: 1.0 },
        Method::Sce { density: 0.4 },
        Method::Ram { epsilon: 1e-5 },
        Method::Magmax,
        Method::Consensus {
            threshold: 0.2,
            support: 2,
        },
        Method::GeometricMedian {
            nu: 0.1,
            iterations: 20,
            start: Start::Mean,
        },
        Method::CenteredClipping {
            radius: 3.0,
            iterations: 3,
        },
        Method::Mda {
            tolerate: minority.min(3),
        },
        Method::Caf { tolerate: minority },
        Method::Dnc {
            tolerate: minority,
            drop: 1.0,
        },
        Method::Flame,
        Method::Monna { tolerate: minority },
    ];
    if clients >= 2 {
        methods.extend([
            Method::Krum {
                tolerate: few,
                neighbours,
            },
            Method::MultiKrum {
                tolerate: few,
                neighbours,
                selected: None,
            },
            Method::Fltrust,
        ]);
    }
    if clients >= 7 {
        methods.push(Method::Bulyan {
            tolerate: (clients - 3) / 4,
            neighbours,
        });
    }
    methods
}

/// Recipes that use every stage, each with methods that it can stand before.
pub(super) fn staged(clients: usize) -> Vec<Recipe> {
    use crate::{Before, ClipNorm};
    let minority = clients.saturating_sub(1) / 2;
    let robust = Recipe::of(Method::TrimmedMean {
        tolerate: minority / 2,
    });
    let ties = Recipe::of(Method::Ties(TIES));
    let before = |before: Vec<Before>, recipe: &Recipe| Recipe {
        before,
        ..recipe.clone()
    };
    let clip = |norm| Before::Clip { norm };
    let nnm = Before::Nnm { tolerate: minority };
    vec![
        before(vec![clip(ClipNorm::Median)], &robust),
        before(vec![clip(ClipNorm::Fixed(40.0))], &ties),
        before(vec![Before::Arc { tolerate: minority }, nnm], &robust),
        before(vec![nnm, clip(ClipNorm::Median)], &Recipe::of(Method::Mean)),
        Recipe {
            scope: Scope::Tensor,
            ..before(vec![nnm], &robust)
        },
        Recipe {
            scope: Scope::Tensor,
            ..Recipe::of(Method::Mda {
                tolerate: minority.min(2),
            })
        },
        Recipe {
            seed: 3,
            ..before(
                vec![Before::Bucketing { size: 2 }],
                &Recipe::of(Method::Median { tolerate: 0 }),
            )
        },
    ]
    .into_iter()
    .chain(thinned(clients))
    .collect()
}

/// Recipes that drop values.
fn thinned(clients: usize) -> Vec<Recipe> {
    use crate::{Before, ClipNorm};
    let robust = Recipe::of(Method::TrimmedMean {
        tolerate: clients.saturating_sub(1) / 4,
    });
    let ties = Recipe::of(Method::Ties(TIES));
    let trim = SparsifyRule::Trim { density: 0.3 };
    let della = SparsifyRule::Della {
        density: 0.5,
        epsilon: 0.2,
    };
    let clip = |norm| Before::Clip { norm };
    let dropping = |rule, scope, rescale, recipe: &Recipe| Recipe {
        sparsify: sparsify(rule, scope, rescale),
        seed: 7,
        ..recipe.clone()
    };
    vec![
        dropping(trim, Scope::Tensor, Rescale::Nothing, &ties),
        dropping(trim, Scope::Model, Rescale::Mass, &ties),
        dropping(trim, Scope::Tensor, Rescale::Nothing, &robust),
        dropping(
            SparsifyRule::Dare { density: 0.4 },
            Scope::Tensor,
            Rescale::Probability,
            &ties,
        ),
        dropping(
            SparsifyRule::Dare { density: 0.4 },
            Scope::Tensor,
            Rescale::Mass,
            &Recipe::of(Method::Mean),
        ),
        dropping(
            SparsifyRule::Dare { density: 0.1 },
            Scope::Tensor,
            Rescale::Probability,
            &Recipe::of(Method::TaskArithmetic { normalize: false }),
        ),
        dropping(della, Scope::Tensor, Rescale::Probability, &ties),
        dropping(della, Scope::Tensor, Rescale::Mass, &robust),
        dropping(
            SparsifyRule::Breadcrumbs {
                density: 0.5,
                gamma: 0.1,
            },
            Scope::Tensor,
            Rescale::Nothing,
            &ties,
        ),
        Recipe {
            before: vec![clip(ClipNorm::Median)],
            ..dropping(
                trim,
                Scope::Tensor,
                Rescale::Nothing,
                &Recipe::of(Method::GeometricMedian {
                    nu: 0.1,
                    iterations: 5,
                    start: Start::Zero,
                }),
            )
        },
    ]
}

/// Values of many sizes and both signs, the same for the same seed.
pub(super) fn noise(lengths: &[usize], seed: u32) -> Tensors {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let sign_and_fraction = state & 0x807f_ffff;
        f32::from_bits(sign_and_fraction | (120 + (state >> 28)) << 23)
    };
    lengths
        .iter()
        .map(|&length| (0..length).map(|_| next()).collect())
        .collect()
}

/// The same values in `f64`.
pub(super) fn widened(tensors: &Tensors) -> Tensors<f64> {
    tensors
        .iter()
        .map(|values| values.iter().map(|value| f64::from(*value)).collect())
        .collect()
}
