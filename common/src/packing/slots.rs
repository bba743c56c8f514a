//! Packing takes a part of the machine, however many streams there are.

use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::thread::available_parallelism;

/// Of how many processors one may pack, at the same time.
const PROCESSORS_EACH: usize = 2;

static BUSY: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// The right to pack, until dropped.
#[derive(Debug)]
pub(super) struct Slot(());

impl Slot {
    /// Waits for its turn. Whoever measures how long packing takes measures this too: the more want to, the less it pays.
    pub(super) fn take() -> Self {
        static MOST: OnceLock<usize> = OnceLock::new();
        let most = *MOST.get_or_init(|| {
            let processors = available_parallelism().map_or(1, usize::from);
            (processors / PROCESSORS_EACH).max(1)
        });
        let busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = FREED.wait_while(busy, |busy| *busy >= most);
        *busy.unwrap_or_else(PoisonError::into_inner) += 1;
        Self(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *BUSY.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}
