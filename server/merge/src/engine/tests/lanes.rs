//! Threads that wait for one another: the first run of values takes until all that may run ahead of it have ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex};

use super::fixture::{AMPLE, GO_ON};
use crate::engine::schedule::DEPTH;
use crate::{
    BlockError, BlockSink, BlockSource, Contribution, Detail, History, Inputs, MergeError,
    MergePlan, Method, Outputs, Recipe, TensorExtent, Values, merge,
};

const RUN: usize = 65_536;

/// How far one of two lanes gets while the other has the first job.
const AHEAD: usize = 2 * DEPTH - 1;

/// What happens to the first job at last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Works,
    Fails,
    Panics,
}

/// Zeros, of which the first come last.
struct Late {
    ending: Ending,
    /// How many other runs were read.
    served: Mutex<usize>,
    moved: Condvar,
}

impl BlockSource for Late {
    fn read<'a>(
        &'a self,
        _tensor: usize,
        offset: usize,
        len: usize,
        buffer: &'a mut [f32],
    ) -> Result<Values<'a>, BlockError> {
        let mut served = self.served.lock().unwrap();
        if offset == 0 {
            served = self
                .moved
                .wait_while(served, |served| *served < AHEAD)
                .unwrap();
            drop(served);
            match self.ending {
                Ending::Works => {}
                Ending::Fails => return Err(BlockError::new("disk gone")),
                Ending::Panics => std::panic::resume_unwind(Box::new("a source panicked")),
            }
        } else {
            *served += 1;
            self.moved.notify_all();
        }
        buffer[..len].fill(0.0);
        Ok(Values::F32(&buffer[..len]))
    }
}

struct Nowhere;

impl BlockSink for Nowhere {
    fn write(&self, _: usize, _: usize, _: &[f64]) -> Result<(), BlockError> {
        Ok(())
    }
}

/// A merge on two threads of three times as many runs as a lane may run ahead.
fn outcome(ending: Ending) -> std::thread::Result<Result<(), MergeError>> {
    let late = Late {
        ending,
        served: Mutex::new(0),
        moved: Condvar::new(),
    };
    let zeros = vec![0.0_f32; 3 * AHEAD * RUN];
    let base = super::fixture::Memory(vec![zeros]);
    let tensors = vec![TensorExtent::new("w", base.0[0].len())];
    let plan = MergePlan::new(Recipe::of(Method::Mean), tensors, 1, AMPLE, Detail::Brief).unwrap();
    let inputs = Inputs {
        base: &base,
        updates: &[Contribution::new(&late, 1.0)],
        trusted: None,
        history: History::default(),
    };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .unwrap();
    catch_unwind(AssertUnwindSafe(|| {
        pool.install(|| merge(&plan, &inputs, &Outputs::model(&Nowhere), &GO_ON))
            .map(|_| ())
    }))
}

#[test]
fn a_lane_that_ran_ahead_goes_on_when_the_first_job_is_done() {
    assert!(matches!(outcome(Ending::Works), Ok(Ok(()))));
}

#[test]
fn a_first_job_that_fails_or_panics_ends_the_merge_for_a_lane_that_waits_for_it() {
    let failed = outcome(Ending::Fails).unwrap().unwrap_err();
    assert_eq!(
        failed.to_string(),
        "task vector 0 could not be read at 0 of tensor w"
    );
    assert!(outcome(Ending::Panics).is_err());
}
