//! TIES (Yadav et al., NeurIPS 2023): elect a sign for each coordinate, average those who agree with it.
//!
//! The trim has happened: small values are 0 here. The sign is that of the weighted sum (mass), or of the number of clients on
//! either side (count); where it is 0 the result is 0. The mean is weighted, over the non-zero values of the elected sign.
//! Election by mass is not robust: one client with large values decides. A coordinate with NaN in its mass stays NaN.

use crate::kernel::Rows;
use crate::recipe::Elect;

/// How many coordinates are worked on together.
const WIDTH: usize = 256;

pub(super) fn combine(rows: Rows<'_>, weights: &[f64], elect: Elect, out: &mut [f64]) {
    for (tile, out) in out.chunks_mut(WIDTH).enumerate() {
        let start = tile * WIDTH;
        let mut poll = [0.0_f64; WIDTH];
        for (row, weight) in rows.iter().zip(weights) {
            for (poll, &value) in poll.iter_mut().zip(&row[start..start + out.len()]) {
                *poll += match elect {
                    Elect::Mass => weight * f64::from(value),
                    Elect::Count => vote(value),
                };
            }
        }
        let mut share = [0.0_f64; WIDTH];
        out.fill(0.0);
        for (row, weight) in rows.iter().zip(weights) {
            let lanes = out.iter_mut().zip(&mut share).zip(poll);
            for (((sum, share), poll), &value) in lanes.zip(&row[start..]) {
                let agrees = (poll > 0.0 && value > 0.0) || (poll < 0.0 && value < 0.0);
                let weight = if agrees { *weight } else { 0.0 };
                *share += weight;
                *sum += weight * if agrees { f64::from(value) } else { 0.0 };
            }
        }
        for ((sum, share), poll) in out.iter_mut().zip(share).zip(poll) {
            if poll.is_nan() {
                *sum = f64::NAN;
            } else if share > 0.0 {
                *sum /= share;
            }
        }
    }
}

/// One client's say, whatever its size.
fn vote(value: f32) -> f64 {
    f64::from(i8::from(value > 0.0) - i8::from(value < 0.0))
}
