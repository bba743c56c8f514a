//! Each attack against its formula, by hand or by brute force.

use super::*;

const HONEST: [[f64; 3]; 4] = [
    [1.0, 2.0, 0.0],
    [3.0, 2.0, 0.5],
    [2.0, -1.0, 0.0],
    [2.0, 5.0, -0.5],
];
const OWN: [f64; 3] = [1.0, -2.0, 0.5];

fn honest() -> Vec<Vec<f64>> {
    HONEST.map(|update| update.to_vec()).to_vec()
}

fn forged(attack: Attack) -> Vec<f64> {
    let honest = honest();
    let crowd = Crowd {
        honest: &honest,
        clients: 6,
        attackers: 2,
        lengths: &[2, 1],
    };
    forge(attack, &OWN, &crowd, &mut ChaCha8Rng::seed_from_u64(1))
}

fn close(left: &[f64], right: &[f64]) -> bool {
    norm(&difference(left, right)) < 1e-12
}

#[test]
fn attacks_on_an_own_update_do_what_their_help_says() {
    assert_eq!(forged(Attack::SignFlip), [-10.0, 20.0, -5.0]);
    assert_eq!(forged(Attack::Scale), [10.0, -20.0, 5.0]);
    assert_eq!(forged(Attack::FreeRider), [0.0, 0.0, 0.0]);
    assert_eq!(forged(Attack::ModelReplacement), [3.0, -6.0, 1.5]);
    for honest_on_dishonest_data in [Attack::LabelFlip, Attack::Backdoor] {
        assert_eq!(forged(honest_on_dishonest_data), OWN);
    }
    let nan = forged(Attack::Nan);
    assert!(nan[0].is_nan());
    assert_eq!(nan[1..], OWN[1..]);
}

#[test]
fn alie_and_ipm_are_their_papers_formulas() {
    // μ = (2, 2, 0), σ = (√(2/3), √6, √(1/6)).
    let sigma = [
        (2.0_f64 / 3.0).sqrt(),
        6.0_f64.sqrt(),
        (1.0_f64 / 6.0).sqrt(),
    ];
    let expected = [2.0 - 1.5 * sigma[0], 2.0 - 1.5 * sigma[1], -1.5 * sigma[2]];
    assert!(close(&forged(Attack::Alie), &expected));
    assert!(close(&forged(Attack::Ipm), &[-4.0, -4.0, 0.0]));
}

#[test]
fn min_max_and_min_sum_go_as_far_as_they_may_and_no_further() {
    let honest = honest();
    let squared = |left: &[f64], right: &[f64]| {
        let off = difference(left, right);
        dot(&off, &off)
    };
    let furthest = |from: &[f64]| {
        let distances = honest.iter().map(|update| squared(from, update));
        distances.fold(0.0, f64::max)
    };
    let total = |from: &[f64]| {
        honest
            .iter()
            .map(|update| squared(from, update))
            .sum::<f64>()
    };
    let mean = mean(&honest);
    for (attack, measure) in [
        (Attack::MinMax, &furthest as &dyn Fn(&[f64]) -> f64),
        (Attack::MinSum, &total),
    ] {
        let allowed = honest
            .iter()
            .map(|update| measure(update))
            .fold(0.0, f64::max);
        let forged = forged(attack);
        assert!((measure(&forged) - allowed).abs() < 1e-9, "{attack:?}");
        let further: Vec<f64> = forged
            .iter()
            .zip(&mean)
            .map(|(value, mean)| mean + 1.01 * (value - mean))
            .collect();
        assert!(measure(&further) > allowed, "{attack:?}");
    }
}

#[test]
fn mimic_copies_whoever_is_furthest_out() {
    // The second coordinate varies most: the third and the fourth client are equally far out in it.
    let copied = forged(Attack::Mimic);
    assert!(copied == HONEST[2] || copied == HONEST[3], "{copied:?}");
}

#[test]
fn sybils_are_all_but_equal_and_turn_the_mean_around() {
    let honest = honest();
    let crowd = Crowd {
        honest: &honest,
        clients: 6,
        attackers: 2,
        lengths: &[3],
    };
    let [one, two] = [1, 2].map(|seed| {
        forge(
            Attack::Sybil,
            &OWN,
            &crowd,
            &mut ChaCha8Rng::seed_from_u64(seed),
        )
    });
    assert_ne!(one, two);
    for sybil in [one, two] {
        assert!(norm(&difference(&sybil, &[-2.0, -2.0, 0.0])) < 3e-3);
    }
}

#[test]
fn a_slow_drift_is_as_long_as_an_honest_update_and_always_the_same_way() {
    let drift = forged(Attack::SlowDrift);
    assert_eq!(drift, forged(Attack::SlowDrift));
    let mut lengths = HONEST.map(|update| norm(&update));
    lengths.sort_by(f64::total_cmp);
    assert!((norm(&drift) - lengths[2]).abs() < 1e-12);
}

#[test]
fn a_single_tensor_gets_a_step_as_long_as_the_whole_mean() {
    let expected = [2.0, 2.0, -(8.0_f64.sqrt())];
    let found = forged(Attack::SingleTensor);
    assert!(close(&found[..2], &expected[..2]), "{found:?}");
    assert!(
        (found[2].abs() - expected[2].abs()).abs() < 1e-12,
        "{found:?}"
    );
}

#[test]
fn where_honest_clients_agree_to_the_bit_no_attack_is_undefined() {
    let honest = vec![vec![1.0, 2.0]; 3];
    let crowd = Crowd {
        honest: &honest,
        clients: 4,
        attackers: 1,
        lengths: &[2],
    };
    for attack in [
        Attack::Alie,
        Attack::Mimic,
        Attack::MinMax,
        Attack::MinSum,
        Attack::Sybil,
        Attack::SlowDrift,
        Attack::SingleTensor,
    ] {
        let forged = forge(
            attack,
            &[1.0, 2.0],
            &crowd,
            &mut ChaCha8Rng::seed_from_u64(1),
        );
        assert!(forged.iter().all(|value| value.is_finite()), "{attack:?}");
    }
}
