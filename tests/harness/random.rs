//! Chance that is the same in every run.

/// A number for each seed and use.
pub(crate) fn random(seed: u64, purpose: u64) -> u64 {
    let mut mixed = seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(purpose);
    for _ in 0..3 {
        mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    mixed ^ (mixed >> 32)
}

/// So many finite values, of which no bit tells anything of another: nothing of them can be packed.
pub(crate) fn arbitrary(seed: u64, count: usize) -> Vec<f32> {
    let value = |number| {
        let [bits, chance] = [random(seed, number), random(!seed, number)];
        // Exponents from −100 to 7: sums are finite, too.
        let exponent = 27 + u32::try_from(chance % 108).unwrap();
        f32::from_bits(u32::try_from(bits >> 32).unwrap() & 0x807f_ffff | exponent << 23)
    };
    (0..count as u64).map(value).collect()
}
