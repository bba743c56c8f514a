//! Rules that are clever, against versions of them that are not.

use ndarray::Array1;

use super::distances::Distances;
use super::*;

fn squares(vectors: &[Vec<f64>]) -> Vectors {
    let square = |a: &[f64], b: &[f64]| distance(a, b).powi(2);
    vectors
        .iter()
        .map(|a| vectors.iter().map(|b| square(a, b)).collect())
        .collect()
}

/// All subsets of a size, in lexicographic order.
pub(super) fn subsets(clients: usize, size: usize) -> Vec<Vec<usize>> {
    fn grow(
        from: usize,
        clients: usize,
        size: usize,
        subset: &mut Vec<usize>,
        all: &mut Vec<Vec<usize>>,
    ) {
        if subset.len() == size {
            all.push(subset.clone());
            return;
        }
        for client in from..clients {
            subset.push(client);
            grow(client + 1, clients, size, subset, all);
            subset.pop();
        }
    }
    let mut all = Vec::new();
    grow(0, clients, size, &mut Vec::new(), &mut all);
    all
}

/// The first subset of the least diameter.
fn least(clients: usize, tolerate: usize, square: impl Fn(usize, usize) -> f64) -> Vec<usize> {
    let diameter = |subset: &[usize]| {
        let pairs = subset
            .iter()
            .flat_map(|&i| subset.iter().map(move |&j| (i.min(j), i.max(j))));
        pairs.map(|(i, j)| square(i, j)).fold(0.0, f64::max)
    };
    let mut best = (f64::INFINITY, Vec::new());
    for subset in subsets(clients, clients - tolerate) {
        if diameter(&subset) < best.0 {
            best = (diameter(&subset), subset);
        }
    }
    best.1
}

#[test]
fn minimum_diameter_averaging_is_that_of_all_subsets() {
    let mut dice = Dice(11);
    for turn in 0..600 {
        let clients = 1 + dice.below(if turn % 20 == 0 { 16 } else { 11 });
        let tolerate = dice.below(clients.div_ceil(2));
        let mut vectors = dice.vectors(clients, 1 + turn % 3);
        if turn % 2 == 0 {
            // On a grid, where many distances are the same and many vectors too.
            vectors
                .iter_mut()
                .flatten()
                .for_each(|value| *value = (*value * 2.0).round());
        }
        let distances = Distances::of(&Gram::of(clients, &vectors));
        let expected = least(clients, tolerate, |i, j| distances.square(i, j));
        assert_eq!(
            mda::chosen(&distances, tolerate),
            expected,
            "{vectors:?} and {tolerate}"
        );
    }
}

#[test]
fn minimum_diameter_averaging_settles_many_clients_who_are_all_about_as_far_apart() {
    let mut dice = Dice(12);
    let (clients, tolerate) = (80, 30);
    let vectors = dice.vectors(clients, 40);
    let distances = Distances::of(&Gram::of(clients, &vectors));
    let chosen = mda::chosen(&distances, tolerate);
    assert_eq!(chosen.len(), clients - tolerate);
    let pairs = || {
        chosen
            .iter()
            .flat_map(|&i| chosen.iter().map(move |&j| (i, j)))
    };
    let diameter = pairs()
        .map(|(i, j)| distances.square(i, j))
        .fold(0.0, f64::max);
    // Nobody can be exchanged for another to make it less.
    for out in 0..clients {
        for inside in &chosen {
            let others = || chosen.iter().filter(|other| *other != inside);
            let without = others().flat_map(|&i| others().map(move |&j| (i, j)));
            let with = others().map(|&i| (i, out));
            let changed = without
                .chain(with)
                .map(|(i, j)| distances.square(i, j))
                .fold(0.0, f64::max);
            assert!(chosen.contains(&out) || changed >= diameter);
        }
    }
}

