//! The accountant: how much privacy Gaussian noise leaves, as (ε, δ).
//!
//! Two ways. Without sampling every release is a Gaussian mechanism, and any number of them is exactly one with less noise: the analytic
//! formula of Balle and Wang (ICML 2018) is tight. With Poisson sampling it is Rényi differential privacy of the sampled Gaussian
//! (Mironov, Talwar and Zhang 2019, arXiv 1908.10530), converted as by Canonne, Kamath and Steinke (NeurIPS 2020).
//! Noise is given as its multiplier σ: standard deviation over sensitivity.

use std::f64::consts::{LN_2, PI, SQRT_2};

/// Below this the terms of the fractional series do not matter any more; natural logarithm.
const NEGLIGIBLE: f64 = -30.0;
/// From here on, erfc underflows and its asymptotic series is exact to the last digits.
const FAR: f64 = 25.0;
/// Steps of a bisection over the doubles that matter.
const BISECTIONS: usize = 200;
/// The largest ε that is looked for: nobody's protection.
const LARGEST_EPSILON: f64 = 1e6;

/// δ(ε) of a Gaussian mechanism: `Φ(1/2σ − εσ) − e^ε Φ(−1/2σ − εσ)`.
#[must_use]
pub fn gaussian_delta(sigma: f64, epsilon: f64) -> f64 {
    let (half, shift) = (0.5 / sigma, epsilon * sigma);
    let second = epsilon + log_normal_cdf(-half - shift);
    (log_normal_cdf(half - shift).exp() - second.exp()).max(0.0)
}

/// The smallest ε with δ(ε) ≤ `delta` of `releases` Gaussian mechanisms of this σ each; infinite beyond a million.
#[must_use]
pub fn gaussian_epsilon(sigma: f64, releases: f64, delta: f64) -> f64 {
    if releases <= 0.0 {
        return 0.0;
    }
    let composed = sigma / releases.sqrt();
    let is_enough = |epsilon| gaussian_delta(composed, epsilon) <= delta;
    if is_enough(0.0) {
        return 0.0;
    }
    if !is_enough(LARGEST_EPSILON) {
        return f64::INFINITY;
    }
    bisect(0.0, LARGEST_EPSILON, is_enough)
}

/// The smallest σ with which one Gaussian mechanism is (ε, δ)-private.
#[must_use]
pub fn gaussian_sigma(epsilon: f64, delta: f64) -> f64 {
    bisect(1e-6, 1e6, |sigma| gaussian_delta(sigma, epsilon) <= delta)
}

