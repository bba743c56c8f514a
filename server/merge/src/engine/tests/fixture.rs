//! Models in memory, and one call that merges them.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use crate::reference::Tensors;
use crate::{
    BlockError, BlockSink, BlockSource, Contribution, Control, Elect, MergeError, MergePlan,
    MergeReport, Method, Recipe, Resources, TensorExtent, TrimScope, merge,
};

pub(super) struct Memory(pub(super) Tensors);

impl BlockSource for Memory {
    fn read(&self, tensor: usize, offset: usize, out: &mut [f32]) -> Result<(), BlockError> {
        out.copy_from_slice(&self.0[tensor][offset..offset + out.len()]);
        Ok(())
    }
}

pub(super) struct Sink(pub(super) Mutex<Tensors>);

impl BlockSink for Sink {
    fn write(&self, tensor: usize, offset: usize, values: &[f32]) -> Result<(), BlockError> {
        self.0.lock().unwrap()[tensor][offset..offset + values.len()].copy_from_slice(values);
        Ok(())
    }
}

pub(super) const AMPLE: Resources = Resources {
    threads: 2,
    memory_bytes: 1 << 30,
};

pub(super) fn plan(
    recipe: &Recipe,
    base: &Tensors,
    clients: usize,
    resources: Resources,
) -> MergePlan {
    let extents = base
        .iter()
        .enumerate()
        .map(|(index, values)| TensorExtent::new(format!("t{index}"), values.len()));
    MergePlan::new(recipe.clone(), extents.collect(), clients, resources).unwrap()
}

pub(super) fn run(
    plan: &MergePlan,
    base: &Tensors,
    updates: &[Tensors],
    weights: &[f64],
) -> Result<(Tensors, MergeReport), MergeError> {
    let sources: Vec<Memory> = updates.iter().cloned().map(Memory).collect();
    let contributions: Vec<Contribution<'_>> = sources
        .iter()
        .zip(weights)
        .map(|(source, &weight)| Contribution { source, weight })
        .collect();
    let sink = Sink(Mutex::new(
        base.iter()
            .map(|values| vec![f32::NAN; values.len()])
            .collect(),
    ));
    let control = Control {
        cancelled: &AtomicBool::new(false),
        progress: &|_| {},
    };
    let report = merge(plan, &Memory(base.clone()), &contributions, &sink, &control)?;
    Ok((sink.0.into_inner().unwrap(), report))
}

/// Merges with ample resources.
pub(super) fn merged(
    recipe: &Recipe,
    base: &Tensors,
    updates: &[Tensors],
    weights: &[f64],
) -> Tensors {
    run(
        &plan(recipe, base, updates.len(), AMPLE),
        base,
        updates,
        weights,
    )
    .unwrap()
    .0
}

pub(super) fn bits(tensors: &Tensors) -> Vec<u32> {
    tensors
        .iter()
        .flatten()
        .map(|value| value.to_bits())
        .collect()
}

/// Every method; `tolerate` as large as so many clients allow.
pub(super) fn methods(clients: usize) -> Vec<Method> {
    let ties = |density, scope, elect| Method::Ties {
        density,
        scope,
        elect,
    };
    vec![
        Method::Mean,
        Method::Median,
        Method::TrimmedMean {
            tolerate: (clients - 1) / 2,
        },
        Method::TrimmedMean {
            tolerate: (clients - 1) / 4,
        },
        Method::TaskArithmetic { normalize: false },
        Method::TaskArithmetic { normalize: true },
        ties(0.3, TrimScope::Tensor, Elect::Mass),
        ties(0.3, TrimScope::Model, Elect::Count),
        ties(1.0, TrimScope::Model, Elect::Mass),
    ]
}

/// A base, updates and weights whose squares and sums are exact in `f64`.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) base: Tensors,
    pub(super) updates: Vec<Tensors>,
    pub(super) weights: Vec<f64>,
}

pub(super) fn tensors() -> impl Strategy<Value = Tensors> {
    let value =
        prop_oneof![3 => -500_i16..500, 1 => Just(0)].prop_map(|value| f32::from(value) / 16.0);
    proptest::collection::vec(value, 90)
        .prop_map(|values| vec![values[..9].to_vec(), vec![], values[9..].to_vec()])
}

pub(super) fn cases() -> impl Strategy<Value = Case> {
    let clients = prop_oneof![8 => 1_usize..10, 1 => 64_usize..67];
    clients.prop_flat_map(|clients| {
        let updates = proptest::collection::vec(tensors(), clients);
        let weights = proptest::collection::vec((1_u8..100).prop_map(f64::from), clients);
        (tensors(), updates, weights).prop_map(|(base, updates, weights)| Case {
            base,
            updates,
            weights,
        })
    })
}

/// Values of all sizes and signs, the same for the same seed.
pub(super) fn noise(lengths: &[usize], seed: u32) -> Tensors {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let sign_and_fraction = state & 0x807f_ffff;
        f32::from_bits(sign_and_fraction | (110 + (state >> 27)) << 23)
    };
    lengths
        .iter()
        .map(|&length| (0..length).map(|_| next()).collect())
        .collect()
}
