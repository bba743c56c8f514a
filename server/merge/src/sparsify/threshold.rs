//! Finds the exact magnitudes of one or two ranks of a scope while its blocks stream by, at about the speed of memory.
//!
//! A sample of short runs brackets each rank. One pass then counts what lies on either side of the bracket, and puts aside the few magnitudes
//! within: as they are where they fit into fixed memory, otherwise in a histogram. Where the sample misled, or a bin has several keys, another pass
//! looks closer. The result is exact whatever the sample was; the sample decides the time alone.
//! Invariant: at most three passes. A pass that looks at all of [0, 2³¹) with 2¹⁷ bins leaves 2¹⁴ keys to the next, which has a bin for each.
//!
//! Values that were not sent come as 0.
//!
//! Use: [`Search::begin`]; for each of [`sample_runs`] [`Search::sample`]; while [`Search::next_pass`], [`Search::count`] all values in any order;
//! [`Search::bounds`].

mod bracket;
mod interval;
mod tally;

use std::marker::PhantomData;
use std::mem::size_of;
use std::ops::Range;

use self::bracket::bracket;
use self::interval::Interval;
use self::tally::Tally;
use super::magnitude::{Bounds, Kept, Magnitude};
use crate::noise::mix;

/// How many words of 64 bits a search owns: as many bins, or twice as many keys.
const WORDS: usize = 1 << 18;
/// The most keys that are sampled: half of the room, the other half is for sorting them.
const MOST_SAMPLED: usize = WORDS;
/// How many consecutive values are sampled at a time.
const RUN: u64 = 64;
/// How many values one target counts before the other: few enough to stay in the nearest cache.
const UNIT: usize = 4096;
/// Scopes up to this length are not sampled.
const SMALL: u64 = 4096;

/// The state of a search for the magnitudes of up to two ranks; its memory serves one scope after the other.
#[derive(Debug)]
pub(crate) struct Search<T> {
    room: Vec<u64>,
    values: u64,
    sampled: usize,
    passes: u32,
    /// The smallest magnitude that is kept, and the largest.
    targets: [Target; 2],
    element: PhantomData<T>,
}

/// A rank and what is known of it.
#[derive(Debug, Clone)]
enum Target {
    Found(u32),
    Open { rank: u64, tally: Tally },
}

/// What of a scope to sample: short runs spread over all of it, in order; none where it is too short to be worth it.
pub(crate) fn sample_spans(values: usize) -> impl Iterator<Item = Range<usize>> {
    let place = |place| usize::try_from(place).expect("within the scope");
    sample_runs(values as u64).map(move |run| place(run.start)..place(run.end))
}

/// The same in wide numbers.
fn sample_runs(values: u64) -> impl Iterator<Item = Range<u64>> {
    let count = if values <= SMALL {
        0
    } else {
        // The best size grows with the power 2/3: the bracket narrows with the root of the sample.
        let sampled = 1_u64 << (2 * values.ilog2() / 3 + 1).min(MOST_SAMPLED.ilog2());
        (sampled / RUN).max(16)
    };
    (0..count).map(move |run| {
        let start = place(run, count, values);
        let free = place(run + 1, count, values) - start - RUN;
        let start = start + mix(run) % (free + 1);
        start..start + RUN
    })
}

/// `values * run / count`, without overflow.
fn place(run: u64, count: u64, values: u64) -> u64 {
    values / count * run + values % count * run / count
}

impl<T: Magnitude> Search<T> {
    /// What a search allocates.
    pub(crate) const BYTES: usize = WORDS * size_of::<u64>();

    /// Room for one search at a time.
    pub(crate) fn new() -> Self {
        Self {
            room: vec![0; WORDS],
            values: 0,
            sampled: 0,
            passes: 0,
            targets: [Target::Found(0), Target::Found(u32::MAX)],
            element: PhantomData,
        }
    }

    /// Begins with a scope of so many values of which these ranks are kept; forgets the one before.
    pub(crate) fn begin(&mut self, values: u64, kept: Kept) {
        (self.values, self.sampled, self.passes) = (values, 0, 0);
        let open = |rank| Target::Open {
            rank,
            tally: Tally::over(Interval::all::<T>(), values),
        };
        self.targets = [Target::Found(0), Target::Found(u32::MAX)];
        if kept.last < values {
            self.targets[0] = open(kept.last);
        }
        if 1 < kept.first && kept.first <= values {
            self.targets[1] = open(kept.first);
        }
    }

