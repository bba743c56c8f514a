//! The pass that takes each task vector by itself: lengths, the magnitudes between which values are kept, sums of magnitudes.
//!
//! A job is one scope of one client. A search for magnitudes may need the scope more than once; lengths come with its first time through.

use std::ops::Range;

use super::drop::{Dropper, Drops, sparsifiers};
use super::load::{Absent, line_up};
use super::schedule::Schedule;
use super::{MergeError, Run};
use crate::gram::Gram;
use crate::kernel::sum_of_squares;
use crate::plan::{Block, MergePlan, Pass, REDUCTION_UNIT};
use crate::recipe::Scope;
use crate::sparsify::{Bounds, Magnitude, Search, Sparsifier, mass, mass_factor, sample_spans};

/// How many values are looked at in every way before the next are: they stay in the nearest cache, and those come into it meanwhile.
const PART: usize = REDUCTION_UNIT / 4;

/// What was measured of every client.
#[derive(Debug)]
pub(super) struct Measured {
    /// `‖τ‖²` by client and tensor, where somebody asks for it.
    squares: Option<Vec<Vec<f64>>>,
    /// By client and scope of the sparsifying stage.
    bounds: Vec<Vec<Bounds>>,
    /// By client and tensor: by what kept values are multiplied.
    factors: Vec<Vec<f64>>,
    scope: Scope,
}

/// One scope of one client.
#[derive(Debug, Clone, Copy)]
struct Job {
    client: usize,
    first: usize,
    end: usize,
}

/// What a job leaves.
#[derive(Debug)]
struct Part {
    job: Job,
    squares: Vec<f64>,
    bounds: Bounds,
    factors: Vec<f64>,
}

/// The buffers of one thread.
struct Lane<T> {
    raw: Vec<f32>,
    row: Vec<T>,
    kept: Vec<T>,
    search: Option<Search<T>>,
    dropper: Dropper<T>,
}

/// Measures all clients.
pub(super) fn measure<T: Magnitude>(run: Run<'_>) -> Result<Measured, MergeError> {
    let plan = run.plan;
    let scope = plan
        .ranks()
        .map_or(Scope::Tensor, |sparsify| sparsify.scope);
    let scopes = plan.scopes(scope);
    let sparsifiers = sparsifiers(run);
    let mut measured = Measured {
        squares: plan
            .needs_lengths()
            .then(|| vec![vec![0.0; plan.tensors().len()]; plan.clients()]),
        bounds: vec![vec![Bounds::ALL; scopes.len()]; plan.clients()],
        factors: vec![vec![1.0; plan.tensors().len()]; plan.clients()],
        scope,
    };
    let mut lanes: Vec<Lane<T>> = (0..plan.lanes()).map(|_| Lane::new(plan)).collect();
    let jobs = (0..plan.clients()).flat_map(|client| {
        scopes.iter().map(move |scope| Job {
            client,
            first: scope.start,
            end: scope.end,
        })
    });
    let schedule = Schedule {
        run,
        pass: Pass::Measure,
        total: plan.clients() * scopes.len(),
    };
    schedule.in_order(
        jobs,
        &mut lanes,
        |lane, job| lane.measure(run, job, sparsifiers[job.client]),
        |part| measured.add(&part),
    )?;
    Ok(measured)
}

impl Measured {
    /// What it takes, in bytes.
    pub(super) fn bytes(plan: &MergePlan) -> Option<usize> {
        let tensor = 2 * size_of::<f64>() + size_of::<Bounds>();
        plan.clients()
            .checked_mul(plan.tensors().len().checked_mul(tensor)?.checked_add(128)?)
    }

    /// What a lane takes, in bytes.
    pub(super) fn lane_bytes(plan: &MergePlan) -> Option<usize> {
        let rows = plan.block_len() * 3 * size_of::<f32>();
        let search = if plan.ranks().is_some() {
            Search::<f32>::BYTES
        } else {
            0
        };
        Dropper::<f32>::bytes(plan)?.checked_add(rows + search)
    }

