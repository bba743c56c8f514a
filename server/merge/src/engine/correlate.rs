//! Inner products of all task vectors: a pass of its own where a rule needs them before it can start, a by-product otherwise.

use std::ops::Range;

use ndarray::Array2;

use super::census::{Census, Counted, Sizes};
use super::load::{Extra, Room};
use super::schedule::Schedule;
use super::{MergeError, Run};
use crate::gram::Gram;
use crate::kernel::products::{Products, place};
use crate::kernel::{Element, Rows, triangle};
use crate::plan::{Block, MergePlan, Pass};

/// Products of all rows, for each scope; with what the census counted, tensor by tensor.
#[derive(Debug)]
pub(super) struct Seen {
    /// A triangle for each scope, in order.
    triangles: Vec<Vec<f64>>,
    scopes: Vec<Range<usize>>,
    clients: usize,
    rows: usize,
    /// For each tensor; empty without a census.
    pub(super) counted: Vec<Option<Counted>>,
    pub(super) sizes: Option<Sizes>,
}

/// What a run of values added.
#[derive(Debug)]
pub(super) struct SeenRun {
    tensor: usize,
    products: Vec<f64>,
    counted: Option<Counted>,
}

/// One thread's eyes.
#[derive(Debug)]
pub(super) struct Eyes<T> {
    products: Products<T>,
    pub(super) census: Option<Census>,
}

impl<T: Element> Eyes<T> {
    pub(super) fn new(run: Run<'_>) -> Self {
        Self {
            products: Products::new(run.rows()),
            census: Census::new(run),
        }
    }

    /// What they take, in bytes.
    pub(super) fn bytes(plan: &MergePlan) -> usize {
        let rows = plan.clients() + 1;
        Products::<T>::bytes(rows) + Census::bytes(plan.clients(), plan.block_len())
    }

    /// What a run leaves, in bytes.
    pub(super) fn run_bytes(plan: &MergePlan) -> usize {
        triangle(plan.clients() + 2) * size_of::<f64>() + Counted::bytes(plan.clients())
    }

    /// Nothing seen of a run yet.
    pub(super) fn begin(&self, run: Run<'_>, tensor: usize) -> SeenRun {
        SeenRun {
            tensor,
            products: vec![0.0; triangle(run.rows() + 1)],
            counted: self.census.as_ref().map(|census| census.begin(run)),
        }
    }

    /// Looks at one block of all rows.
    pub(super) fn look(
        &mut self,
        run: Run<'_>,
        block: Block,
        rows: Rows<'_, T>,
        seen: &mut SeenRun,
    ) -> Result<(), MergeError> {
        self.products
            .add(rows, run.plan.clients(), &mut seen.products);
        match (&mut self.census, &mut seen.counted) {
            (Some(census), Some(counted)) => census.count(run, block, rows, counted),
            (_, None) | (None, _) => Ok(()),
        }
    }
}

impl Seen {
    /// Nothing seen yet.
    pub(super) fn new(run: Run<'_>) -> Self {
        let scopes = run.plan.scopes(run.plan.recipe().scope);
        let rows = run.rows();
        Self {
            triangles: vec![vec![0.0; triangle(rows + 1)]; scopes.len()],
            scopes,
            clients: run.plan.clients(),
            rows,
            counted: vec![None; run.plan.tensors().len()],
            sizes: None,
        }
    }

    /// What it takes for good, in bytes.
    pub(super) fn bytes(plan: &MergePlan) -> Option<usize> {
        let scopes = plan.scopes(plan.recipe().scope).len();
        let triangles =
            scopes.checked_mul(2 * (plan.clients() + 2).checked_pow(2)? * size_of::<f64>())?;
        let counted = plan
            .tensors()
            .len()
            .checked_mul(Counted::bytes(plan.clients()))?;
        triangles.checked_add(counted)
    }

    /// Adds a run, in the order of runs.
    pub(super) fn add(&mut self, part: SeenRun) {
        let scope = self
            .scopes
            .partition_point(|scope| scope.end <= part.tensor);
        for (sum, product) in self.triangles[scope].iter_mut().zip(part.products) {
            *sum += product;
        }
        if let Some(counted) = part.counted {
            match &mut self.counted[part.tensor] {
                Some(sum) => sum.add(&counted),
                slot @ None => *slot = Some(counted),
            }
        }
    }

    /// The matrix of each scope.
    pub(super) fn grams(&self) -> Vec<Gram> {
        self.triangles
            .iter()
            .map(|triangle| self.gram(triangle))
            .collect()
    }

    /// The matrix of the whole model.
    pub(super) fn whole(&self) -> Gram {
        let mut sum = vec![0.0; triangle(self.rows + 1)];
        for triangle in &self.triangles {
            for (sum, product) in sum.iter_mut().zip(triangle) {
                *sum += product;
            }
        }
        self.gram(&sum)
    }

    fn gram(&self, triangle: &[f64]) -> Gram {
        let size = self.rows + 1;
        let at = |(row, column): (usize, usize)| triangle[place(row.max(column), row.min(column))];
        Gram::new(self.clients, Array2::from_shape_fn((size, size), at))
    }
}

/// The pass of its own.
pub(super) fn correlate<T: Element>(run: Run<'_>) -> Result<Seen, MergeError> {
    let plan = run.plan;
    let new_lane = |_| {
        (
            Room::<T>::new(run.rows(), plan.block_len()),
            Eyes::<T>::new(run),
        )
    };
    let mut lanes: Vec<(Room<T>, Eyes<T>)> = (0..plan.lanes()).map(new_lane).collect();
    let mut seen = Seen::new(run);
    let schedule = Schedule {
        run,
        pass: Pass::Correlate,
        total: plan.run_count(),
    };
    schedule.in_order(
        plan.runs(0..plan.tensors().len()),
        &mut lanes,
        |(room, eyes), block| {
            let mut part = eyes.begin(run, block.tensor);
            for piece in block.pieces(plan.block_len()) {
                let rows = room.load(run, piece, Extra::Step)?;
                let rows = Rows::new(&rows, piece.len);
                eyes.look(run, piece, rows, &mut part)?;
                // What is no number in a row is none in its products.
                if part.products.iter().any(|product| !product.is_finite()) {
                    run.check_finite(piece, rows)?;
                }
            }
            Ok(part)
        },
        |part| seen.add(part),
    )?;
    seen.sizes = Census::sizes(lanes.into_iter().filter_map(|(_, eyes)| eyes.census));
    Ok(seen)
}