/// Krum's pick among those who remain, as the paper says it.
fn picked(squares: &[Vec<f64>], remaining: &[usize], counted: usize) -> usize {
    let score = |i: usize| -> f64 {
        let others = remaining.iter().filter(|&&j| j != i);
        let mut near: Vec<f64> = others.map(|&j| squares[i][j]).collect();
        near.sort_by(f64::total_cmp);
        near.iter().take(counted).sum()
    };
    let mut best = 0;
    for at in 1..remaining.len() {
        // Two who are each other's nearest have one score, up to rounding.
        if score(remaining[at]) < score(remaining[best]) * (1.0 - 1e-12) {
            best = at;
        }
    }
    best
}

#[test]
fn bulyan_chooses_as_krum_would_again_and_again() {
    let mut dice = Dice(13);
    for turn in 0..100 {
        let tolerate = turn % 4;
        let clients = 4 * tolerate + 3 + dice.below(4);
        let vectors = dice.vectors(clients, 5);
        let squares = squares(&vectors);
        for (neighbours, others) in [(Neighbours::Paper, 2), (Neighbours::Byzfl, 1)] {
            let mut remaining: Vec<usize> = (0..clients).collect();
            let mut expected = Vec::new();
            while expected.len() < clients - 2 * tolerate {
                let counted = remaining.len().saturating_sub(tolerate + others).max(1);
                expected.push(remaining.remove(picked(&squares, &remaining, counted)));
            }
            expected.sort_unstable();
            let gram = Gram::of(clients, &vectors);
            assert_eq!(bulyan::chosen(&gram, tolerate, neighbours), expected);
        }
    }
}

#[test]
fn krum_counts_as_many_neighbours_as_each_convention_says() {
    // On a line: distances tell by hand.
    let vectors: Vectors = [0.0, 1.0, 3.0, 3.5, 9.0]
        .iter()
        .map(|&at| vec![at])
        .collect();
    let weights = |neighbours, selected| {
        weights(
            &Recipe::of(Method::MultiKrum {
                tolerate: 1,
                neighbours,
                selected,
            }),
            &vectors,
        )
    };
    // Paper, two neighbours: 1 + 9, 1 + 4, 0.25 + 4, 0.25 + 6.25, 30.25 + 36. The two best are averaged.
    assert_eq!(weights(Neighbours::Paper, None), [0.0, 0.5, 0.5, 0.0, 0.0]);
    assert_eq!(
        weights(Neighbours::Paper, Some(1)),
        [0.0, 0.0, 1.0, 0.0, 0.0]
    );
    // ByzFL, three: 22.25, 11.25, 13.25, 18.75, 130.25. The four best.
    assert_eq!(
        weights(Neighbours::Byzfl, None),
        [0.25, 0.25, 0.25, 0.25, 0.0]
    );
    assert_eq!(
        weights(Neighbours::Byzfl, Some(1)),
        [0.0, 1.0, 0.0, 0.0, 0.0]
    );
    assert_eq!(weights(Neighbours::Byzfl, Some(99)), [0.2; 5]);
}

/// A symmetric matrix of this rank; with rank 0, a diagonal one.
fn symmetric(dice: &mut Dice, size: usize, rank: usize) -> Array2<f64> {
    if rank == 0 {
        return Array2::from_diag(&Array1::from_shape_fn(size, |_| dice.number()));
    }
    let half = Array2::from_shape_fn((size, rank), |_| dice.number());
    Array2::from_shape_fn((size, size), |(i, j)| half.row(i).dot(&half.row(j)))
}