/// The smallest number of `low ..= high` that is enough, where everything above one that is enough is.
fn bisect(low: f64, high: f64, is_enough: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (low, high);
    for _ in 0..BISECTIONS {
        let middle = f64::midpoint(low, high);
        if is_enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// The orders α at which Rényi divergences are looked at, as in Google's `dp-accounting`.
pub fn orders() -> impl Iterator<Item = f64> {
    let fine = (1..100_u32).map(|tenth| 1.0 + f64::from(tenth) / 10.0);
    let whole = (11..=63_u32).map(f64::from);
    fine.chain(whole).chain([128.0, 256.0, 512.0, 1024.0])
}

/// Rényi divergence of order α of one Gaussian mechanism on a Poisson sample: every client takes part with probability `sampling`.
///
/// # Panics
/// When α is not above 1, σ not above 0, or the probability not in (0, 1].
#[must_use]
pub fn sampled_gaussian_rdp(sampling: f64, sigma: f64, order: f64) -> f64 {
    assert!(order > 1.0 && sigma > 0.0 && 0.0 < sampling && sampling <= 1.0);
    if sampling >= 1.0 {
        return order / (2.0 * sigma * sigma);
    }
    let log_moment = if order.fract() == 0.0 {
        whole_order(sampling, sigma, order)
    } else {
        fractional_order(sampling, sigma, order)
    };
    log_moment / (order - 1.0)
}

/// `ln Σ_k C(α,k) q^k (1−q)^(α−k) exp((k²−k)/2σ²)`
fn whole_order(sampling: f64, sigma: f64, order: f64) -> f64 {
    let (mut sum, mut log_binomial, mut k) = (f64::NEG_INFINITY, 0.0, 0.0);
    while k <= order {
        let term = log_binomial
            + k * sampling.ln()
            + (order - k) * (-sampling).ln_1p()
            + (k * k - k) / (2.0 * sigma * sigma);
        sum = log_add(sum, term);
        log_binomial += ((order - k) / (k + 1.0)).ln();
        k += 1.0;
    }
    sum
}

/// The two-sided series for an α that is no whole number (§3.3 of the paper).
fn fractional_order(sampling: f64, sigma: f64, order: f64) -> f64 {
    let split = sigma * sigma * (1.0 / sampling - 1.0).ln() + 0.5;
    let (log_q, log_rest) = (sampling.ln(), (-sampling).ln_1p());
    let spread = SQRT_2 * sigma;
    let twice = 2.0 * sigma * sigma;
    let (mut low, mut high) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    let (mut log_binomial, mut is_positive, mut i) = (0.0, true, 0.0);
    loop {
        let j = order - i;
        let below = log_binomial
            + i * log_q
            + j * log_rest
            + (i * i - i) / twice
            + log_erfc((i - split) / spread)
            - LN_2;
        let above = log_binomial
            + j * log_q
            + i * log_rest
            + (j * j - j) / twice
            + log_erfc((split - j) / spread)
            - LN_2;
        let join = if is_positive { log_add } else { log_subtract };
        low = join(low, below);
        high = join(high, above);
        if below.max(above) < NEGLIGIBLE {
            return log_add(low, high);
        }
        log_binomial += (j.abs() / (i + 1.0)).ln();
        is_positive ^= j < 0.0;
        i += 1.0;
    }
}

/// ε of `releases` mechanisms with these Rényi divergences at [`orders`], the tight conversion: the least over α of
/// `R + ln(1 − 1/α) − ln(δα)/(α−1)`.
#[must_use]
pub fn rdp_epsilon(sampling: f64, sigma: f64, releases: f64, delta: f64) -> f64 {
    if releases <= 0.0 {
        return 0.0;
    }
    let of_order = |order: f64| {
        let divergence = releases * sampled_gaussian_rdp(sampling, sigma, order);
        if delta * delta + (-divergence).exp_m1() > 0.0 {
            return 0.0;
        }
        // Below this order the formula's terms cancel.
        if order <= 1.01 {
            return f64::INFINITY;
        }
        divergence + (-1.0 / order).ln_1p() - (delta * order).ln() / (order - 1.0)
    };
    orders()
        .map(of_order)
        .fold(f64::INFINITY, f64::min)
        .max(0.0)
}

/// The smallest σ with which so many releases on samples are (ε, δ)-private, by Rényi divergences.
#[must_use]
pub fn rdp_sigma(epsilon: f64, sampling: f64, releases: f64, delta: f64) -> f64 {
    bisect(0.05, 1e4, |sigma| {
        rdp_epsilon(sampling, sigma, releases, delta) <= epsilon
    })
}

fn log_add(left: f64, right: f64) -> f64 {
    let (small, large) = if left < right {
        (left, right)
    } else {
        (right, left)
    };
    if small == f64::NEG_INFINITY {
        return large;
    }
    large + (small - large).exp().ln_1p()
}

/// `ln(e^left − e^right)` of `left ≥ right`; rounding may have it the other way round by a little, and then nothing is left.
fn log_subtract(left: f64, right: f64) -> f64 {
    if right == f64::NEG_INFINITY {
        return left;
    }
    if left <= right {
        return f64::NEG_INFINITY;
    }
    left + (-(right - left).exp()).ln_1p()
}

/// `ln Φ(x)` of the standard normal distribution.
fn log_normal_cdf(x: f64) -> f64 {
    log_erfc(-x / SQRT_2) - LN_2
}

/// `ln erfc(x)`; the asymptotic series where erfc itself underflows.
fn log_erfc(x: f64) -> f64 {
    if x < FAR {
        return libm::erfc(x).ln();
    }
    let inverse = 1.0 / (x * x);
    let series = 1.0 - inverse * (0.5 - inverse * (0.75 - inverse * 1.875));
    -x * x - x.ln() - 0.5 * PI.ln() + series.ln()
}

#[cfg(test)]
mod tests;
