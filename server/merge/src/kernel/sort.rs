//! Sorts the clients' values of each coordinate, a tile of [`WIDTH`] coordinates at a time, and averages the middle.
//!
//! Up to 16 clients the values stay in registers (`registers.rs`); up to [`NETWORK_CLIENTS`] a list of comparators runs over the
//! tile, each a minimum and a maximum of two rows; above, a mean of the middle is found without sorting (`select.rs`). All use integer keys
//! in the total order of IEEE 754, so that no value is lost to NaN. Absent coordinates have the largest key: the clients who
//! sent a coordinate, its supporters, come first in it.

use super::dispatch::vectorized;
use super::network::{self, Need, Step, Writes};
use super::{Element, Rows, Target, WIDTH, registers, select};

/// The most clients whose middle is found by a network.
const NETWORK_CLIENTS: usize = 256;

/// How much of a coordinate is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trim {
    /// The most values dropped at either end.
    pub(crate) most: u32,
    /// The fewest supporters; with less the result is 0.
    pub(crate) support: u32,
}

impl Trim {
    /// How many values are dropped at either end for so many supporters: one or two are always left.
    #[inline(always)]
    pub(crate) fn drop(self, supporters: u32) -> u32 {
        self.most.min(supporters.saturating_sub(1) / 2)
    }

    #[inline(always)]
    pub(crate) fn dropped(self, supporters: usize) -> usize {
        (self.most as usize).min(supporters.saturating_sub(1) / 2)
    }
}

/// What is wanted of the order of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ranks {
    /// The mean of the middle.
    Middle(Trim),
    /// Each rank.
    All,
}

/// Sorts tiles of so many clients; owns its memory.
#[derive(Debug)]
pub(crate) struct Sorter<T: Element> {
    keys: Vec<[T::Key; WIDTH]>,
    sort: Vec<Step>,
    middle: Vec<Step>,
    column: Vec<f64>,
}

impl<T: Element> Sorter<T> {
    /// Room for one tile of `clients` rows.
    pub(crate) fn new(clients: usize, ranks: Ranks) -> Self {
        let all = || network::pruned(vec![Need::Rank; clients]);
        let (sort, middle) = match ranks {
            Ranks::All => (all(), Vec::new()),
            Ranks::Middle(_) if clients > NETWORK_CLIENTS => (Vec::new(), Vec::new()),
            Ranks::Middle(trim) => (
                all(),
                network::pruned(network::middle(clients, trim.dropped(clients))),
            ),
        };
        Self {
            keys: vec![[T::Key::default(); WIDTH]; clients],
            sort,
            middle,
            column: Vec::with_capacity(clients),
        }
    }

    /// How many rows it sorts.
    pub(crate) fn clients(&self) -> usize {
        self.keys.len()
    }

    /// An upper bound of what a sorter for `clients` allocates; `None` when it cannot be counted.
    pub(crate) fn bytes(clients: usize) -> Option<usize> {
        // Both lists, and one of pairs while they are made.
        let step = 2 * size_of::<Step>() + size_of::<(usize, usize)>();
        let lists = network::most_comparators(clients)?.checked_mul(step)?;
        let needs = size_of::<Need>() + size_of::<f64>();
        let row = size_of::<[T::Key; WIDTH]>() + needs;
        clients.checked_mul(row)?.checked_add(lists)
    }

    /// The mean of each coordinate without its lowest and highest values; whether all values are known to be numbers.
    pub(crate) fn trimmed_means(
        &mut self,
        rows: Rows<'_, T>,
        trim: Trim,
        target: &mut Target<'_>,
    ) -> bool {
        if rows.count() > NETWORK_CLIENTS {
            for start in (0..rows.len()).step_by(WIDTH) {
                self.load(rows, start);
                let mut means = [0.0; WIDTH];
                select::trimmed_means::<T>(&self.keys, trim, &mut means);
                target.put_some(start, &means, WIDTH.min(rows.len() - start));
            }
            return false;
        }
        let drop = trim.dropped(rows.count());
        let are_numbers = match registers::trimmed_means(rows, drop, target) {
            Some(are_numbers) => are_numbers,
            None => self.middle_means(rows, drop, target),
        };
        if let Some(row) = target.row().filter(|_| !are_numbers) {
            self.of_supporters(rows, row, |supporters| supported_mean(supporters, trim));
        }
        are_numbers
    }

