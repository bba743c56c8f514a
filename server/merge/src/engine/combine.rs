//! The last pass: each run of every task vector once more, merged by the rule and added to the base.
//!
//! The stages of one value, in order: drop, mix or scale, rule, lambda, optimizer, base. What is dropped of a task vector does not depend
//! on its scale, and no recipe both drops and mixes.

mod job;

use half::bf16;

use self::job::{Job, native_halves, read_wanted};
use super::correlate::{Eyes, Seen, SeenRun};
use super::drop::Dropper;
use super::load;
use super::measure::Measured;
use super::optimize::Moments;
use super::rows::arrange;
use super::schedule::Schedule;
use super::vary::Varied;
use super::{MergeError, Run};
use crate::block::Values;
use crate::coefficients::Decision;
use crate::kernel::{Added, Element, Model, Rows, Source, Target, dot, sum_of_squares};
use crate::method::{Finite, Workspace};
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
    let new_lane = |_| (Lane::new(&job), Room::new(run));
    let mut lanes: Vec<(Lane<T>, Room)> = (0..plan.lanes()).map(new_lane).collect();
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
        |(lane, room), block| lane.merge(&job, block, room),
        |part| step.add(part),
    )?;
    if let Some(seen) = &mut step.seen {
        let censuses = lanes
            .into_iter()
            .filter_map(|(lane, _)| lane.eyes)
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

/// What one thread works with.
struct Lane<T: Magnitude> {
    rows: Vec<T>,
    kept: Vec<T>,
    made: Vec<T>,
    workspace: Workspace<T>,
    halves: Workspace<bf16>,
    dropper: Dropper<T>,
    moments: Option<Moments>,
    eyes: Option<Eyes<T>>,
    stride: usize,
}

/// Where a lane reads to and writes from.
struct Room {
    raw: Vec<f32>,
    /// A unit of the model.
    model: Vec<f64>,
    /// A unit of the merged task vector.
    merged: Vec<f64>,
    added: Added,
}

impl Room {
    fn new(run: Run<'_>) -> Self {
        Self {
            raw: vec![0.0; (run.rows() + 1) * run.plan.block_len()],
            model: vec![0.0; REDUCTION_UNIT],
            merged: vec![0.0; REDUCTION_UNIT],
            added: Added::default(),
        }
    }
}

impl<T: Magnitude> Lane<T> {
    fn new(job: &Job<'_>) -> Self {
        let (run, stride) = (job.run, job.run.plan.block_len());
        let arrangement = &job.arrangements[0];
        let rows = arrangement.origins.len();
        let made = if job.mixes { rows } else { 0 };
        let kept = if job.drops() { run.plan.clients() } else { 0 };
        Self {
            rows: vec![T::default(); run.rows() * job.step],
            kept: vec![T::default(); kept * job.step],
            made: vec![T::default(); made * job.step],
            workspace: arrangement.rule.workspace(rows),
            halves: arrangement.rule.workspace(rows),
            dropper: Dropper::new(run.plan),
            moments: Moments::new(run),
            eyes: job.looks.then(|| Eyes::new(run)),
            stride,
        }
    }

    fn merge(&mut self, job: &Job<'_>, block: Block, room: &mut Room) -> Result<Part, MergeError> {
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
        room.added = Added::default();
        for piece in block.pieces(self.stride) {
            self.merge_piece(job, piece, room, &mut part)?;
        }
        part.squares = room.added.squares();
        part.non_finite = room.added.non_finite();
        Ok(part)
    }

    /// Reads a block of all that is wanted, and merges it unit by unit.
    fn merge_piece(
        &mut self,
        job: &Job<'_>,
        block: Block,
        room: &mut Room,
        part: &mut Part,
    ) -> Result<(), MergeError> {
        let run = job.run;
        let arrangement = job.arrangement(block.tensor);
        let Room {
            raw,
            model,
            merged,
            added,
        } = room;
        let (base, raw) = raw.split_at_mut(self.stride);
        let base = run.read(run.inputs.base, "the base", block, base)?;
        let is_wanted = |row: usize| job.is_full || arrangement.wanted[row];
        let values = read_wanted(run, block, raw, self.stride, is_wanted)?;
        let lambda = run.plan.recipe().lambda;
        let factor = if self.moments.is_some() { 1.0 } else { lambda };
        // Made rows are short, and those that they are made of are what memory is asked for.
        let is_made = job.step < REDUCTION_UNIT;
        let lent: Vec<&[T]> = values.iter().filter_map(T::as_rows).collect();
        let mut rows = Vec::with_capacity(values.len());
        for unit in block.pieces(REDUCTION_UNIT) {
            let start = unit.offset - block.offset;
            let (model, merged) = (&mut model[..unit.len], &mut merged[..unit.len]);
            let base = base.part(start..start + unit.len);
            let before = f32::as_rows(&base);
            if before.is_none() {
                base.convert(model);
            }
            for step in unit.pieces(job.step) {
                let start = step.offset - block.offset;
                rows.clear();
                rows.extend(values.iter().map(|row| row.part(start..start + step.len)));
                let source = is_made.then_some(Source { rows: &lent, start });
                let range = step.offset - unit.offset..step.offset - unit.offset + step.len;
                let mut target = if job.adds_at_once {
                    Target::Model(Model {
                        before: before.map(|before| &before[range.clone()]),
                        after: &mut model[range],
                        factor,
                        added,
                    })
                } else {
                    Target::Row(&mut merged[range])
                };
                self.merge_step(job, (step, &rows), source, &mut target, part)?;
            }
            if !job.adds_at_once {
                if let Some(moments) = &mut self.moments {
                    scale(merged, lambda);
                    moments.step(run, unit, merged)?;
                }
                let mut target = Target::Model(Model {
                    before,
                    after: model,
                    factor,
                    added,
                });
                target.put_all(merged);
            }
            run.write(run.outputs.model, "the merged model", unit, model)?;
        }
        Ok(())
    }

    /// From the clients' rows to the merged one.
    fn merge_step(
        &mut self,
        job: &Job<'_>,
        (step, values): (Block, &[Values<'_>]),
        source: Option<Source<'_, T>>,
        target: &mut Target<'_>,
        part: &mut Part,
    ) -> Result<(), MergeError> {
        let run = job.run;
        let arrangement = job.arrangement(step.tensor);
        let seen = match native_halves(arrangement, values).filter(|_| job.is_native()) {
            Some(rows) => {
                arrangement
                    .rule
                    .combine(Rows::new(&rows, step.len), &mut self.halves, target)
            }
            None => {
                let clients =
                    load::line_up(values, &job.sparse, job.absent, &mut self.rows, job.step);
                if let (Some(eyes), Some(seen)) = (&mut self.eyes, &mut part.seen) {
                    eyes.look(run, step, Rows::new(&clients, step.len), seen)?;
                }
                let kept = job.drop_values(&mut self.dropper, step, &clients, &mut self.kept)?;
                let rows = arrange(
                    &arrangement.origins,
                    &kept,
                    &mut self.made,
                    job.step,
                    step.len,
                );
                let rule = job.rule(arrangement, step.tensor);
                let rows = Rows::new(&rows, step.len).made_of(source);
                let seen = rule.combine(rows, &mut self.workspace, target);
                if let Some(merged) = target.row().filter(|_| job.is_full) {
                    measure_against(&clients, merged, part);
                }
                seen
            }
        };
        // What was dropped, or has no weight, cannot show in the result.
        if job.checks && (job.is_full || job.drops() || seen == Finite::Unknown) {
            job.check_values(step, values)?;
        }
        Ok(())
    }
}

fn scale(values: &mut [f64], factor: f64) {
    for value in values {
        *value *= factor;
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
