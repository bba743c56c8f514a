//! Good plans: every key, every default, the files of others.
#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use fedmerge_common::failure::Failure;
use fedmerge_common::units::Millis;
use fedmerge_coordinator::{Cohort, GainSummary, LatePolicy, Mode, Population};
use fedmerge_merge::{Before, ClipNorm, Method};

use super::*;

const MINIMAL: &str = "name = \"digits\"\nbase = \"base.safetensors\"\n";

fn parse(text: &str) -> Result<FederationPlan, ReadPlanError> {
    FederationPlan::parse(text, Path::new("plan/federation.toml"))
}

#[test]
fn a_plan_that_sets_nothing_has_the_documented_defaults() {
    let expected = FederationPlan {
        keep: None,
        name: "digits".parse().unwrap(),
        base: PathBuf::from("plan/base.safetensors"),
        round: RoundPlan {
            rounds: 10,
            cohort: Cohort {
                target: 3,
                fraction: 1.0,
                over_select: 1.0,
            },
            quorum: 3,
            deadline: Millis::from_secs(1800),
            grace: Millis::from_secs(30),
            tolerate: 0,
            seed: 0,
            evaluate: None,
            population: None,
            mode: Mode::Synchronous,
            late: LatePolicy::Reject,
            max_staleness: 0,
            private_rounds: None,
            allow_small_quorum: false,
        },
        selector: Selector::default(),
        recipe: Recipe::of(Method::TrimmedMean { tolerate: 0 }),
        weight: Weight::Examples,
        max_weight: 5.0,
        privacy: None,
        trusted: None,
        freeze: Freeze::default(),
        encodings: vec![Encoding::F32],
        density: Density::default(),
        max_update: ByteSize::new(2 << 30),
    };
    assert_eq!(parse(MINIMAL).unwrap(), expected);
}

/// The rounds of the complete plan.
fn complete_round() -> RoundPlan {
    RoundPlan {
        rounds: 20,
        cohort: Cohort {
            target: 10,
            fraction: 0.5,
            over_select: 1.3,
        },
        quorum: 6,
        deadline: Millis::from_secs(3600),
        grace: Millis::from_secs(60),
        tolerate: 2,
        seed: 7,
        evaluate: None,
        population: Some(Population {
            clients: 100,
            hostile: 1,
            risk: 0.1,
        }),
        mode: Mode::Synchronous,
        late: LatePolicy::Carry,
        max_staleness: 3,
        private_rounds: None,
        allow_small_quorum: true,
    }
}

#[test]
fn a_complete_plan_is_read_to_the_last_key() {
    let text = r#"
        name = "digits"
        base = "/models/base"
        keep = { best = 3, last = 5, every = 10 }

        [round]
        count     = 20
        cohort    = { target = 10, fraction = 0.5, over_select = 1.3, labels = { site = "ward-*" } }
        quorum    = 6
        deadline  = "1h"
        grace     = "1m"
        mode      = "synchronous"
        late      = "carry"
        max_staleness = 3
        allow_small_quorum = true
        population = { clients = 100, hostile = 1, risk = 0.1 }

        [merge]
        method    = "trimmed-mean"
        tolerate  = 2
        before    = [{ method = "clip", norm = "median" }, { method = "clip", norm = 10 }]
        weight    = "uniform"
        lambda    = 0.5
        freeze    = ["*.embed_tokens.*", "head.?"]
        optimizer = { method = "none" }
        seed      = 7

        [update]
        encodings = ["top-k", "bf16", "f32"]
        density   = 0.02
        max_bytes = "1GiB"
    "#;
    let expected = FederationPlan {
        keep: Some(Keep {
            best: 3,
            last: 5,
            every: 10,
        }),
        name: "digits".parse().unwrap(),
        base: PathBuf::from("/models/base"),
        round: complete_round(),
        selector: Selector::new(&[("site".to_owned(), "ward-*".to_owned())].into()),
        recipe: Recipe {
            before: vec![
                Before::Clip {
                    norm: ClipNorm::Median,
                },
                Before::Clip {
                    norm: ClipNorm::Fixed(10.0),
                },
            ],
            lambda: 0.5,
            seed: 7,
            ..Recipe::of(Method::TrimmedMean { tolerate: 2 })
        },
        weight: Weight::Uniform,
        max_weight: 5.0,
        privacy: None,
        trusted: None,
        freeze: Freeze(vec![
            WildMatch::new("*.embed_tokens.*"),
            WildMatch::new("head.?"),
        ]),
        encodings: vec![Encoding::TopK, Encoding::Bf16, Encoding::F32],
        density: Density::from_ppm(20_000).unwrap(),
        max_update: ByteSize::new(1 << 30),
    };
    assert_eq!(parse(text).unwrap(), expected);
}