    /// Takes a run of the sample; in order, and before the first pass.
    pub(crate) fn sample(&mut self, run: &[T]) {
        let keys: &mut [u32] = bytemuck::cast_slice_mut(&mut self.room);
        let free = &mut keys[self.sampled..MOST_SAMPLED];
        for (slot, &value) in free.iter_mut().zip(run) {
            *slot = value.sent_magnitude();
        }
        self.sampled += run.len().min(free.len());
    }

    /// Whether all values must be counted, once more.
    pub(crate) fn next_pass(&mut self) -> bool {
        if self.passes == 0 {
            self.bracket();
        } else {
            self.settle();
        }
        self.passes += 1;
        let is_open = |target: &&Target| matches!(target, Target::Open { .. });
        let open = self.targets.iter().filter(is_open).count();
        if open == 0 {
            return false;
        }
        debug_assert!(self.passes <= 3, "three passes suffice");
        let shares = self.room.chunks_exact_mut(WORDS / open);
        for (tally, room) in tallies(&mut self.targets).zip(shares) {
            tally.begin(room);
        }
        true
    }

    /// Counts some of the values; each must come once in a pass, in any order. `next` is what will be read after them: it is fetched
    /// while these are counted.
    pub(crate) fn count(&mut self, values: &[T], next: &[T]) {
        let open = tallies(&mut self.targets).count().max(1);
        for start in (0..values.len()).step_by(UNIT) {
            let unit = &values[start..values.len().min(start + UNIT)];
            let shares = self.room.chunks_exact_mut(WORDS / open);
            let mut next = next.get(start..).unwrap_or_default();
            for (tally, room) in tallies(&mut self.targets).zip(shares) {
                tally.count(unit, next, room);
                next = &[];
            }
        }
    }

    /// Between which magnitudes values are kept, after the last pass.
    pub(crate) fn bounds(&self) -> Bounds {
        let found = |target: &Target| match target {
            Target::Found(key) => Some(*key),
            Target::Open { .. } => None,
        };
        debug_assert!(
            self.targets.iter().all(|target| found(target).is_some()),
            "passes went on until there was none"
        );
        Bounds {
            low: found(&self.targets[0]).unwrap_or(Bounds::ALL.low),
            high: found(&self.targets[1]).unwrap_or(Bounds::ALL.high),
        }
    }

    fn bracket(&mut self) {
        let keys: &mut [u32] = bytemuck::cast_slice_mut(&mut self.room);
        let (sample, spare) = keys.split_at_mut(MOST_SAMPLED);
        if self.sampled == 0 {
            return;
        }
        let (sample, spare) = (&sample[..self.sampled], &mut spare[..self.sampled]);
        for target in &mut self.targets {
            if let Target::Open { rank, tally } = target {
                let (interval, inside) = bracket::<T>(sample, spare, *rank, self.values);
                *tally = Tally::over(interval, inside);
            }
        }
    }

    /// Ends a pass: a rank is found, or the interval in which it lies is narrowed.
    fn settle(&mut self) {
        let open = tallies(&mut self.targets).count().max(1);
        let mut shares = self.room.chunks_exact_mut(WORDS / open);
        for target in &mut self.targets {
            let Target::Open { rank, tally } = target else {
                continue;
            };
            let Some(room) = shares.next() else { break };
            match tally.settle::<T>(*rank, self.values, room) {
                Ok(key) => *target = Target::Found(key),
                Err(closer) => *tally = closer,
            }
        }
    }
}

/// The tallies of the ranks that are not found yet.
fn tallies(targets: &mut [Target; 2]) -> impl Iterator<Item = &mut Tally> {
    targets.iter_mut().filter_map(|target| match target {
        Target::Found(_) => None,
        Target::Open { tally, .. } => Some(tally),
    })
}

#[cfg(test)]
impl<T: Magnitude> Search<T> {
    /// The bounds of a scope that is in memory.
    pub(crate) fn of_slice(&mut self, values: &[T], kept: Kept) -> Bounds {
        self.begin(values.len() as u64, kept);
        for span in sample_spans(values.len()) {
            self.sample(&values[span]);
        }
        while self.next_pass() {
            self.count(values, &[]);
        }
        self.bounds()
    }
}

#[cfg(test)]
pub(super) mod tests;
