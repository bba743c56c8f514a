//! What a merge tells of its clients, on models small enough to work it out by hand.

use super::fixture::{Memory, Merge, Tensors};
use crate::{Before, ClipNorm, Detail, Diagnostics, History, Method, Recipe};

fn diagnosed(recipe: Recipe, updates: &[Tensors<f64>], history: History<'_>) -> Diagnostics {
    let base: Tensors<f64> = updates[0]
        .iter()
        .map(|values| vec![0.0; values.len()])
        .collect();
    let merge = Merge {
        detail: Detail::Full,
        ..Merge::new(recipe, &base, updates)
    };
    merge.run_after(history).unwrap().1.diagnostics.unwrap()
}

#[track_caller]
fn assert_near(actual: f64, expected: f64) {
    assert!(
        (actual - expected).abs() < 1e-9,
        "{actual} is not {expected}"
    );
}

fn updates() -> Vec<Tensors<f64>> {
    vec![
        vec![vec![3.0, 4.0, 0.0, 0.0], vec![0.0, 0.0]],
        vec![vec![3.0, -4.0, 0.0, 0.0], vec![0.0, 0.0]],
        vec![vec![0.0, 0.0, 0.0, 5.0], vec![0.0, 12.0]],
    ]
}

#[test]
fn lengths_cosines_and_independence_come_from_the_inner_products() {
    for recipe in [
        Recipe::of(Method::Mean),
        Recipe::of(Method::Mda { tolerate: 0 }),
    ] {
        let told = diagnosed(recipe, &updates(), History::default());
        assert_near(told.cosines[0][1], -7.0 / 25.0);
        assert_near(told.cosines[1][0], -7.0 / 25.0);
        assert_near(told.cosines[2][2], 1.0);
        assert_near(told.cosines[0][2], 0.0);
        // G = [[25, -7, 0], [-7, 25, 0], [0, 0, 169]].
        let squares = 2.0 * 625.0 + 2.0 * 49.0 + 169.0_f64.powi(2);
        assert_near(told.effective_clients, 219.0_f64.powi(2) / squares);
        // The sum is (6, 0, 0, 5, 0, 12).
        assert_near(told.gradient_diversity, 219.0 / 205.0);
        assert_near(
            told.shrinkage,
            (205.0_f64.sqrt() / 3.0) / ((5.0 + 5.0 + 13.0) / 3.0),
        );
        // (3, 4, 0, 0, 0, 0) − (2, 0, 0, 5/3, 0, 4)
        assert_near(
            told.clients[0].distance,
            (1.0 + 16.0 + 25.0 / 9.0 + 16.0_f64).sqrt(),
        );
        assert_eq!(told.drift, None);
    }
}

#[test]
fn signs_and_changes_are_counted_tensor_by_tensor() {
    let told = diagnosed(
        Recipe::of(Method::Median { tolerate: 1 }),
        &updates(),
        History::default(),
    );
    // Two coordinates have two values, one of them of both signs.
    assert_near(told.tensors[0].conflict_rate, 0.5);
    assert_near(
        told.tensors[0].mass_agreement,
        (6.0 + 0.0 + 5.0) / (14.0 + 5.0),
    );
    assert_near(told.tensors[1].conflict_rate, 0.0);
    assert_near(told.tensors[1].mass_agreement, 1.0);
    assert_eq!(told.tensors[1].name, "t1");
    assert_near(told.clients[0].active, 2.0 / 6.0);
    assert_eq!(
        told.clients[0].shared_ratio, None,
        "it changed nothing alone"
    );
    assert_eq!(told.clients[2].shared_ratio, Some(0.0));
    assert_near(told.overlaps[0][1], 1.0);
    assert_near(told.overlaps[0][2], 0.0);
    // Where values cancel exactly nobody is against the sum.
    assert_near(told.clients[1].disagreement, 0.0);
    let louder = vec![vec![vec![3.0, 9.0]], vec![vec![3.0, -4.0]]];
    let told = diagnosed(Recipe::of(Method::Mean), &louder, History::default());
    assert_near(told.clients[1].disagreement, 4.0 / 7.0);
    assert_near(told.clients[0].disagreement, 0.0);
}

#[test]
fn sparsity_is_told_by_hoyers_measure_and_by_the_mass_of_the_largest() {
    let mut one = vec![0.0; 100];
    one[3] = 2.0;
    let even = vec![1.0; 100];
    let told = diagnosed(
        Recipe::of(Method::Mean),
        &[vec![one], vec![even]],
        History::default(),
    );
    assert_near(told.clients[0].hoyer, 1.0);
    assert_near(told.clients[1].hoyer, 0.0);
    assert_near(told.clients[0].top_mass[0], 1.0);
    for (share, mass) in [0.01, 0.1, 0.2].iter().zip(told.clients[1].top_mass) {
        assert_near(mass, *share);
    }
}

#[test]
fn what_came_before_is_compared_with() {
    let step = Memory(vec![vec![1.0, 0.0], vec![]]);
    let updates = [vec![vec![2.0, 0.0], vec![]], vec![vec![0.0, 2.0], vec![]]];
    let history = History {
        step: Some(&step),
        ..History::default()
    };
    let told = diagnosed(Recipe::of(Method::Mean), &updates, history);
    assert_near(told.drift.unwrap(), 0.5_f64.sqrt());
    assert_eq!(
        told.clients
            .iter()
            .map(|client| client.step)
            .collect::<Vec<_>>(),
        [Some(1.0), Some(0.0)]
    );
    assert!(told.clients.iter().all(|client| client.previous.is_none()));
}

#[test]
fn each_client_is_told_its_say_and_how_far_it_was_shortened() {
    let base = vec![vec![7.0_f64, 7.0]];
    let updates = [vec![vec![3.0, 4.0]], vec![vec![6.0, 8.0]]];
    let clipped = Recipe {
        before: vec![Before::Clip {
            norm: ClipNorm::Fixed(5.0),
        }],
        ..Recipe::of(Method::Median { tolerate: 0 })
    };
    let (_, report) = Merge::new(clipped, &base, &updates).run().unwrap();
    let of = |value: fn(&crate::ClientReport) -> f64| {
        report.clients.iter().map(value).collect::<Vec<_>>()
    };
    assert_eq!(of(|client| client.norm.unwrap()), [5.0, 10.0]);
    assert_eq!(of(|client| client.clip_factor), [1.0, 0.5]);
    let weighted = Merge {
        weights: vec![1.0, 3.0],
        ..Merge::new(Recipe::of(Method::Mean), &base, &updates)
    };
    let (_, report) = weighted.run().unwrap();
    assert_eq!(
        report
            .clients
            .iter()
            .map(|client| client.weight_share)
            .collect::<Vec<_>>(),
        [0.25, 0.75]
    );
    assert_eq!((report.step_norm * 100.0).round(), 875.0);
    assert_eq!(
        report.values_read,
        3 * 2,
        "one pass over the base and two clients"
    );
    assert_eq!(report.clients[0].norm, None, "no length had to be known");
}