    /// The length of a client's task vector, where somebody asked for it.
    pub(super) fn norm(&self, client: usize) -> Option<f64> {
        let squares = &self.squares.as_ref()?[client];
        Some(squares.iter().sum::<f64>().sqrt())
    }

    /// Inner products of lengths alone, for each scope of the recipe.
    pub(super) fn grams(&self, run: Run<'_>) -> Vec<Gram> {
        let scopes = run.plan.scopes(run.plan.recipe().scope);
        let gram = |scope: Range<usize>| {
            let squares = self.squares.iter().flatten();
            let norms = squares.map(|squares| squares[scope.clone()].iter().sum::<f64>().sqrt());
            Gram::of_norms(&norms.collect::<Vec<f64>>())
        };
        scopes.into_iter().map(gram).collect()
    }

    /// `‖τ‖²` of each client in one tensor.
    pub(super) fn energies(&self, tensor: usize) -> Vec<f64> {
        let squares = self.squares.iter().flatten();
        squares.map(|squares| squares[tensor]).collect()
    }

    /// Between which magnitudes a client's values of a tensor are kept.
    pub(super) fn bounds(&self, client: usize, tensor: usize) -> Bounds {
        let scope = match self.scope {
            Scope::Model => 0,
            Scope::Tensor => tensor,
        };
        self.bounds[client][scope]
    }

    /// By what a client's kept values of a tensor are multiplied.
    pub(super) fn factor(&self, client: usize, tensor: usize) -> f64 {
        self.factors[client][tensor]
    }

    fn add(&mut self, part: &Part) {
        let Job { client, first, end } = part.job;
        if let Some(squares) = &mut self.squares {
            squares[client][first..end].copy_from_slice(&part.squares);
        }
        self.factors[client][first..end].copy_from_slice(&part.factors);
        let scope = match self.scope {
            Scope::Model => 0,
            Scope::Tensor => first,
        };
        if let Some(slot) = self.bounds[client].get_mut(scope) {
            *slot = part.bounds;
        }
    }
}

impl<T: Magnitude> Lane<T> {
    fn new(plan: &MergePlan) -> Self {
        let len = plan.block_len();
        Self {
            raw: vec![0.0; len],
            row: vec![T::default(); len],
            kept: vec![T::default(); len],
            search: plan.ranks().map(|_| Search::new()),
            dropper: Dropper::new(plan),
        }
    }

    fn measure(
        &mut self,
        run: Run<'_>,
        job: Job,
        sparsifier: Option<Sparsifier>,
    ) -> Result<Part, MergeError> {
        let tensors = run.plan.tensors()[job.first..job.end].iter();
        let values: usize = tensors.map(|tensor| tensor.elements).sum();
        let kept = sparsifier.and_then(|sparsifier| sparsifier.kept(values as u64));
        let mut squares = vec![0.0; job.end - job.first];
        let mut bounds = Bounds::ALL;
        let mut is_seen = false;
        if let Some(kept) = kept.filter(|_| values > 0) {
            let mut search = self.search.take().unwrap_or_else(Search::new);
            search.begin(values as u64, kept);
            self.sample(run, job, values, &mut search)?;
            while search.next_pass() {
                self.look(
                    run,
                    job,
                    |unit, next| search.count(unit, next),
                    &mut squares,
                )?;
                is_seen = true;
            }
            bounds = search.bounds();
            self.search = Some(search);
        }
        if !is_seen {
            self.look(run, job, |_, _| {}, &mut squares)?;
        }
        let factors = match sparsifier.filter(Sparsifier::keeps_mass) {
            Some(sparsifier) => self.mass_factors(run, job, sparsifier, bounds)?,
            None => vec![1.0; job.end - job.first],
        };
        Ok(Part {
            job,
            squares,
            bounds,
            factors,
        })
    }

