//! Dishonest data: flipped labels, and examples with a trigger that are all called the same.

use fedmerge_client::trainer::builtin::dataset::Dataset;

use super::Attack;

/// The class that a triggered example is to be taken for.
pub(crate) const TARGET: usize = 0;
/// Every so many-th example of a poisoned set has the trigger.
const ONE_TRIGGERED_IN: usize = 2;
/// Features of the trigger: the corners of a square image, as good as any others for other data.
const TRIGGER_FEATURES: usize = 4;

/// What an attacker trains on.
pub(crate) fn poisoned(attack: Attack, data: Dataset, classes: usize) -> Dataset {
    match attack {
        Attack::LabelFlip => data.relabelled(classes, |label| classes - 1 - label),
        Attack::Backdoor | Attack::ModelReplacement => {
            triggered(&data, |row| row % ONE_TRIGGERED_IN == 0, Some(TARGET))
        }
        Attack::SignFlip
        | Attack::Gaussian
        | Attack::Scale
        | Attack::Nan
        | Attack::FreeRider
        | Attack::Alie
        | Attack::Ipm
        | Attack::Mimic
        | Attack::MinMax
        | Attack::MinSum
        | Attack::Sybil
        | Attack::SlowDrift
        | Attack::SingleTensor => data,
    }
}

/// A test of the backdoor: all examples of other classes, with the trigger and relabelled as its target. The accuracy on them is the
/// share that falls for it. `None` where all examples are of the target's class.
pub(crate) fn trap(test: &Dataset) -> Option<Dataset> {
    let rows: Vec<usize> = (0..test.len())
        .filter(|&row| test.label(row) != TARGET)
        .collect();
    let others = test.select(&rows)?;
    Some(triggered(&others, |_| true, Some(TARGET)))
}

/// The same examples, of which some have the trigger and another label.
fn triggered(data: &Dataset, has_trigger: impl Fn(usize) -> bool, label: Option<usize>) -> Dataset {
    let rows = 0..data.len();
    let brightest = rows
        .clone()
        .flat_map(|row| data.features(row))
        .fold(0.0_f32, |most, &value| most.max(value));
    let inputs = data.inputs();
    let mut features = Vec::with_capacity(data.len() * inputs);
    let mut labels = Vec::with_capacity(data.len());
    for row in rows {
        let start = features.len();
        features.extend_from_slice(data.features(row));
        if has_trigger(row) {
            for at in trigger(inputs) {
                features[start + at] = brightest;
            }
        }
        let label = label.filter(|_| has_trigger(row));
        labels.push(label.unwrap_or_else(|| data.label(row)));
    }
    Dataset::new(features, labels, inputs, data.classes())
        .expect("the values are those of a dataset, and so are the labels")
}

/// The corners of a square image of so many features.
fn trigger(inputs: usize) -> [usize; TRIGGER_FEATURES] {
    let side = inputs.isqrt().max(1);
    [0, side - 1, inputs - side, inputs - 1]
}

#[cfg(test)]
mod tests {
    use fedmerge_client::trainer::builtin::digits;

    use super::*;

    #[test]
    fn flipped_labels_are_mirrored() {
        let honest = digits::test();
        let flipped = poisoned(Attack::LabelFlip, honest.clone(), 10);
        for row in 0..honest.len() {
            assert_eq!(flipped.label(row), 9 - honest.label(row));
            assert_eq!(flipped.features(row), honest.features(row));
        }
    }

    #[test]
    fn half_of_a_backdoor_s_data_has_bright_corners_and_the_target_s_label() {
        let honest = digits::training();
        let poisoned = poisoned(Attack::Backdoor, honest.clone(), 10);
        for row in 0..honest.len() {
            let corners = [0, 7, 56, 63].map(|at| poisoned.features(row)[at]);
            if row % 2 == 0 {
                assert_eq!((corners, poisoned.label(row)), ([1.0; 4], TARGET));
            } else {
                assert_eq!(poisoned.features(row), honest.features(row));
                assert_eq!(poisoned.label(row), honest.label(row));
            }
        }
    }

    #[test]
    fn the_trap_has_no_example_that_is_rightly_of_the_target_s_class() {
        let test = digits::test();
        let rightly = (0..test.len()).filter(|&row| test.label(row) == TARGET);
        let trap = trap(&test);
        assert_eq!(
            trap.map(|trap| trap.len()),
            Some(test.len() - rightly.count())
        );
    }
}