    /// The mean of the middle; whether all values are numbers.
    fn middle_means(&mut self, rows: Rows<'_, T>, drop: usize, target: &mut Target<'_>) -> bool {
        let mut are_numbers = true;
        for start in (0..rows.len()).step_by(WIDTH) {
            are_numbers &= self.load(rows, start);
            let Self { keys, middle, .. } = &mut *self;
            vectorized(
                #[inline(always)]
                || {
                    run(middle, keys);
                    let means = average::<T>(&keys[drop..rows.count() - drop]);
                    target.put_some(start, &means, WIDTH.min(rows.len() - start));
                },
            );
        }
        are_numbers
    }

    /// Sorts the tile that starts at `start`: one row for each rank, lowest first; behind the end of rows there is anything. Tells
    /// whether a value is absent.
    pub(crate) fn sorted(&mut self, rows: Rows<'_, T>, start: usize) -> (&[[T::Key; WIDTH]], bool) {
        if !registers::sort(rows, start, &mut self.keys) {
            self.load(rows, start);
            let Self { keys, sort, .. } = &mut *self;
            vectorized(
                #[inline(always)]
                || run(sort, keys),
            );
        }
        let width = WIDTH.min(rows.len() - start);
        let is_any_absent = self
            .keys
            .last()
            .is_some_and(|last| last[..width].contains(&T::ABSENT_KEY));
        (&self.keys, is_any_absent)
    }

    /// Does over all coordinates that not all clients sent, by a rule for the sorted values of those who did.
    pub(crate) fn of_supporters(
        &mut self,
        rows: Rows<'_, T>,
        out: &mut [f64],
        rule: impl Fn(&[f64]) -> f64,
    ) {
        for (tile, out) in out.chunks_mut(WIDTH).enumerate() {
            let (_, is_any_absent) = self.sorted(rows, tile * WIDTH);
            let Self { keys, column, .. } = &mut *self;
            let Some(last) = keys.last().filter(|_| is_any_absent) else {
                continue;
            };
            for (lane, out) in out.iter_mut().enumerate() {
                if last[lane] != T::ABSENT_KEY {
                    continue;
                }
                let sent = keys
                    .iter()
                    .map(|row| row[lane])
                    .take_while(|&key| key != T::ABSENT_KEY);
                column.clear();
                column.extend(sent.map(|key| T::of_key(key).widen()));
                *out = rule(column);
            }
        }
    }

    /// Takes over the keys of a tile; tells whether all are those of numbers.
    fn load(&mut self, rows: Rows<'_, T>, start: usize) -> bool {
        let width = WIDTH.min(rows.len() - start);
        let keys = &mut self.keys;
        vectorized(
            #[inline(always)]
            || {
                let [smallest, largest] = T::NUMBER_KEYS;
                let mut are_numbers = true;
                for (keys, row) in keys.iter_mut().zip(rows.iter()) {
                    for (key, &value) in keys.iter_mut().zip(&row[start..start + width]) {
                        *key = value.key();
                        are_numbers &= (smallest <= *key) & (*key <= largest);
                    }
                }
                are_numbers
            },
        )
    }
}

/// The mean of the middle of sorted values; 0 of too few.
#[expect(clippy::cast_precision_loss, reason = "counts of clients are small")]
fn supported_mean(supporters: &[f64], trim: Trim) -> f64 {
    if supporters.len() < trim.support as usize {
        return 0.0;
    }
    let drop = trim.dropped(supporters.len());
    let middle = &supporters[drop..supporters.len() - drop];
    middle.iter().fold(0.0, |sum, value| sum + value) / middle.len() as f64
}

#[inline(always)]
fn run<K: Ord + Copy>(steps: &[Step], keys: &mut [[K; WIDTH]]) {
    for step in steps {
        let (head, tail) = keys.split_at_mut(step.high as usize);
        let pairs = head[step.low as usize].iter_mut().zip(&mut tail[0]);
        match step.writes {
            Writes::Nothing => {}
            Writes::Low => pairs.for_each(
                #[inline(always)]
                |(low, high)| *low = (*low).min(*high),
            ),
            Writes::High => pairs.for_each(
                #[inline(always)]
                |(low, high)| *high = (*low).max(*high),
            ),
            Writes::Both => pairs.for_each(
                #[inline(always)]
                |(low, high)| (*low, *high) = ((*low).min(*high), (*low).max(*high)),
            ),
        }
    }
}

/// The mean of each coordinate over these rows, added up in their order.
#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "counts of clients are small")]
fn average<T: Element>(rows: &[[T::Key; WIDTH]]) -> [f64; WIDTH] {
    let mut sums = [0.0_f64; WIDTH];
    for row in rows {
        for (sum, &key) in sums.iter_mut().zip(row) {
            *sum += T::of_key(key).widen();
        }
    }
    for sum in &mut sums {
        *sum /= rows.len() as f64;
    }
    sums
}
