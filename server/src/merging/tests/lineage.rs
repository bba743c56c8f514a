//! What a merge remembers of those before it: two rounds, by hand.

use fedmerge_common::ids::ModelVersion;
use fedmerge_common::units::Timestamp;
use fedmerge_merge::{Adaptive, Optimizer, OptimizerRule};

use super::*;
use crate::rollback::roll_back;
use crate::store::ledger::{Ledger, StoredModel};

/// Makes the candidate of a round the next model, and gives its reference.
fn publish(bed: &Bed, job: &MergeJob, merged: &Merged) -> ModelRef {
    let published = bed.directory.model(merged.candidate.version);
    fs::rename(bed.directory.candidate(job.round), published).unwrap();
    merged.candidate
}

/// The job of a round that starts from `base`, with the updates of `w` of one client each.
fn job(bed: &Bed, round: u64, base: ModelRef, updates: &[&[f32]], recipe: &Recipe) -> MergeJob {
    let updates: Vec<_> = (1..)
        .zip(updates)
        .map(|(number, values)| bed.update(round, &format!("ward-{number}"), 1, &w(values)))
        .collect();
    let mut job = MergeJob {
        round: RoundNumber::new(round),
        base,
        ..bed.job(&updates, recipe.clone())
    };
    for counted in job.updates.values_mut() {
        counted.round = job.round;
    }
    job
}

/// Two rounds of one client; the job and the merge of the second, whose candidate is not published.
fn two_rounds(bed: &Bed, recipe: &Recipe, updates: [&[f32]; 2]) -> (MergeJob, Merged) {
    let first = job(bed, 1, bed.base, &updates[..1], recipe);
    let base = publish(bed, &first, &merge(&first, &GO_ON).unwrap());
    let second = job(bed, 2, base, &updates[1..], recipe);
    let merged = merge(&second, &GO_ON).unwrap();
    (second, merged)
}

fn values(bed: &Bed, job: &MergeJob, file: &str, tensor: &str) -> Vec<f32> {
    values_of(&bed.directory.candidate(job.round).join(file), tensor)
}

#[track_caller]
fn is_near(values: &[f32], expected: &[f64]) {
    let pairs = values.iter().zip(expected);
    for (value, expected) in pairs {
        assert!((f64::from(*value) - expected).abs() < 1e-5, "{values:?}");
    }
    assert_eq!(values.len(), expected.len());
}

fn stepping(rule: OptimizerRule) -> Recipe {
    Recipe {
        optimizer: Some(Optimizer {
            rule,
            learning_rate: 1.0,
        }),
        ..mean()
    }
}

fn momentum() -> Recipe {
    stepping(OptimizerRule::Momentum { beta: 0.5 })
}

const STEPS: [&[f32]; 2] = [&[4.0, -8.0], &[2.0, 2.0]];

#[test]
fn momentum_goes_on_from_the_round_before() {
    let bed = Bed::new();
    let (job, merged) = two_rounds(&bed, &momentum(), STEPS);
    // (1, 2) + (4, -8) is (5, -6); the velocity is half of (4, -8) and (2, 2).
    assert_eq!(values(&bed, &job, files::MODEL, "w"), [9.0, -8.0]);
    assert_eq!(values(&bed, &job, files::OPTIMIZER, "first.w"), [4.0, -2.0]);
    let story = merged.story.optimizer.unwrap();
    assert_eq!((story.method.as_str(), story.steps), ("momentum", 2));
    let file = bed.directory.candidate(job.round).join(files::OPTIMIZER);
    assert_eq!(story.digest, Digest::of_file(&file).unwrap());
    assert_eq!(Checkpoint::open(&file).unwrap().schema().len(), 1);
}

