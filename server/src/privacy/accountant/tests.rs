//! Held against Google's `dp-accounting` 0.6.0, published values and, where those are bounds, the integral itself.
//!
//! At orders that are no whole numbers the reference adds the absolute values of a series whose terms alternate: an upper bound, by up to
//! a thousandth. Ours is the series.

use super::*;

fn is_near(found: f64, expected: f64, relative: f64) -> bool {
    (found - expected).abs() <= relative * expected.abs()
}

#[test]
fn renyi_divergences_are_those_of_the_reference() {
    let few = 256.0 / 60_000.0;
    for (sampling, sigma, order, expected) in [
        (0.01, 1.0, 2.0, 1.718_134_220_746e-4),
        (0.01, 1.0, 4.0, 3.631_540_489_108e-4),
        (0.01, 1.0, 8.0, 8.936_439_076_060e-4),
        (0.01, 1.0, 16.0, 3.087_850_783_696),
        (0.01, 1.0, 32.0, 11.246_275_937_05),
        (few, 1.1, 2.0, 2.339_577_600_995e-5),
        (few, 1.1, 8.0, 9.834_106_177_993e-5),
        (few, 1.1, 16.0, 0.791_891_433_281_9),
        (0.1, 2.0, 2.0, 2.836_228_266_264e-3),
        (0.1, 2.0, 8.0, 1.372_543_010_322e-2),
        (0.1, 2.0, 32.0, 1.627_202_301_019),
        (1.0, 2.0, 8.0, 1.0),
    ] {
        let found = sampled_gaussian_rdp(sampling, sigma, order);
        assert!(
            is_near(found, expected, 1e-9),
            "q {sampling}, σ {sigma}, α {order}: {found}, expected {expected}"
        );
    }
}

/// `1/(α−1) ln ∫ N(x; 0, σ²) ((1−q) + q e^((2x−1)/2σ²))^α dx` by the trapezoidal rule, which is exact to the last digits on such a bell.
fn integral(sampling: f64, sigma: f64, order: f64) -> f64 {
    const STEPS: i32 = 40_000;
    let width = 40.0 * sigma;
    let step = 2.0 * width / f64::from(STEPS);
    let bell = (0..=STEPS).map(|number| {
        let x = f64::from(number) * step - width;
        let density = (-x * x / (2.0 * sigma * sigma)).exp() / (sigma * (2.0 * PI).sqrt());
        let ratio = 1.0 - sampling + sampling * ((2.0 * x - 1.0) / (2.0 * sigma * sigma)).exp();
        step * density * ratio.powf(order)
    });
    bell.sum::<f64>().ln() / (order - 1.0)
}

#[test]
fn renyi_divergences_at_orders_between_whole_numbers_are_the_integral() {
    for (sampling, sigma, order, bound) in [
        (0.01, 1.0, 2.5, 2.177_720_242_406e-4),
        (0.1, 2.0, 1.5, 2.726_711_261_751e-3),
        (0.05, 1.5, 3.3, f64::INFINITY),
    ] {
        let found = sampled_gaussian_rdp(sampling, sigma, order);
        let expected = integral(sampling, sigma, order);
        assert!(
            is_near(found, expected, 1e-6),
            "α {order}: {found}, expected {expected}"
        );
        assert!(
            found <= bound * (1.0 + 1e-9),
            "α {order}: {found} > {bound}"
        );
    }
    // The same integral at a whole number, where the reference is exact.
    assert!(is_near(
        integral(0.01, 1.0, 4.0),
        3.631_540_489_108e-4,
        1e-6
    ));
}

#[test]
fn epsilons_by_renyi_divergence_are_those_of_the_reference() {
    let few = 256.0 / 60_000.0;
    for (sampling, sigma, releases, delta, expected) in [
        (few, 1.3, 3515.0, 1e-5, 0.954_430),
        (few, 1.1, 14062.0, 1e-5, 2.596_556),
        (few, 0.7, 10546.0, 1e-5, 6.319_464),
        (0.01, 4.0, 1e4, 1e-5, 1.035_490),
        (5000.0 / 763_430.0, 1.0, 5000.0, 1e-9, 4.183_292),
        (0.01, 1.0, 1000.0, 1e-5, 2.101_367),
        (0.1, 1.0, 100.0, 1e-5, 7.903_850),
        (0.05, 1.0, 200.0, 1e-3, 3.751_395),
        (1.0, 1.0, 1.0, 1e-5, 4.728_507),
        (1.0, 5.0, 100.0, 1e-5, 10.725_510),
    ] {
        let found = rdp_epsilon(sampling, sigma, releases, delta);
        assert!(
            0.999 * expected < found && found < expected + 1e-6,
            "q {sampling}, σ {sigma}, T {releases}: {found}, expected {expected}"
        );
    }
}

#[test]
fn the_noise_that_a_budget_needs_costs_the_budget() {
    let epsilon = rdp_epsilon(0.01, 1.0, 1000.0, 1e-5);
    let sigma = rdp_sigma(epsilon, 0.01, 1000.0, 1e-5);
    assert!(is_near(sigma, 1.0, 1e-6), "{sigma}");
}

#[test]
fn without_sampling_the_analytic_gaussian_is_tight() {
    assert!(is_near(gaussian_epsilon(1.0, 1.0, 1e-5), 4.377_178, 1e-6));
    assert!(is_near(gaussian_epsilon(5.0, 100.0, 1e-5), 9.997_256, 1e-6));
    for (epsilon, sigma) in [
        (1.0, 3.730_632),
        (2.0, 1.993_812),
        (4.0, 1.081_162),
        (8.0, 0.600_229),
        (10.0, 0.499_889),
    ] {
        let found = gaussian_sigma(epsilon, 1e-5);
        assert!(is_near(found, sigma, 1e-6), "ε {epsilon}: {found}");
        assert!(is_near(gaussian_epsilon(found, 1.0, 1e-5), epsilon, 1e-9));
    }
    // 50 rounds at ε = 8 need √50 times the noise of one.
    let z = gaussian_sigma(8.0, 1e-5) * 50.0_f64.sqrt();
    assert!(is_near(z, 4.2443, 1e-4), "{z}");
    assert!(is_near(gaussian_epsilon(z, 50.0, 1e-5), 8.0, 1e-9));
}

#[test]
fn more_releases_and_less_noise_cost_more() {
    let mut before = 0.0;
    for releases in 1..20 {
        let epsilon = gaussian_epsilon(2.0, f64::from(releases), 1e-6);
        assert!(epsilon > before);
        before = epsilon;
    }
    assert!(gaussian_epsilon(1.0, 1.0, 1e-6) > gaussian_epsilon(1.1, 1.0, 1e-6));
    assert!(rdp_epsilon(0.1, 1.0, 10.0, 1e-6) < rdp_epsilon(0.2, 1.0, 10.0, 1e-6));
}

#[test]
fn nothing_released_costs_nothing_and_no_noise_everything() {
    assert_eq!(gaussian_epsilon(1.0, 0.0, 1e-5).to_bits(), 0);
    assert_eq!(rdp_epsilon(0.1, 1.0, 0.0, 1e-5).to_bits(), 0);
    assert!(gaussian_epsilon(1e-9, 1.0, 1e-5).is_infinite());
    assert!(gaussian_delta(1e300, 0.0) < 1e-200);
}
