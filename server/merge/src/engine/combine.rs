//! The last pass: each run of every task vector once more, merged by the rule and added to the base.
//!
//! The stages of one value, in order: drop, mix or scale, rule, lambda, optimizer, base. What is dropped of a task vector does not depend
//! on its scale, and no recipe both drops and mixes.

mod job;

use half::bf16;

use self::job::{Job, check_native, native_halves, read_wanted};
use super::correlate::{Eyes, Seen, SeenRun};
use super::drop::Dropper;
use super::load;
use super::measure::Measured;
use super::optimize::Moments;
use super::rows::arrange;
use super::schedule::Schedule;
use super::vary::Varied;
use super::{MergeError, Run};
use crate::coefficients::Decision;
use crate::kernel::{Element, Rows, dot, sum_of_squares};
use crate::method::Workspace;
use crate::plan::{Block, Pass, REDUCTION_UNIT};
use crate::sparsify::Magnitude;

/// What earlier passes found and decided.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stages<'a> {
    pub(super) decisions: &'a [Decision],
    pub(super) measured: Option<&'a Measured>,
    pub(super) varied: Option<&'a Varied>,
    /// Whether nobody has looked at all rows together yet.
    pub(super) looks: bool,
}

/// What the merge did to the model, and what was seen on the way.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) squares: f64,
    pub(super) non_finite: u64,
    /// With diagnostics: products of each client's task vector, and of the step before, with the merged one.
    pub(super) products: Vec<f64>,
    /// With diagnostics: the square of the merged task vector.
    pub(super) merged_squares: f64,
    pub(super) seen: Option<Seen>,
    /// For each scope: the coefficients of the clients.
    pub(super) weights: Vec<Vec<f64>>,
}

/// One run's part of the step.
struct Part {
    squares: f64,
    non_finite: u64,
    products: Vec<f64>,
    merged_squares: f64,
    seen: Option<SeenRun>,
}

/// Merges all runs.
pub(super) fn combine<T: Magnitude>(run: Run<'_>, stages: &Stages<'_>) -> Result<Step, MergeError> {
    let plan = run.plan;
    let job = Job::new(run, stages);
    let mut lanes: Vec<Lane<T>> = (0..plan.lanes()).map(|_| Lane::new(&job)).collect();
    let mut step = Step {
        products: vec![0.0; run.rows()],
        seen: job.looks.then(|| Seen::new(run)),
        weights: job
            .arrangements
            .iter()
            .map(|arrangement| arrangement.weights.clone())
            .collect(),
        ..Step::default()
    };
    let schedule = Schedule {
        run,
        pass: Pass::Combine,
        total: plan.run_count(),
    };
    schedule.in_order(
        plan.runs(0..plan.tensors().len()),
        &mut lanes,
        |lane, block| lane.merge(&job, block),
        |part| step.add(part),
    )?;
    if let Some(seen) = &mut step.seen {
        let censuses = lanes
            .into_iter()
            .filter_map(|lane| lane.eyes)
            .filter_map(|eyes| eyes.census);
        seen.sizes = super::census::Census::sizes(censuses);
    }
    Ok(step)
}

impl Step {
    fn add(&mut self, part: Part) {
        self.squares += part.squares;
        self.non_finite += part.non_finite;
        self.merged_squares += part.merged_squares;
        for (sum, product) in self.products.iter_mut().zip(part.products) {
            *sum += product;
        }
        if let (Some(seen), Some(part)) = (&mut self.seen, part.seen) {
            seen.add(part);
        }
    }
}

/// The buffers of one thread.
struct Lane<T: Magnitude> {
    raw: Vec<f32>,
    rows: Vec<T>,
    kept: Vec<T>,
    made: Vec<T>,
    base: Vec<f64>,
    merged: Vec<f64>,
    workspace: Workspace<T>,
    halves: Workspace<bf16>,
    dropper: Dropper<T>,
    moments: Option<Moments>,
    eyes: Option<Eyes<T>>,
    stride: usize,
}