#[test]
fn adam_corrects_its_bias_by_the_steps_that_it_remembers() {
    let bed = Bed::with_base(&w(&[1.0]));
    let recipe = stepping(OptimizerRule::Adam(Adaptive {
        beta1: 0.5,
        beta2: 0.5,
        epsilon: 1.0,
    }));
    let (job, merged) = two_rounds(&bed, &recipe, [&[3.0], &[-1.0]]);
    // First: m = 1.5, v = 4.5, corrected 3 and 9, a step of 3/(3 + 1). Then: m = 0.25, v = 2.75, corrected by 1 - 0.25.
    let step = (0.25 / 0.75) / ((2.75_f64 / 0.75).sqrt() + 1.0);
    is_near(&values(&bed, &job, files::MODEL, "w"), &[1.75 + step]);
    is_near(&values(&bed, &job, files::OPTIMIZER, "first.w"), &[0.25]);
    is_near(&values(&bed, &job, files::OPTIMIZER, "second.w"), &[2.75]);
    assert_eq!(merged.story.optimizer.unwrap().steps, 2);
}

#[test]
fn a_merge_with_a_memory_gives_the_same_bytes_when_it_is_repeated() {
    let bed = Bed::new();
    let recipe = Recipe {
        before: vec![Before::Clip {
            norm: ClipNorm::Adaptive { start: None },
        }],
        ..momentum()
    };
    let (job, merged) = two_rounds(&bed, &recipe, STEPS);
    let bytes = || {
        let candidate = bed.directory.candidate(job.round);
        [files::MODEL, files::OPTIMIZER, files::MANIFEST]
            .map(|file| fs::read(candidate.join(file)).unwrap())
    };
    let before = bytes();
    assert_eq!(merge(&job, &GO_ON).unwrap(), merged);
    assert_eq!(bytes(), before);
}

#[test]
fn the_memory_is_that_of_the_base_and_not_of_the_newest_model() {
    let bed = Bed::new();
    let (second, merged) = two_rounds(&bed, &momentum(), STEPS);
    let once = values(&bed, &second, files::MODEL, "w");
    publish(&bed, &second, &merged);
    // The base of round 2 is the base again.
    let again = job(&bed, 7, second.base, &STEPS[1..], &momentum());
    let merged = merge(&again, &GO_ON).unwrap();
    assert_eq!(values(&bed, &again, files::MODEL, "w"), once);
    assert_eq!(merged.story.optimizer.unwrap().steps, 2);
}

#[tokio::test]
async fn a_base_that_is_an_older_model_again_remembers_what_that_one_did() {
    let bed = Bed::new();
    let (second, merged) = two_rounds(&bed, &momentum(), STEPS);
    let once = values(&bed, &second, files::MODEL, "w");
    publish(&bed, &second, &merged);
    let ledger = Ledger::open(&bed.directory.ledger()).await.unwrap();
    let older = StoredModel {
        model: second.base,
        parent: Some(bed.base.digest),
        round: Some(RoundNumber::new(1)),
        published: Timestamp::new(1),
        rollback: None,
        score: None,
        removed: None,
    };
    ledger.publish(&older).await.unwrap();
    let model = ModelRef {
        version: ModelVersion::new(3),
        ..second.base
    };
    let order = fedmerge_coordinator::Rollback {
        model,
        of: second.base.version,
        reason: "as it was".into(),
    };
    let (place, now) = ((&bed.directory, &ledger), Timestamp::new(2));
    for _again in 0..2 {
        roll_back(place, &std::sync::Arc::new(bed.authority()), &order, now)
            .await
            .unwrap();
    }
    // Its predecessor is that of model 1, whatever became of model 2.
    fs::remove_dir_all(bed.directory.model(ModelVersion::new(2))).unwrap();
    let again = job(&bed, 7, model, &STEPS[1..], &momentum());
    let merged = merge(&again, &GO_ON).unwrap();
    assert_eq!(values(&bed, &again, files::MODEL, "w"), once);
    assert_eq!(merged.story.optimizer.unwrap().steps, 2);
    let drift = merged.story.diagnostics["drift"].as_f64();
    assert!(drift.is_some(), "the step before is known");
}

