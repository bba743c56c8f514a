//! Which promises a plan can make, and how those that no noise keeps are refused.
#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::path::Path;

use fedmerge_common::failure::Failure;

use super::*;
use crate::plan::FederationPlan;

const MEAN: &str = "[merge]\nmethod = \"mean\"\nweight = \"uniform\"\n";
const PROMISE: &str = "[privacy]\nclip = 1.5\nnoise = 4.0\nepsilon = 8.0\n";

fn parse(text: &str) -> Result<FederationPlan, ReadPlanError> {
    let head = "name = \"digits\"\nbase = \"base\"\nround.cohort.target = 15\n";
    FederationPlan::parse(&format!("{head}{text}"), Path::new("f.toml"))
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let failure = Failure::from(parse(text).unwrap_err()).to_string();
    assert!(failure.contains(expected), "{failure}");
}

#[test]
fn a_promise_brings_its_clip_and_its_number_of_rounds() {
    let plan = parse(&format!("{MEAN}{PROMISE}")).unwrap();
    let promise = plan.privacy.unwrap();
    assert_eq!(promise.clip, Clip::Fixed(1.5));
    assert_eq!((promise.by, promise.delta), (NoiseBy::Server, 1e-5));
    let norm = ClipNorm::Fixed(1.5);
    assert_eq!(plan.recipe.before, [Before::Clip { norm }]);
    assert_eq!(plan.round.private_rounds, Some(promise.merges_left(0.0)));
    assert_eq!(parse(MEAN).unwrap().round.private_rounds, None);
}

#[test]
fn an_adaptive_clip_begins_where_the_plan_says() {
    let adaptive = PROMISE.replace("clip = 1.5", "clip = \"adaptive\"");
    let clip = |text: &str| {
        parse(&format!("{MEAN}{text}"))
            .unwrap()
            .privacy
            .unwrap()
            .clip
    };
    assert_eq!(clip(&adaptive), Clip::Adaptive { start: 0.1 });
    let started = format!("{adaptive}start = 2.0\n");
    assert_eq!(clip(&started), Clip::Adaptive { start: 2.0 });
    refused(
        &format!("{MEAN}{PROMISE}start = 2.0"),
        "this clip does not adapt",
    );
    let median = PROMISE.replace("1.5", "\"median\"");
    refused(&format!("{MEAN}{median}"), "is a length, or \"adaptive\"");
}

#[test]
fn one_step_of_centered_clipping_is_bounded_by_its_radius() {
    let merge = "[merge]\nmethod = \"centered-clipping\"\nradius = 0.5\niterations = 1\nweight = \"uniform\"\n";
    let promise = PROMISE.replace("clip = 1.5\n", "");
    let plan = parse(&format!("{merge}{promise}")).unwrap();
    assert_eq!(plan.privacy.unwrap().clip, Clip::Fixed(0.5));
    assert!(plan.recipe.before.is_empty());
    refused(
        &format!("{merge}{PROMISE}"),
        "`radius` of centered-clipping",
    );
    let tensors = format!("{merge}scope = \"tensor\"\n{promise}");
    refused(&tensors, "needs scope = \"model\"");
    let three = merge.replace("iterations = 1", "iterations = 3");
    refused(&format!("{three}{promise}"), "needs iterations = 1");
}

#[test]
fn rules_that_bound_nothing_get_no_epsilon_unless_the_clients_add_the_noise() {
    for method in [
        "krum",
        "median",
        "trimmed-mean",
        "geometric-median",
        "ties",
        "flame",
    ] {
        let merge = format!("[merge]\nmethod = \"{method}\"\nweight = \"uniform\"\n");
        refused(
            &format!("{merge}{PROMISE}"),
            "no other bounds what one client can change",
        );
        let own = format!("{merge}{PROMISE}by = \"clients\"");
        let promise = parse(&own).unwrap().privacy.unwrap();
        assert_eq!(promise.by, NoiseBy::Clients, "{method}");
    }
    let coded = format!("{MEAN}{PROMISE}by = \"clients\"\n[update]\nencodings = [\"int8\"]");
    refused(&coded, "must arrive as it was drawn");
}

#[test]
fn what_has_seen_updates_without_noise_is_refused() {
    for (merge, expected) in [
        ("[merge]\nmethod = \"mean\"\n", "needs weight = \"uniform\""),
        (
            "[merge]\nmethod = \"mean\"\nweight = \"uniform\"\nbefore = [{ method = \"nnm\" }]\n",
            "remove `before`",
        ),
        (
            "[merge]\nmethod = \"mean\"\nweight = \"uniform\"\noptimizer = { method = \"momentum\" }\n",
            "without `sparsify` and `optimizer`",
        ),
        (
            "[merge]\nmethod = \"mean\"\nweight = \"uniform\"\n[evaluate]\nmetric = \"accuracy\"\n",
            "cannot stand beside [evaluate]",
        ),
    ] {
        refused(&format!("{merge}{PROMISE}"), expected);
    }
}

#[test]
fn numbers_that_promise_nothing_are_refused() {
    for (from, to, expected) in [
        ("noise = 4.0", "noise = 0.0", "`noise` must be above 0"),
        ("noise = 4.0\n", "", "`noise` is missing"),
        (
            "epsilon = 8.0",
            "epsilon = nan",
            "`epsilon` must be above 0",
        ),
        ("epsilon = 8.0\n", "", "`epsilon` is missing"),
        ("clip = 1.5\n", "", "`clip` is missing"),
        ("clip = 1.5", "clip = -1.5", "`clip` must be above 0"),
        (
            "clip = 1.5",
            "clip = 1.5\ndelta = 0.5",
            "`delta` must be below 0.1",
        ),
        (
            "clip = 1.5",
            "clip = 1.5\nby = \"nobody\"",
            "unknown author of noise `nobody`",
        ),
        (
            "noise = 4.0",
            "noise = 0.3",
            "one merge alone costs ε = 19.131",
        ),
    ] {
        refused(&format!("{MEAN}{}", PROMISE.replace(from, to)), expected);
    }
}