impl<T: Magnitude> Lane<T> {
    fn new(job: &Job<'_>) -> Self {
        let (run, stride) = (job.run, job.run.plan.block_len());
        let arrangement = &job.arrangements[0];
        let rows = arrangement.origins.len();
        let made = if job.mixes { rows } else { 0 };
        let kept = if job.drops() { run.plan.clients() } else { 0 };
        Self {
            raw: vec![0.0; (run.rows() + 1) * stride],
            rows: vec![T::default(); run.rows() * stride],
            kept: vec![T::default(); kept * stride],
            made: vec![T::default(); made * stride],
            base: vec![0.0; stride],
            merged: vec![0.0; stride],
            workspace: arrangement.rule.workspace(rows),
            halves: arrangement.rule.workspace(rows),
            dropper: Dropper::new(run.plan),
            moments: Moments::new(run),
            eyes: job.looks.then(|| Eyes::new(run)),
            stride,
        }
    }

    fn merge(&mut self, job: &Job<'_>, block: Block) -> Result<Part, MergeError> {
        let mut part = Part {
            squares: 0.0,
            non_finite: 0,
            products: vec![0.0; if job.is_full { job.run.rows() } else { 0 }],
            merged_squares: 0.0,
            seen: self
                .eyes
                .as_ref()
                .map(|eyes| eyes.begin(job.run, block.tensor)),
        };
        for piece in block.pieces(self.stride) {
            self.merge_piece(job, piece, &mut part)?;
        }
        Ok(part)
    }

    fn merge_piece(
        &mut self,
        job: &Job<'_>,
        block: Block,
        part: &mut Part,
    ) -> Result<(), MergeError> {
        let (run, stride) = (job.run, self.stride);
        let arrangement = job.arrangement(block.tensor);
        let (base, raw) = self.raw.split_at_mut(stride);
        run.read(run.inputs.base, "the base", block, base)?
            .convert(&mut self.base[..block.len]);
        let merged = &mut self.merged[..block.len];
        let is_wanted = |row: usize| job.is_full || arrangement.wanted[row];
        let values = read_wanted(run, block, raw, stride, is_wanted)?;
        if let Some(rows) = native_halves(arrangement, &values).filter(|_| job.is_native()) {
            let rows = Rows::new(&rows, block.len);
            if job.checks {
                check_native(run, block, arrangement, rows)?;
            }
            arrangement.rule.combine(rows, &mut self.halves, merged);
            return self.step(job, block, part);
        }
        let clients = load::line_up(&values, &job.sparse, job.absent, &mut self.rows, stride);
        if job.checks {
            for (client, row) in clients.iter().enumerate().take(run.plan.clients()) {
                run.check_row(client, block, row)?;
            }
        }
        if let (Some(eyes), Some(seen)) = (&mut self.eyes, &mut part.seen) {
            eyes.look(run, block, Rows::new(&clients, block.len), seen)?;
        }
        let kept = job.drop_values(&mut self.dropper, block, &clients, &mut self.kept)?;
        let rows = arrange(
            &arrangement.origins,
            &kept,
            &mut self.made,
            stride,
            block.len,
        );
        let rule = job.rule(arrangement, block.tensor);
        rule.combine(Rows::new(&rows, block.len), &mut self.workspace, merged);
        if job.is_full {
            measure_against(&clients, merged, part);
        }
        self.step(job, block, part)
    }

    /// From the merged task vector to the new model.
    fn step(&mut self, job: &Job<'_>, block: Block, part: &mut Part) -> Result<(), MergeError> {
        let (out, merged) = (&mut self.base[..block.len], &mut self.merged[..block.len]);
        let lambda = job.run.plan.recipe().lambda;
        for step in &mut *merged {
            *step *= lambda;
        }
        if let Some(moments) = &mut self.moments {
            moments.step(job.run, block, merged)?;
        }
        for unit in merged.chunks(REDUCTION_UNIT) {
            part.squares += sum_of_squares(unit);
        }
        for (value, step) in out.iter_mut().zip(&*merged) {
            *value += step;
            part.non_finite += u64::from(!f32::nearest(*value).is_finite());
        }
        job.run
            .write(job.run.outputs.model, "the merged model", block, out)
    }
}

/// Adds the products of all rows with the merged task vector, and its square.
fn measure_against<T: Element>(rows: &[&[T]], merged: &[f64], part: &mut Part) {
    for (sum, row) in part.products.iter_mut().zip(rows) {
        for (row, merged) in row
            .chunks(REDUCTION_UNIT)
            .zip(merged.chunks(REDUCTION_UNIT))
        {
            *sum += dot(row, merged);
        }
    }
    for unit in merged.chunks(REDUCTION_UNIT) {
        part.merged_squares += sum_of_squares(unit);
    }
}
