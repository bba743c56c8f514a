//! Merges that keep a promise: the noise is that of the promise, repeated by who knows the secret, and nothing else is told.

use fedmerge_coordinator::UpdateRef;
use fedmerge_merge::{Before, ClipNorm};

use super::*;
use crate::merging::PrivateJob;
use crate::privacy::{Clip, NoiseBy, NoiseKey, Privacy};

const CLIENTS: u8 = 4;
const VALUES: usize = 4096;

/// Four clients that change nothing, so that all that moves is the noise.
fn silent(bed: &Bed) -> Vec<(ClientId, UpdateRef)> {
    (1..=CLIENTS)
        .map(|number| {
            bed.update(
                1,
                &format!("ward-{number}"),
                1,
                &[("w", Dtype::F32, &[0.0; VALUES])],
            )
        })
        .collect()
}

fn promise(clip: Clip) -> Privacy {
    Privacy {
        clip,
        noise: 2.0,
        by: NoiseBy::Server,
        epsilon: 100.0,
        delta: 1e-5,
    }
}

fn private(bed: &Bed, promise: Privacy) -> MergeJob {
    let norm = match promise.clip {
        Clip::Fixed(length) => ClipNorm::Fixed(length),
        Clip::Adaptive { start } => ClipNorm::Adaptive { start: Some(start) },
    };
    let recipe = Recipe {
        before: vec![Before::Clip { norm }],
        lambda: 0.5,
        ..Recipe::of(Method::Mean)
    };
    let key = NoiseKey::of(&bed.directory.noise_key());
    MergeJob {
        privacy: Some(PrivateJob {
            promise,
            key: key.unwrap(),
            spent: 0.5,
        }),
        ..bed.job(&silent(bed), recipe)
    }
}

fn bed() -> Bed {
    let bed = Bed::with_base(&[("w", Dtype::F32, &[0.0; VALUES])]);
    fs::create_dir_all(bed.directory.identity()).unwrap();
    bed
}

#[test]
fn noise_is_as_large_as_promised_and_the_same_when_the_merge_is_repeated() {
    let bed = bed();
    let job = private(&bed, promise(Clip::Fixed(3.0)));
    let merged = merge(&job, &GO_ON).unwrap();
    let values = values_of(&bed.candidate(), "w");
    let variance = values
        .iter()
        .map(|value| f64::from(value * value))
        .sum::<f64>()
        / VALUES as f64;
    // λ z C / n = 0.5 × 2 × 3 / 4
    let deviation = variance.sqrt();
    assert!((deviation - 0.75).abs() < 0.05, "{deviation}");
    assert_eq!(merge(&job, &GO_ON).unwrap().candidate, merged.candidate);

    let later = MergeJob {
        round: job.round.next(),
        ..job
    };
    let other = merge(&later, &GO_ON).unwrap();
    assert_ne!(other.candidate.digest, merged.candidate.digest);
}

#[test]
fn what_was_seen_of_single_updates_is_not_told() {
    let bed = bed();
    let job = private(&bed, promise(Clip::Fixed(3.0)));
    let story = merge(&job, &GO_ON).unwrap().story;
    assert!(story.diagnostics.is_null());
    assert_eq!(story.step_norm.to_bits(), 0);
    for update in &story.updates {
        assert_eq!((update.norm, update.clip_factor), (None, 1.0));
        assert_eq!((update.weight, update.weight_share), (0.25, 0.25));
    }
    let told = story.privacy.unwrap();
    assert_eq!((told.clip, told.noise), (3.0, 2.0));
    // 0.5 was spent before, and 1/z² = 0.25 now.
    assert!((told.spent - 0.75).abs() < 1e-12);
    assert!((told.epsilon - promise(Clip::Fixed(3.0)).epsilon_of(0.75)).abs() < 1e-12);
}

#[test]
fn an_adaptive_clip_moves_by_a_noisy_count() {
    let bed = bed();
    let start = 1.0;
    let job = private(&bed, promise(Clip::Adaptive { start }));
    let story = merge(&job, &GO_ON).unwrap().story;
    let limit = story.clip_limit.unwrap();
    // All are within: without noise it would be exp(-0.1); with it, somewhere between the bounds.
    assert!(
        ((-0.1_f64).exp()..=0.1_f64.exp()).contains(&limit),
        "{limit}"
    );
    assert!((story.privacy.unwrap().clip - start).abs() < 1e-12);
    assert_eq!(merge(&job, &GO_ON).unwrap().story.clip_limit, Some(limit));
}

#[test]
fn noise_of_the_clients_is_theirs_and_the_merge_adds_none() {
    let bed = bed();
    let by = NoiseBy::Clients;
    let job = MergeJob {
        recipe: Recipe::of(Method::Mean),
        ..private(
            &bed,
            Privacy {
                by,
                ..promise(Clip::Fixed(3.0))
            },
        )
    };
    let story = merge(&job, &GO_ON).unwrap().story;
    assert_eq!(values_of(&bed.candidate(), "w"), [0.0; VALUES]);
    assert_eq!(story.privacy.unwrap().by, NoiseBy::Clients);
    assert!(!story.diagnostics.is_null());
}
