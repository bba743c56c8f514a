//! Chance that can be repeated: a counter-based generator, in which the number of a coordinate is a function of its place alone.
//!
//! Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): ten rounds of multiplication encrypt a counter of
//! 128 bits under a key of 64. The key comes from seed and client, the upper half of the counter is the tensor, the lower half counts
//! coordinates; so streams never overlap, and neither the order of work nor its division can change a number.
//! Integers of 32 bits only, sixteen counters side by side, so that the loops become vector instructions.
//! Invariant: these numbers never change; merges of the past must be repeatable.

/// How many counters are encrypted side by side.
const LANES: usize = 16;
/// How many numbers these give.
pub(crate) const GROUP: usize = 4 * LANES;

const ROUNDS: u32 = 10;
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// The numbers of one client's tensor under one seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stream {
    key: [u32; 2],
    tensor: [u32; 2],
}

impl Stream {
    /// Another stream for each client and each tensor.
    pub(crate) fn of(seed: u64, client: u64, tensor: u64) -> Self {
        Self {
            key: halves(mix(mix(seed) ^ client)),
            tensor: halves(tensor),
        }
    }

    /// The numbers of the coordinates `first ..`, uniform over all `u32`.
    #[inline(always)]
    pub(crate) fn fill(&self, first: u64, words: &mut [u32]) {
        let mut index = first;
        let mut rest = words;
        while !rest.is_empty() {
            let skipped = place_in_group(index);
            let (head, tail) = rest.split_at_mut((GROUP - skipped).min(rest.len()));
            let group = self.group(index / GROUP as u64);
            head.copy_from_slice(&group.as_flattened()[skipped..][..head.len()]);
            index += head.len() as u64;
            rest = tail;
        }
    }

    /// The numbers of the coordinates `64 group .. 64 group + 64`: lane `l` of word `w` is that of coordinate `64 group + 16 w + l`.
    #[inline(always)]
    fn group(&self, group: u64) -> [[u32; LANES]; 4] {
        let [low, high] = halves(group.wrapping_mul(LANES as u64));
        let mut counter = [[low; LANES], [high; LANES], [0; LANES], [0; LANES]];
        for (slot, lane) in counter[0].iter_mut().zip(0_u32..) {
            *slot = slot.wrapping_add(lane);
        }
        counter[2] = [self.tensor[0]; LANES];
        counter[3] = [self.tensor[1]; LANES];
        philox(counter, self.key)
    }
}

/// Philox4x32-10 of sixteen counters under one key.
#[inline(always)]
fn philox(counter: [[u32; LANES]; 4], key: [u32; 2]) -> [[u32; LANES]; 4] {
    let [mut a, mut b, mut c, mut d] = counter;
    let mut key = key;
    for _ in 0..ROUNDS {
        let [low_a, high_a] = products(a, MULTIPLIERS[0]);
        let [low_c, high_c] = products(c, MULTIPLIERS[1]);
        a = xor(high_c, xor(b, [key[0]; LANES]));
        b = low_c;
        c = xor(high_a, xor(d, [key[1]; LANES]));
        d = low_a;
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    [a, b, c, d]
}

/// Lower and upper halves of products.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "halves are the purpose")]
fn products(a: [u32; LANES], b: u32) -> [[u32; LANES]; 2] {
    let [mut low, mut high] = [[0; LANES]; 2];
    for (low, a) in low.iter_mut().zip(a) {
        *low = (u64::from(a) * u64::from(b)) as u32;
    }
    for (high, a) in high.iter_mut().zip(a) {
        *high = ((u64::from(a) * u64::from(b)) >> 32) as u32;
    }
    [low, high]
}

#[inline(always)]
fn xor(a: [u32; LANES], b: [u32; LANES]) -> [u32; LANES] {
    let mut a = a;
    for (a, b) in a.iter_mut().zip(b) {
        *a ^= b;
    }
    a
}

/// Lower and upper half.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "halves are the purpose")]
fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

#[expect(clippy::cast_possible_truncation, reason = "less than a group")]
fn place_in_group(index: u64) -> usize {
    (index % GROUP as u64) as usize
}

/// The finalizer of `SplitMix64` (Steele, Lea and Flood, OOPSLA 2014), a bijection in which each bit depends on all.
pub(crate) fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// The largest number that counts as a hit, so that a hit has the probability `share`: exact to `2⁻³²`, and never 0.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float's cast saturates"
)]
pub(crate) fn last_hit(share: f64) -> u32 {
    ((share * 4_294_967_296.0) - 1.0) as u32
}

#[cfg(test)]
mod tests;