#[test]
fn what_simulate_writes_is_a_plan() {
    let text = "base = \"../base.safetensors\"\nname = \"simulation\"\n[merge]\nbefore = [{ method = \"clip\", norm = 1.5 }]\n\
                density = 0.5\nelect = \"count\"\nmethod = \"ties\"\nseed = 9223372036854775807\nweight = \"uniform\"\n\
                [round]\ncount = 10\ndeadline = \"2m\"\ngrace = \"30s\"\nquorum = 6\n[round.cohort]\ntarget = 8\n";
    let plan = parse(text).unwrap();
    assert_eq!((plan.round.cohort.target, plan.round.quorum), (8, 6));
    assert_eq!(plan.base, Path::new("plan/../base.safetensors"));
}

#[test]
fn a_pattern_freezes_the_tensors_it_matches() {
    let text = format!("{MINIMAL}[merge]\nfreeze = [\"*.embed_tokens.*\", \"head.?\"]");
    let freeze = parse(&text).unwrap().freeze;
    for (tensor, expected) in [
        ("model.embed_tokens.weight", true),
        ("head.0", true),
        ("head.10", false),
        ("model.layers.0.weight", false),
        ("embed_tokens", false),
    ] {
        assert_eq!(freeze.matches(tensor), expected, "{tensor}");
    }
    assert!(freeze.patterns().eq(["*.embed_tokens.*", "head.?"]));
}

#[test]
fn a_plan_is_read_from_its_file_and_missed_with_a_hint() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("federation.toml");
    let failure = Failure::from(FederationPlan::read(&path).unwrap_err());
    assert!(failure.message.ends_with("federation.toml does not exist"));
    assert!(failure.hint.unwrap().contains("fedmerge server init"));
    std::fs::write(&path, MINIMAL).unwrap();
    let plan = FederationPlan::read(&path).unwrap();
    assert_eq!(plan.base, root.path().join("base.safetensors"));
}

#[test]
fn the_deployed_example_tolerates_two_of_ten() {
    let text = include_str!("../../../deploy/federation.toml");
    let plan = FederationPlan::parse(text, Path::new("deploy/federation.toml")).unwrap();
    assert_eq!((plan.round.cohort.target, plan.round.quorum), (10, 6));
    assert_eq!(plan.recipe.method, Method::TrimmedMean { tolerate: 2 });
    let norm = ClipNorm::Median;
    assert_eq!(plan.recipe.before, [Before::Clip { norm }]);
    let gate = plan.round.evaluate.unwrap();
    assert_eq!(gate.summary, GainSummary::TrimmedMean { tolerate: 2 });
}

#[test]
fn what_keep_leaves_out_is_one_best_and_the_last_two() {
    let plan = parse(&format!("{MINIMAL}keep = {{ every = 4 }}\n")).unwrap();
    let expected = Keep {
        best: 1,
        last: 2,
        every: 4,
    };
    assert_eq!(plan.keep, Some(expected));
}

#[test]
fn a_claim_buys_no_more_than_so_many_times_the_median_weight() {
    let claims = [10, 20, 30, 1_000_000];
    assert_eq!(Weight::Examples.of(&claims, 5.0), [10.0, 20.0, 30.0, 100.0]);
    assert_eq!(
        Weight::Examples.of(&claims, f64::INFINITY),
        [10.0, 20.0, 30.0, 1e6]
    );
    assert_eq!(Weight::Uniform.of(&claims, 5.0), [1.0; 4]);
    assert!(Weight::Examples.of(&[], 5.0).is_empty());
    let plan = |text: &str| {
        let head = "name = \"a\"\nbase = \"b\"\n[merge]\n";
        FederationPlan::parse(&format!("{head}{text}"), Path::new("f.toml"))
    };
    assert!((plan("max_weight = 2").unwrap().max_weight - 2.0).abs() < 1e-12);
    assert!(plan("max_weight = inf").unwrap().max_weight.is_infinite());
    for (wrong, refusal) in [
        ("max_weight = 0.9", "must be at least 1"),
        ("max_weight = nan", "must be at least 1"),
        ("max_weight = 2\nweight = \"uniform\"", "has no effect"),
    ] {
        let error = plan(wrong).unwrap_err().to_string();
        assert!(error.contains(refusal), "{wrong}: {error}");
    }
}
