//! Work in parallel, results in order: which thread did what does not show.
//!
//! Jobs are taken in waves of a few for each lane, so that results waiting to be folded are few and lanes seldom wait for one another.
//! A lane owns its buffers and takes the next job when it is done with one; what a job leaves depends on the job alone.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::{MergeError, Run};
use crate::engine::inputs::Progress;
use crate::plan::Pass;

/// How many jobs a lane takes, on average, before results are folded.
pub(crate) const DEPTH: usize = 8;

/// One pass over the inputs: how it is told, and of how many jobs.
#[derive(Clone, Copy)]
pub(super) struct Schedule<'a> {
    pub(super) run: Run<'a>,
    pub(super) pass: Pass,
    pub(super) total: usize,
}

impl Schedule<'_> {
    /// Does all jobs on the lanes and folds what each leaves, in the order of the jobs.
    pub(super) fn in_order<J: Copy + Send + Sync, L: Send, P: Send>(
        self,
        mut jobs: impl Iterator<Item = J>,
        lanes: &mut [L],
        work: impl Fn(&mut L, J) -> Result<P, MergeError> + Sync,
        mut fold: impl FnMut(P),
    ) -> Result<(), MergeError> {
        let mut done = 0;
        loop {
            self.tell(done);
            let wave: Vec<J> = jobs.by_ref().take(lanes.len() * DEPTH).collect();
            if wave.is_empty() {
                return Ok(());
            }
            done += wave.len();
            let next = AtomicUsize::new(0);
            let mut results: Vec<(usize, Result<P, MergeError>)> = lanes
                .par_iter_mut()
                .flat_map_iter(|lane| self.drain(&wave, &next, lane, &work))
                .collect();
            results.sort_by_key(|(number, _)| *number);
            for (_, result) in results {
                fold(result?);
            }
        }
    }

    /// One lane's share of a wave, each result with the number of its job.
    fn drain<J: Copy, L, P>(
        self,
        wave: &[J],
        next: &AtomicUsize,
        lane: &mut L,
        work: &impl Fn(&mut L, J) -> Result<P, MergeError>,
    ) -> Vec<(usize, Result<P, MergeError>)> {
        let mut results = Vec::with_capacity(DEPTH);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(&job) = wave.get(number) else {
                return results;
            };
            let result = self.run.check_cancelled().and_then(|()| work(lane, job));
            results.push((number, result));
        }
    }

    fn tell(self, done: usize) {
        (self.run.control.progress)(Progress {
            pass: self.pass,
            done,
            total: self.total,
        });
    }
}
