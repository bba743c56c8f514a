//! One pass over all values for one rank: how many magnitudes are above and inside an interval, and which ones are inside.
//!
//! Sixteen values are compared side by side, and 32 such groups leave one word of bits for each lane; so no value costs a branch, and only the
//! few inside are looked at one by one. Those are kept as keys where they fit, otherwise counted in bins of equal width.

use super::interval::Interval;
use crate::kernel::ahead::fetch_some;
use crate::kernel::dispatch::vectorized;
use crate::sparsify::magnitude::Magnitude;

const LANES: usize = 16;
const GROUPS: usize = 32;
const CHUNK: usize = LANES * GROUPS;

/// What a pass knows of one rank.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    interval: Interval,
    /// How many values to expect inside at most.
    expected: u64,
    above: u64,
    inside: u64,
    /// All bits that the keys in bins have.
    bits: u32,
    store: Store,
}

/// What becomes of the keys inside.
#[derive(Debug, Clone, Copy)]
enum Store {
    /// There is only one.
    One,
    /// So many are held; those that find no room are not.
    Keys { held: usize },
    /// They are counted in bins of `2^shift` keys.
    Bins { shift: u32 },
}

impl Tally {
    /// Nothing counted yet; at most `expected` values should be inside.
    pub(super) fn over(interval: Interval, expected: u64) -> Self {
        Self {
            interval,
            expected,
            above: 0,
            inside: 0,
            bits: 0,
            store: Store::One,
        }
    }

    /// Chooses what the room is used for.
    pub(super) fn begin(&mut self, room: &mut [u64]) {
        let last = self.interval.keys().saturating_sub(1);
        let fits = usize::try_from(self.expected).is_ok_and(|expected| expected <= 2 * room.len());
        self.store = if last == 0 {
            Store::One
        } else if fits {
            Store::Keys { held: 0 }
        } else {
            let mut shift = 0;
            while (last >> shift) as usize >= room.len() {
                shift += 1;
            }
            room[..=(last >> shift) as usize].fill(0);
            Store::Bins { shift }
        };
    }

    /// Counts some values, and has the next ones fetched meanwhile.
    pub(super) fn count<T: Magnitude>(&mut self, values: &[T], next: &[T], room: &mut [u64]) {
        let interval = self.interval;
        let [above, inside] = match &mut self.store {
            Store::One => vectorized(
                #[inline(always)]
                || scan::<T, false>(values, next, interval, |_, _| ()),
            ),
            Store::Keys { held } => {
                let keys: &mut [u32] = bytemuck::cast_slice_mut(room);
                let mut put = |chunk: &[T], place: usize| {
                    if let Some(slot) = keys.get_mut(*held) {
                        *slot = chunk[place].sent_magnitude();
                        *held += 1;
                    }
                };
                vectorized(
                    #[inline(always)]
                    || scan::<T, true>(values, next, interval, &mut put),
                )
            }
            Store::Bins { shift } => {
                let (shift, bits) = (*shift, &mut self.bits);
                let mut put = |chunk: &[T], place: usize| {
                    let key = chunk[place].sent_magnitude();
                    *bits |= key;
                    room[(interval.place(key) >> shift) as usize] += 1;
                };
                vectorized(
                    #[inline(always)]
                    || scan::<T, true>(values, next, interval, &mut put),
                )
            }
        };
        self.above += above;
        self.inside += inside;
    }

    /// The key of a rank, 1 being the largest of `values`; or where to look closer.
    pub(super) fn settle<T: Magnitude>(
        &self,
        rank: u64,
        values: u64,
        room: &mut [u64],
    ) -> Result<u32, Self> {
        let Some(rank_inside) = rank.checked_sub(self.above).filter(|&rank| rank > 0) else {
            return Err(Self::over(self.interval.above::<T>(), self.above));
        };
        if let Some(deeper) = rank_inside
            .checked_sub(self.inside)
            .filter(|&rank| rank > 0)
        {
            let below = values
                .saturating_sub(self.above)
                .saturating_sub(self.inside)
                .max(deeper);
            // Where nothing but 0 is left; values that nobody counted are 0, too.
            return self
                .interval
                .below()
                .map_or(Ok(0), |interval| Err(Self::over(interval, below)));
        }
        match self.store {
            Store::One => Ok(self.interval.key(0)),
            Store::Keys { held } => self.look_into_keys(rank_inside, held, room),
            Store::Bins { shift } => self.look_into_bins(rank_inside, shift, room),
        }
    }

