//! Rules on vectors so few and short that the result is worked out by hand.

use ndarray::array;

use super::*;

#[test]
fn trust_is_measured_by_direction_and_lengths_are_made_the_same() {
    let vectors = vec![
        vec![2.0, 0.0],
        vec![8.0, 0.0],
        vec![0.0, 5.0],
        vec![-1.0, 0.0],
        vec![3.0, 4.0],
    ];
    // Agreement is 1, 0, 0 (against) and 0.6; both that agree are scaled to the length 2.
    assert_near(
        &weights(&Recipe::of(Method::Fltrust), &vectors),
        &[0.0, 0.15625, 0.0, 0.0, 0.15],
        1e-12,
        "weights",
    );
    let against = vec![vec![1.0, 0.0], vec![-1.0, 3.0], vec![0.0, 0.0]];
    assert_eq!(weights(&Recipe::of(Method::Fltrust), &against), [0.0; 3]);
}

#[test]
fn without_a_trusted_client_there_is_no_step() {
    let vectors = Dice(6).vectors(4, 3);
    for method in [Method::Fltrust, Method::Monna { tolerate: 1 }] {
        for trusted in [None, Some(4)] {
            let decision = decided(&Recipe::of(method), &vectors, trusted);
            assert_eq!(decision, Decision::Sum(vec![0.0; 4]));
        }
    }
}

#[test]
fn flame_keeps_the_majority_by_direction_and_clips_it_to_the_median_length_of_all() {
    let at = |angle: f64, length: f64| vec![angle.cos() * length, angle.sin() * length];
    let vectors = vec![
        at(0.0, 1.0),
        at(0.1, 2.0),
        at(3.0, 50.0),
        at(0.25, 4.0),
        at(3.0, 50.0),
    ];
    // Lengths are 1, 2, 4, 50, 50. Those at 3 are nearest to each other, but no majority.
    let third = 1.0 / 3.0;
    assert_near(
        &weights(&Recipe::of(Method::Flame), &vectors),
        &[third, third, 0.0, third, 0.0],
        1e-12,
        "weights",
    );
    // The majority of four is three, and a fourth who joins at the same distance is in.
    let square = vec![
        vec![1.0, 0.0],
        vec![0.0, 1.0],
        vec![-1.0, 0.0],
        vec![0.0, -1.0],
    ];
    assert_eq!(weights(&Recipe::of(Method::Flame), &square), [0.25; 4]);
    // Lengths do not matter for who belongs together, however much they differ.
    let lengths = vec![
        at(0.0, 1.0),
        at(0.1, 10.0),
        at(0.2, 100.0),
        at(3.0, 1.0),
        at(3.3, 1.0),
    ];
    assert_near(
        &weights(&Recipe::of(Method::Flame), &lengths),
        &[third, third / 10.0, third / 100.0, 0.0, 0.0],
        1e-10,
        "weights",
    );
    let line = vec![at(0.0, 1.0), at(0.1, 1.0), at(0.3, 1.0), at(1.0, 1.0)];
    assert_near(
        &weights(&Recipe::of(Method::Flame), &line),
        &[third, third, third, 0.0],
        1e-12,
        "weights",
    );
}

#[test]
fn products_of_matrices_are_those_of_the_textbook() {
    let (a, b) = (
        array![[1.0, 2.0], [0.0, -1.0]],
        array![[3.0, 0.5, 1.0], [1.0, 4.0, 0.0]],
    );
    assert_eq!(product(&a, &b), array![[5.0, 8.5, 1.0], [-1.0, -4.0, 0.0]]);
    let empty: Array2<f64> = product(&Array2::zeros((0, 2)), &b);
    assert_eq!(empty.dim(), (0, 3));
}

#[test]
fn the_geometric_median_that_is_one_of_the_vectors_is_found() {
    // The middle of a cross, a million lengths from 0.
    let far = 1e6;
    let cross = [[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]];
    let vectors: Vectors = cross.iter().map(|at| vec![far + at[0], at[1]]).collect();
    let median = merged(&Recipe::of(CONVERGED), &vectors);
    assert!(distance(&median, &[far, 0.0]) < 1e-6, "{median:?}");
}