#[test]
fn an_optimizer_without_a_memory_of_its_own_begins_anew() {
    type Spoil = fn(&Bed) -> Recipe;
    let cases: [Spoil; 2] = [
        |_| stepping(OptimizerRule::Nesterov { beta: 0.5 }),
        |bed| {
            let model = bed.directory.model(bed.base.version.next());
            fs::remove_file(model.join(files::OPTIMIZER)).unwrap();
            momentum()
        },
    ];
    for spoil in cases {
        let bed = Bed::new();
        let first = job(&bed, 1, bed.base, &STEPS[..1], &momentum());
        let base = publish(&bed, &first, &merge(&first, &GO_ON).unwrap());
        let second = job(&bed, 2, base, &STEPS[1..], &spoil(&bed));
        let merged = merge(&second, &GO_ON).unwrap();
        assert_eq!(merged.story.optimizer.unwrap().steps, 1);
        assert_eq!(
            values(&bed, &second, files::OPTIMIZER, "first.w"),
            [2.0, 2.0]
        );
    }
}

#[test]
fn a_memory_that_is_no_checkpoint_is_told() {
    let bed = Bed::new();
    let first = job(&bed, 1, bed.base, &STEPS[..1], &momentum());
    let base = publish(&bed, &first, &merge(&first, &GO_ON).unwrap());
    let memory = bed.directory.model(base.version).join(files::OPTIMIZER);
    fs::write(&memory, "half").unwrap();
    let second = job(&bed, 2, base, &STEPS[1..], &momentum());
    let error = merge(&second, &GO_ON).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("optimizer.safetensors`, which an earlier merge left"),
        "{error}"
    );
}

#[test]
fn an_adaptive_clip_goes_on_from_the_limit_of_the_base() {
    let bed = Bed::new();
    let recipe = Recipe {
        before: vec![Before::Clip {
            norm: ClipNorm::Adaptive { start: None },
        }],
        ..mean()
    };
    let (job, merged) = two_rounds(&bed, &recipe, [&[3.0, 4.0], &[6.0, 8.0]]);
    // It begins at 5, the median; all were within, so the next is a little shorter.
    let limit = 5.0 * (-0.1_f64).exp();
    let factor = limit / 10.0;
    is_near(
        &values(&bed, &job, files::MODEL, "w"),
        &[4.0 + 6.0 * factor, 6.0 + 8.0 * factor],
    );
    let next = merged.story.clip_limit.unwrap();
    assert!((next - limit * 0.1_f64.exp()).abs() < 1e-9, "{next}");
}

#[test]
fn centered_clipping_starts_from_the_step_before() {
    let bed = Bed::new();
    let recipe = Recipe::of(Method::CenteredClipping {
        radius: 2.5,
        iterations: 1,
    });
    let (job, _) = two_rounds(&bed, &recipe, [&[3.0, 4.0], &[1.5, 7.0]]);
    // (3, 4) is 5 from 0 and becomes (1.5, 2); (1.5, 7) is 5 from that, and half of the way is taken.
    is_near(
        &values(&bed, &job, files::MODEL, "w"),
        &[2.5 + 1.5, 4.0 + 4.5],
    );
}

#[test]
fn a_client_is_compared_with_itself_where_its_update_was_kept() {
    let bed = Bed::new();
    let (mut job, merged) = two_rounds(&bed, &mean(), [&[3.0, 4.0], &[6.0, 8.0]]);
    let cosine =
        |merged: &Merged| merged.story.diagnostics["clients"][0]["cosine_to_previous"].as_f64();
    assert!((cosine(&merged).unwrap() - 1.0).abs() < 1e-6);
    assert!((merged.story.diagnostics["drift"].as_f64().unwrap() - 1.0).abs() < 1e-6);
    job.keep_updates = 0;
    assert_eq!(cosine(&merge(&job, &GO_ON).unwrap()), None);
}