    /// The key of a rank among those inside.
    fn look_into_keys(&self, rank: u64, held: usize, room: &mut [u64]) -> Result<u32, Self> {
        let keys: &mut [u32] = bytemuck::cast_slice_mut(room);
        let place = usize::try_from(rank - 1).ok();
        match place {
            Some(place) if held as u64 == self.inside => {
                let nth = keys[..held].select_nth_unstable_by(place, |a, b| b.cmp(a));
                Ok(*nth.1)
            }
            Some(_) | None => Err(Self::over(self.interval, self.inside)),
        }
    }

    fn look_into_bins(&self, rank: u64, shift: u32, bins: &[u64]) -> Result<u32, Self> {
        let mut rank = rank;
        let mut bin = self.interval.keys().saturating_sub(1) >> shift;
        while rank > bins[bin as usize] && bin > 0 {
            rank -= bins[bin as usize];
            bin -= 1;
        }
        let first = self.interval.key(bin << shift);
        // Where all keys are multiples of so much (`bf16` in `f32`), a bin may have one key though it is wider.
        let step = self.bits.trailing_zeros();
        if shift == 0 {
            Ok(first)
        } else if step >= shift && step < 31 {
            Ok(first.next_multiple_of(1 << step))
        } else {
            let interval = self.interval.part(bin << shift, 1 << shift);
            Err(Self::over(interval, bins[bin as usize]))
        }
    }
}

/// How many magnitudes are above the interval and inside; where `LOOK` says so, gives a slice and the
/// place of each one inside to `put`.
#[inline(always)]
fn scan<T: Magnitude, const LOOK: bool>(
    values: &[T],
    next: &[T],
    interval: Interval,
    mut put: impl FnMut(&[T], usize),
) -> [u64; 2] {
    let mut totals = [0_u64; 2];
    let (chunks, rest) = values.as_chunks::<CHUNK>();
    for (number, chunk) in chunks.iter().enumerate() {
        fetch_some(next, number * CHUNK, CHUNK);
        let [above, inside] = compare(chunk, interval);
        for (total, lanes) in totals.iter_mut().zip([above, inside]) {
            // At most 512: nothing to check, which would be no vector instruction.
            let mut ones = 0_u32;
            for bits in lanes {
                ones = ones.wrapping_add(bits.count_ones());
            }
            *total += u64::from(ones);
        }
        let looked_at = if LOOK { &inside[..] } else { &[] };
        for (lane, &groups) in looked_at.iter().enumerate() {
            let mut groups = groups;
            while groups != 0 {
                let group = groups.trailing_zeros() as usize;
                put(chunk, group * LANES + lane);
                groups &= groups - 1;
            }
        }
    }
    for (place, &value) in rest.iter().enumerate() {
        let key = value.sent_magnitude();
        totals[0] += u64::from(interval.is_above(key));
        if interval.contains(key) {
            totals[1] += 1;
            put(rest, place);
        }
    }
    totals
}

/// Which values of a chunk are above the interval and which inside: bit `g` of lane `l` is that of value `16 g + l`.
#[inline(always)]
fn compare<T: Magnitude>(chunk: &[T; CHUNK], interval: Interval) -> [[u32; LANES]; 2] {
    let mut above = [0_u32; LANES];
    let mut not_below = [0_u32; LANES];
    let mut bit = 1_u32;
    for group in chunk.as_chunks::<LANES>().0 {
        // No `map`: it might be left a function of its own, compiled for the oldest processor.
        let mut keys = [0_u32; LANES];
        for (key, &value) in keys.iter_mut().zip(group) {
            *key = value.sent_magnitude();
        }
        for (bits, key) in above.iter_mut().zip(keys) {
            *bits |= if interval.is_above(key) { bit } else { 0 };
        }
        for (bits, key) in not_below.iter_mut().zip(keys) {
            *bits |= if interval.is_below(key) { 0 } else { bit };
        }
        bit <<= 1;
    }
    let mut inside = not_below;
    for (bits, above) in inside.iter_mut().zip(above) {
        *bits &= !above;
    }
    [above, inside]
}
