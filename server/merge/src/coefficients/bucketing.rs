//! Bucketing (Karimireddy, He, Jaggi, "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing", ICLR 2022): the vectors,
//! shuffled, become the means of `⌈n / s⌉` groups; the last group may be short and is averaged by its own size.
//!
//! The shuffle depends on the seed, the stage's place in the recipe and the clients' indices alone: each client draws a number (SplitMix64
//! of its index under a key), and the order of the numbers is the order of the clients. All orders are as good as equally likely.

use ndarray::Array2;

use super::number;

/// SplitMix64's step: the golden ratio's digits, odd.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The mixing matrix.
pub(super) fn mixing(clients: usize, size: usize, seed: u64, position: usize) -> Array2<f64> {
    let order = shuffled(clients, seed, position);
    let size = size.max(1);
    let mut mixing = Array2::zeros((clients.div_ceil(size), clients));
    for (group, members) in order.chunks(size).enumerate() {
        for &member in members {
            mixing[[group, member]] = 1.0 / number(members.len());
        }
    }
    mixing
}

fn shuffled(clients: usize, seed: u64, position: usize) -> Vec<usize> {
    let key = drawn(seed, position);
    let mut order: Vec<usize> = (0..clients).collect();
    order.sort_by_key(|&client| (drawn(key, client), client));
    order
}

/// The number at a place of the sequence of a key.
fn drawn(key: u64, place: usize) -> u64 {
    let mut z = key.wrapping_add(STEP.wrapping_mul(place as u64 + 1));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_splitmix64() {
        // The first numbers of the published generator for the seed 1234567.
        let known = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973];
        assert_eq!([drawn(1_234_567, 0), drawn(1_234_567, 1)], known);
    }

    #[test]
    fn every_client_is_in_one_group_and_only_the_last_may_be_short() {
        for (clients, size, groups) in [
            (10, 3, vec![3, 3, 3, 1]),
            (4, 2, vec![2, 2]),
            (3, 5, vec![3]),
            (1, 1, vec![1]),
        ] {
            let mixing = mixing(clients, size, 7, 0);
            let sizes: Vec<usize> = mixing
                .outer_iter()
                .map(|row| row.iter().filter(|&&weight| weight > 0.0).count())
                .collect();
            assert_eq!(sizes, groups);
            for column in mixing.columns() {
                assert_eq!(column.iter().filter(|&&weight| weight > 0.0).count(), 1);
            }
            for row in mixing.outer_iter() {
                assert!((row.sum() - 1.0).abs() < 1e-15);
            }
        }
    }

    #[test]
    fn another_seed_or_stage_shuffles_otherwise() {
        let order = shuffled(16, 1, 0);
        assert_eq!(order, shuffled(16, 1, 0));
        assert_ne!(order, shuffled(16, 2, 0));
        assert_ne!(order, shuffled(16, 1, 1));
    }

    #[test]
    fn every_client_comes_first_about_equally_often() {
        let mut firsts = [0_u32; 5];
        for seed in 0..5000 {
            firsts[shuffled(5, seed, 0)[0]] += 1;
        }
        assert!(
            firsts.iter().all(|first| (900..1100).contains(first)),
            "{firsts:?}"
        );
    }
}