fn assert_spectrum(matrix: &Array2<f64>) {
    let rows = matrix.outer_iter().map(|row| row.to_vec()).collect();
    let spectrum = spectrum::Spectrum::of(rows);
    assert!(spectrum.values.is_sorted_by(|a, b| a >= b));
    let vectors: Vec<Array1<f64>> = spectrum.vectors.into_iter().map(Array1::from).collect();
    for (i, (value, vector)) in spectrum.values.iter().zip(&vectors).enumerate() {
        let off = matrix.dot(vector) - vector * *value;
        let tolerance = 1e-12 * number(matrix.nrows());
        assert!(off.iter().all(|off| off.abs() < tolerance));
        for (j, other) in vectors.iter().enumerate() {
            let expected = if i == j { 1.0 } else { 0.0 };
            assert!((vector.dot(other) - expected).abs() < 1e-12);
        }
    }
}

#[test]
fn eigenvectors_are_turned_into_multiples_of_themselves_and_stand_at_right_angles() {
    let mut dice = Dice(14);
    for size in [1, 2, 3, 8, 40] {
        for rank in [size, 1 + size / 3, 0] {
            assert_spectrum(&symmetric(&mut dice, size, rank));
        }
    }
}

/// The filter on the plane itself, where the covariance is two by two: the mean of the least variance, and the last.
fn filtered(points: &[Vec<f64>], tolerate: usize) -> (Vec<f64>, Vec<f64>) {
    let mut left = vec![1.0; points.len()];
    let (mut best, mut last) = ((f64::INFINITY, vec![]), vec![]);
    let enough = number(points.len() - 2 * tolerate);
    for turn in 0.. {
        let sum: f64 = left.iter().sum();
        if sum <= enough {
            break;
        }
        let weights: Vec<f64> = left.iter().map(|left| left / sum).collect();
        last = combined(&weights, points);
        let off = |i: usize, at: usize| points[i][at] - last[at];
        let moment = |a: usize, b: usize| -> f64 {
            (0..points.len())
                .map(|i| weights[i] * off(i, a) * off(i, b))
                .sum()
        };
        let (xx, xy, yy) = (moment(0, 0), moment(0, 1), moment(1, 1));
        let angle = (2.0 * xy).atan2(xx - yy) / 2.0;
        let along = |i: usize| (off(i, 0) * angle.cos() + off(i, 1) * angle.sin()).powi(2);
        let scores: Vec<f64> = (0..points.len()).map(along).collect();
        let variance: f64 = scores
            .iter()
            .zip(&weights)
            .map(|(score, weight)| score * weight)
            .sum();
        if variance < best.0 {
            best = (variance, last.clone());
        }
        let largest = caf::largest(&scores, &left, turn).unwrap();
        for (left, score) in left.iter_mut().zip(&scores) {
            *left *= (1.0 - score / largest).max(0.0);
        }
    }
    (best.1, last)
}

#[test]
fn the_filter_keeps_the_mean_of_the_least_variance_on_its_way() {
    let mut dice = Dice(16);
    let mut not_the_last = 0;
    for _ in 0..200 {
        let clients = 5 + dice.below(5);
        let tolerate = 1 + dice.below((clients - 1) / 2);
        let points = dice.vectors(clients, 2);
        let (best, last) = filtered(&points, tolerate);
        let actual = merged(&Recipe::of(Method::Caf { tolerate }), &points);
        assert!(
            distance(&actual, &best) < 1e-6,
            "{actual:?} is not {best:?}"
        );
        not_the_last += usize::from(distance(&best, &last) > 1e-3);
    }
    assert!(not_the_last > 0);
}

#[test]
fn the_geometric_median_cannot_be_moved_to_lessen_the_distances() {
    let mut dice = Dice(15);
    for _ in 0..50 {
        let vectors = dice.vectors(7, 3);
        let median = merged(&Recipe::of(CONVERGED), &vectors);
        let sum = |point: &[f64]| {
            vectors
                .iter()
                .map(|vector| distance(vector, point))
                .sum::<f64>()
        };
        for _ in 0..20 {
            let moved: Vec<f64> = median
                .iter()
                .map(|value| value + 1e-3 * dice.number())
                .collect();
            assert!(sum(&moved) > sum(&median) - 1e-9);
        }
    }
}