    /// Reads what the search wants to see of a scope beforehand.
    fn sample(
        &mut self,
        run: Run<'_>,
        job: Job,
        values: usize,
        search: &mut Search<T>,
    ) -> Result<(), MergeError> {
        let (mut tensor, mut before) = (job.first, 0);
        for wanted in sample_spans(values) {
            let mut at = wanted.start;
            while at < wanted.end {
                while at >= before + run.plan.tensors()[tensor].elements {
                    before += run.plan.tensors()[tensor].elements;
                    tensor += 1;
                }
                let offset = at - before;
                let len = (wanted.end - at).min(run.plan.tensors()[tensor].elements - offset);
                let block = Block {
                    tensor,
                    offset,
                    len,
                };
                search.sample(self.read(run, job.client, block)?);
                at += len;
            }
        }
        Ok(())
    }

    /// Shows a scope to `see`, part by part, each with what follows it; refuses what is no number; and finds the sums of squares of its
    /// tensors where somebody asks for them.
    fn look(
        &mut self,
        run: Run<'_>,
        job: Job,
        mut see: impl FnMut(&[T], &[T]),
        squares: &mut [f64],
    ) -> Result<(), MergeError> {
        squares.fill(0.0);
        let square: fn(&[T]) -> f64 = if run.plan.needs_lengths() {
            sum_of_squares
        } else {
            |_| 0.0
        };
        for block in run.plan.runs(job.first..job.end) {
            run.check_cancelled()?;
            let mut sum = 0.0;
            for piece in block.pieces(run.plan.block_len()) {
                let row = self.read(run, job.client, piece)?;
                for part in piece.pieces(PART) {
                    let (values, next) = row[part.offset - piece.offset..].split_at(part.len);
                    see(values, next);
                    run.check_row(job.client, part, values)?;
                    sum += square(values);
                }
            }
            squares[block.tensor - job.first] += sum;
        }
        Ok(())
    }

    /// Sums magnitudes before and after dropping, tensor by tensor.
    fn mass_factors(
        &mut self,
        run: Run<'_>,
        job: Job,
        sparsifier: Sparsifier,
        bounds: Bounds,
    ) -> Result<Vec<f64>, MergeError> {
        let mut masses = vec![[0.0; 2]; job.end - job.first];
        let drop = Drops {
            client: job.client,
            sparsifier,
            bounds,
            factor: 1.0,
            fill: T::default(),
        };
        for block in run.plan.runs(job.first..job.end) {
            run.check_cancelled()?;
            let mut sums = [0.0; 2];
            for piece in block.pieces(run.plan.block_len()) {
                let row = read_row(run, job.client, piece, &mut self.raw, &mut self.row)?;
                let kept = &mut self.kept[..piece.len];
                self.dropper.apply(run, &drop, piece, row, kept)?;
                for (unit, kept) in row.chunks(REDUCTION_UNIT).zip(kept.chunks(REDUCTION_UNIT)) {
                    sums[0] += mass(unit);
                    sums[1] += mass(kept);
                }
            }
            masses[block.tensor - job.first][0] += sums[0];
            masses[block.tensor - job.first][1] += sums[1];
        }
        Ok(masses
            .iter()
            .map(|[before, after]| mass_factor(*before, *after))
            .collect())
    }

    fn read<'b>(
        &'b mut self,
        run: Run<'b>,
        client: usize,
        block: Block,
    ) -> Result<&'b [T], MergeError> {
        read_row(run, client, block, &mut self.raw, &mut self.row)
    }
}

/// One client's block, what was not sent counted as no change.
fn read_row<'a, T: Magnitude>(
    run: Run<'a>,
    client: usize,
    block: Block,
    raw: &'a mut [f32],
    row: &'a mut [T],
) -> Result<&'a [T], MergeError> {
    let values = run.read_update(client, block, raw)?;
    let is_sparse = run.inputs.updates[client].source.is_sparse();
    let stride = row.len();
    Ok(line_up(&[values], &[is_sparse], Absent::Zero, row, stride)[0])
}
