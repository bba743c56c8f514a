//! The grid {rule} × {attack} × {seed}: played cell by cell on all processors, summed up rule by rule.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fedmerge_server::plan::FederationPlan;
use serde::Serialize;

use super::arena::{Fate, Field, PlayError};
use crate::simulate::attack::Attack;

/// A merge that is put to the test.
#[derive(Debug)]
pub(super) struct Rule {
    /// The merge in words: `nnm, trimmed-mean, tolerate 2`.
    pub(super) words: String,
    /// Its plan.
    pub(super) plan: FederationPlan,
}

/// What one attack does to one rule, seed by seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    /// The attack; none: all clients are honest.
    pub(super) attack: Option<&'static str>,
    /// Whether it is a backdoor.
    #[serde(skip)]
    pub(super) is_targeted: bool,
    /// Accuracy on the test examples, for each seed.
    pub(super) accuracy: Vec<f64>,
    /// Share of triggered examples that are taken for the attacker's class, for each seed.
    pub(super) backdoor: Vec<f64>,
}

/// One rule against all attacks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Trial {
    /// The merge in words.
    pub(super) merge: String,
    /// Without an attack, then attack by attack.
    pub(super) runs: Vec<Row>,
}

/// The worst that befell a rule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Worst {
    /// By which attack.
    pub(super) attack: Option<&'static str>,
    /// How bad.
    pub(super) value: f64,
}

/// A cell of the grid.
#[derive(Clone, Copy, Debug)]
struct Cell {
    rule: usize,
    attack: Option<Attack>,
    seed: usize,
}

/// Plays all cells; `tell` hears how many of how many are done.
///
/// # Errors
/// The first federation that cannot be played.
pub(super) fn play(
    rules: &[Rule],
    attacks: &[Attack],
    fields: &[Field],
    threads: usize,
    tell: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Trial>, PlayError> {
    let attacks: Vec<Option<Attack>> = std::iter::once(None)
        .chain(attacks.iter().copied().map(Some))
        .collect();
    let mut cells = Vec::new();
    for rule in 0..rules.len() {
        for &attack in &attacks {
            cells.extend((0..fields.len()).map(|seed| Cell { rule, attack, seed }));
        }
    }
    let fates: Vec<Mutex<Option<Result<Fate, PlayError>>>> =
        cells.iter().map(|_| Mutex::new(None)).collect();
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let play_next = || {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(cell) = cells.get(number) else {
            return false;
        };
        let fate = fields[cell.seed].play(&rules[cell.rule].plan, cell.attack);
        *fates[number].lock().expect("no player has panicked") = Some(fate);
        tell(done.fetch_add(1, Ordering::Relaxed) + 1, cells.len());
        true
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| while play_next() {});
        }
    });
    let mut fates = fates.into_iter().map(|fate| {
        let fate = fate.into_inner().expect("no player has panicked");
        fate.expect("each cell was played")
    });
    let mut trials = Vec::new();
    for rule in rules {
        let mut runs = Vec::new();
        for attack in &attacks {
            let fates: Vec<Fate> = fates
                .by_ref()
                .take(fields.len())
                .collect::<Result<_, _>>()?;
            runs.push(Row {
                attack: attack.map(Attack::name),
                is_targeted: attack.is_some_and(Attack::is_targeted),
                accuracy: fates.iter().map(|fate| fate.accuracy).collect(),
                backdoor: fates.iter().map(|fate| fate.backdoor).collect(),
            });
        }
        trials.push(Trial {
            merge: rule.words.clone(),
            runs,
        });
    }
    Ok(trials)
}

impl Trial {
    /// Accuracy without an attack, on average.
    pub(super) fn unattacked(&self) -> f64 {
        average(&self.runs[0].accuracy)
    }

    /// The lowest accuracy under an untargeted attack, over all seeds.
    pub(super) fn worst(&self) -> Worst {
        let untargeted = self.runs.iter().filter(|row| !row.is_targeted);
        let worst = untargeted.map(|row| Worst {
            attack: row.attack,
            value: row.accuracy.iter().copied().fold(f64::INFINITY, f64::min),
        });
        worst
            .min_by(|left, right| left.value.total_cmp(&right.value))
            .unwrap_or(Worst {
                attack: None,
                value: f64::NAN,
            })
    }

    /// How far it falls behind the unattacked mean of the same seed, at the worst.
    pub(super) fn behind(&self, mean: &[f64]) -> f64 {
        let untargeted = self.runs.iter().filter(|row| !row.is_targeted);
        untargeted
            .flat_map(|row| mean.iter().zip(&row.accuracy))
            .map(|(mean, accuracy)| mean - accuracy)
            .fold(f64::NEG_INFINITY, f64::max)
    }

    /// The most successful backdoor, over all seeds.
    pub(super) fn backdoor(&self) -> Worst {
        let targeted = self.runs.iter().filter(|row| row.is_targeted);
        let worst = targeted.map(|row| Worst {
            attack: row.attack,
            value: row.backdoor.iter().copied().fold(0.0, f64::max),
        });
        worst
            .max_by(|left, right| left.value.total_cmp(&right.value))
            .unwrap_or(Worst {
                attack: None,
                value: 0.0,
            })
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "numbers of seeds and rounds are small"
)]
/// Their mean; 0 of none.
pub(super) fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial() -> Trial {
        let row = |attack, is_targeted, accuracy: [f64; 2], backdoor: [f64; 2]| Row {
            attack,
            is_targeted,
            accuracy: accuracy.to_vec(),
            backdoor: backdoor.to_vec(),
        };
        Trial {
            merge: "mean".to_owned(),
            runs: vec![
                row(None, false, [0.9, 0.7], [0.0, 0.1]),
                row(Some("scale"), false, [0.5, 0.6], [0.0, 1.0]),
                row(Some("ipm"), false, [0.8, 0.3], [0.0, 0.0]),
                row(Some("backdoor"), true, [0.1, 0.2], [0.4, 0.8]),
            ],
        }
    }

    #[test]
    fn the_worst_is_that_of_any_seed_and_no_backdoor_s() {
        let worst = trial().worst();
        assert_eq!((worst.attack, worst.value), (Some("ipm"), 0.3));
        assert!((trial().unattacked() - 0.8).abs() < 1e-12);
    }

    #[test]
    fn what_is_lost_is_counted_against_the_mean_of_the_same_seed() {
        assert!((trial().behind(&[0.95, 0.7]) - 0.45).abs() < 1e-12);
    }

    #[test]
    fn only_a_backdoor_s_success_is_a_success() {
        let worst = trial().backdoor();
        assert_eq!((worst.attack, worst.value), (Some("backdoor"), 0.8));
    }
}
