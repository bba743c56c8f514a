//! One pass over all values for one rank: how many magnitudes are above, inside and below an interval, and which ones are inside.
//!
//! Sixteen values are compared side by side, and 32 such groups leave one word of bits for each lane; so no value costs a branch, and only the
//! few inside are looked at one by one. Those are kept as keys where they fit, otherwise counted in bins of equal width.

use super::bracket::Interval;
use crate::kernel::dispatch::vectorized;
use crate::sparsify::magnitude::Magnitude;

const LANES: usize = 16;
const GROUPS: usize = 32;
const CHUNK: usize = LANES * GROUPS;
/// How many values are counted before sums of 32 bits are added up.
pub(super) const UNIT: usize = 8 * CHUNK;

/// What a pass knows of one rank.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    interval: Interval,
    /// How many values were expected inside.
    expected: u64,
    at_least_low: u64,
    inside: u64,
    at_least_high: u64,
    above_high: u64,
    /// All bits that the keys inside have.
    bits: u32,
    store: Store,
}

/// What becomes of the keys inside.
#[derive(Debug, Clone, Copy)]
enum Store {
    /// So many are held; those that find no room are not.
    Keys { held: usize },
    /// They are counted in bins of `2^shift` keys.
    Bins { shift: u32 },
}

impl Default for Store {
    fn default() -> Self {
        Self::Keys { held: 0 }
    }
}

impl Tally {
    /// Nothing counted yet; at most `expected` values should be inside.
    pub(super) fn over(interval: Interval, expected: u64) -> Self {
        Self {
            interval,
            expected,
            ..Self::default()
        }
    }

    /// Chooses what the room is used for.
    pub(super) fn begin(&mut self, room: &mut [u64]) {
        let fits = usize::try_from(self.expected).is_ok_and(|expected| expected <= 2 * room.len());
        if fits {
            self.store = Store::Keys { held: 0 };
            return;
        }
        let widest = self.interval.width().saturating_sub(1);
        let mut shift = 0;
        while (widest >> shift) as usize >= room.len() {
            shift += 1;
        }
        room[..=(widest >> shift) as usize].fill(0);
        self.store = Store::Bins { shift };
    }

    /// Counts some values.
    pub(super) fn count<T: Magnitude>(&mut self, values: &[T], room: &mut [u64]) {
        let interval = self.interval;
        let (inside, bits) = (&mut self.inside, &mut self.bits);
        let sums = match &mut self.store {
            Store::Keys { held } => {
                let keys: &mut [u32] = bytemuck::cast_slice_mut(room);
                let mut put = |key| {
                    *inside += 1;
                    if let Some(slot) = keys.get_mut(*held) {
                        *slot = key;
                        *held += 1;
                    }
                };
                vectorized(
                    #[inline(always)]
                    || scan(values, interval, &mut put),
                )
            }
            Store::Bins { shift } => {
                let first = interval.low + 1;
                let mut put = |key| {
                    *inside += 1;
                    *bits |= key;
                    room[((key - first) >> *shift) as usize] += 1;
                };
                vectorized(
                    #[inline(always)]
                    || scan(values, interval, &mut put),
                )
            }
        };
        self.at_least_low += sums[0];
        self.at_least_high += sums[1];
        self.above_high += sums[2];
    }

    /// The key of a rank, 1 being the largest of `values`; or where to look closer. `end` is above all keys.
    pub(super) fn settle(
        &self,
        rank: u64,
        values: u64,
        end: u32,
        room: &mut [u64],
    ) -> Result<u32, Self> {
        let Interval { low, high } = self.interval;
        if rank <= self.above_high {
            Err(Self::over(Interval::new(high, end), self.above_high))
        } else if rank <= self.at_least_high {
            Ok(high)
        } else if rank <= self.at_least_high + self.inside {
            self.look_inside(rank - self.at_least_high, room)
        } else if rank <= self.at_least_low || low == 0 {
            // Values that nobody counted are 0.
            Ok(low)
        } else {
            let below = values.saturating_sub(self.at_least_low);
            Err(Self::over(Interval::new(0, low), below))
        }
    }

    /// The key of a rank among those inside.
    fn look_inside(&self, rank: u64, room: &mut [u64]) -> Result<u32, Self> {
        match self.store {
            Store::Keys { held } => {
                let keys: &mut [u32] = bytemuck::cast_slice_mut(room);
                let place = usize::try_from(rank - 1).ok();
                if let Some(place) = place
                    && held as u64 == self.inside
                {
                    let (_, &mut key, _) =
                        keys[..held].select_nth_unstable_by(place, |a, b| b.cmp(a));
                    return Ok(key);
                }
                Err(Self::over(self.interval, self.inside))
            }
            Store::Bins { shift } => self.look_into_bins(rank, shift, room),
        }
    }

    fn look_into_bins(&self, rank: u64, shift: u32, bins: &[u64]) -> Result<u32, Self> {
        let Interval { low, high } = self.interval;
        let last = self.interval.width().saturating_sub(1) >> shift;
        let mut rank = rank;
        let mut bin = last;
        while rank > bins[bin as usize] && bin > 0 {
            rank -= bins[bin as usize];
            bin -= 1;
        }
        let first = low + 1 + (bin << shift);
        // Where all keys are multiples of so much (`bf16` in `f32`), a bin may have one key though it is wider.
        let step = self.bits.trailing_zeros();
        if shift == 0 {
            Ok(first)
        } else if step >= shift && step < 31 {
            Ok(first.next_multiple_of(1 << step))
        } else {
            let next = first.saturating_add(1 << shift).min(high);
            let interval = Interval::new(first - 1, next);
            Err(Self::over(interval, bins[bin as usize]))
        }
    }
}

/// How many magnitudes are at least the interval's low end, at least its high end and above that; and gives those inside to `put`.
#[inline(always)]
fn scan<T: Magnitude>(values: &[T], interval: Interval, put: &mut impl FnMut(u32)) -> [u64; 3] {
    let mut sums = [[0_u32; LANES]; 3];
    let (chunks, rest) = values.as_chunks::<CHUNK>();
    for chunk in chunks {
        let inside = compare(chunk, interval, &mut sums);
        for (lane, &groups) in inside.iter().enumerate() {
            let mut groups = groups;
            while groups != 0 {
                let group = groups.trailing_zeros() as usize;
                put(chunk[group * LANES + lane].magnitude());
                groups &= groups - 1;
            }
        }
    }
    let mut totals = sums.map(|sums| sums.iter().map(|&sum| u64::from(sum)).sum());
    for &value in rest {
        let key = value.magnitude();
        totals[0] += u64::from(key >= interval.low);
        totals[1] += u64::from(key >= interval.high);
        totals[2] += u64::from(key > interval.high);
        if interval.low < key && key < interval.high {
            put(key);
        }
    }
    totals
}

/// Compares a chunk; bit `g` of lane `l` says whether value `16 g + l` is inside.
#[inline(always)]
fn compare<T: Magnitude>(
    chunk: &[T; CHUNK],
    interval: Interval,
    sums: &mut [[u32; LANES]; 3],
) -> [u32; LANES] {
    let Interval { low, high } = interval;
    let mut inside = [0_u32; LANES];
    let mut bit = 1_u32;
    for group in chunk.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            let key = group[lane].magnitude();
            sums[0][lane] += u32::from(key >= low);
            sums[1][lane] += u32::from(key >= high);
            sums[2][lane] += u32::from(key > high);
            inside[lane] |= if low < key && key < high { bit } else { 0 };
        }
        bit <<= 1;
    }
    inside
}
