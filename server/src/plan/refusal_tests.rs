//! Bad plans: what a person is told, word for word.
#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_merge::Recipe;

use super::*;

const MINIMAL: &str = "name = \"digits\"\nbase = \"base.safetensors\"\n";

fn parse(text: &str) -> Result<FederationPlan, ReadPlanError> {
    FederationPlan::parse(text, Path::new("plan/federation.toml"))
}

/// The failure of a plan that has only `text` beside what it must have.
fn refusal(text: &str) -> String {
    let failure = Failure::from(parse(&format!("{MINIMAL}{text}")).unwrap_err());
    assert_eq!(failure.exit, ExitCode::BadConfiguration, "{text}");
    failure.to_string()
}

#[test]
fn tolerate_bounds_the_rounds_of_every_method() {
    for name in Recipe::METHOD_NAMES {
        let text = format!(
            "{MINIMAL}round.quorum = 7\n[merge]\nmethod = \"{name}\"\ntolerate = 1{}",
            if ["fltrust", "moNNA"].contains(name) {
                "\ntrusted = \"ward-1\""
            } else {
                ""
            }
        );
        assert_eq!(parse(&text).unwrap().round.tolerate, 1, "{name}");
        let refusal = refusal(&format!(
            "round.quorum = 2\n[merge]\nmethod = \"{name}\"\ntolerate = 1{}",
            if ["fltrust", "moNNA"].contains(name) {
                "\ntrusted = \"ward-1\""
            } else {
                ""
            }
        ));
        assert!(refusal.contains("2 × 1 = 2 >= 2"), "{refusal}");
    }
}

#[test]
fn an_unknown_key_is_told_where_it_stands_and_what_was_meant() {
    for (text, expected) in [
        (
            "[round]\nqorum = 3",
            "error: plan/federation.toml:4: unknown key `qorum` in [round]\nhint: did you mean `quorum`?",
        ),
        (
            "rounds = 3",
            "error: plan/federation.toml:3: unknown key `rounds` at the top\nhint: did you mean `round`?",
        ),
        (
            "[round]\ncohort = { targets = 3 }",
            "error: plan/federation.toml:4: unknown key `targets` in [round.cohort]\nhint: did you mean `target`?",
        ),
        (
            "[merge]\nbefore = [\n  { method = \"clip\", norm = 1.0 },\n  { metod = \"clip\", norm = 1.0 },\n]",
            "error: plan/federation.toml:6: unknown key `metod` in [merge.before]\nhint: did you mean `method`?",
        ),
        (
            "[merge]\noptimizer = { method = \"none\", rate = 1.0 }",
            "error: plan/federation.toml:4: unknown key `rate` in [merge.optimizer]\n\
             hint: the keys in [merge.optimizer] are method, learning_rate, beta, beta1, beta2, epsilon",
        ),
        (
            "[round]\ntolerate = 1",
            "error: plan/federation.toml:4: unknown key `tolerate` in [round]\nhint: `tolerate` belongs in [merge]",
        ),
        (
            "[update]\nname = \"b\"",
            "error: plan/federation.toml:4: unknown key `name` in [update]\n\
             hint: `name` belongs at the top, before the first [table]",
        ),
        (
            "[update]\nzipped = true",
            "error: plan/federation.toml:4: unknown key `zipped` in [update]\n\
             hint: the keys in [update] are encodings, density, max_bytes",
        ),
        // The first of several is told, even when a value is wrong too.
        (
            "[round]\nquorum = \"x\"\nb = 1\na = 2",
            "error: plan/federation.toml:5: unknown key `b` in [round]\n\
             hint: the keys in [round] are count, cohort, quorum, deadline, grace, mode, late, max_staleness, allow_small_quorum, population",
        ),
    ] {
        assert_eq!(refusal(text), expected);
    }
}

#[test]
fn an_unknown_name_is_told_its_neighbour_or_what_there_is() {
    for (text, expected) in [
        (
            "method = \"trimed-mean\"",
            "unknown merge method `trimed-mean`\nhint: did you mean `trimmed-mean`?",
        ),
        (
            "method = \"average\"",
            "unknown merge method `average`\nhint: available: mean, median, trimmed-mean, meamed, \
             phocas, sign-majority, task-arithmetic, ties, dare-linear, dare-ties, della, della-linear, breadcrumbs, \
             breadcrumbs-ties, sce, ram, magmax, consensus, krum, multi-krum, bulyan, geometric-median, \
             centered-clipping, mda, caf, dnc, fltrust, flame, moNNA",
        ),
        (
            "before = [{ method = \"clp\", norm = 1.0 }]",
            "unknown stage `clp`\nhint: did you mean `clip`?",
        ),
        (
            "before = [{ method = \"clip\", norm = \"medain\" }]",
            "unknown norm `medain`\nhint: did you mean `median`?",
        ),
        (
            "weight = \"example\"",
            "unknown weight `example`\nhint: did you mean `examples`?",
        ),
        (
            "method = \"ties\"\nscope = \"tensors\"",
            "unknown scope `tensors`\nhint: did you mean `tensor`?",
        ),
        (
            "method = \"ties\"\nelect = \"vote\"",
            "unknown elect `vote`\nhint: available: mass, count",
        ),
        (
            "optimizer = { method = \"sgd\" }",
            "unknown optimizer `sgd`\nhint: available: none, momentum, nesterov, adam, yogi, adagrad",
        ),
        (
            "sparsify = { method = \"drop\" }",
            "unknown sparsifying rule `drop`\nhint: available: trim, dare, della, breadcrumbs",
        ),
        (
            "method = \"ties\"\ncompat = \"merge-kit\"",
            "unknown compat `merge-kit`\nhint: did you mean `mergekit`?",
        ),
        (
            "[update]\nencodings = [\"fp32\"]",
            "unknown encoding `fp32`\nhint: did you mean `f32`?",
        ),
    ] {
        let refusal = refusal(&format!("[merge]\n{text}"));
        assert!(
            refusal.starts_with("error: plan/federation.toml:"),
            "{refusal}"
        );
        assert!(refusal.ends_with(expected), "{refusal}");
    }
}

#[test]
fn what_a_later_version_will_know_is_told_as_such() {
    assert_eq!(
        refusal("[merge]\nmethod = \"slerp\"\nangle = 3"),
        "error: plan/federation.toml:4: the merge method `slerp` is not available in this version\n\
         hint: available: mean, median, trimmed-mean, meamed, phocas, sign-majority, task-arithmetic, ties, \
         dare-linear, dare-ties, della, della-linear, breadcrumbs, breadcrumbs-ties, sce, ram, magmax, consensus, \
         krum, multi-krum, bulyan, geometric-median, centered-clipping, mda, caf, dnc, fltrust, flame, moNNA",
    );
}

#[test]
fn what_must_be_there_is_missed_with_an_example() {
    for (text, expected) in [
        (
            "name = \"a\"",
            "error: plan/federation.toml: `base` is missing\nhint: write base = \"base.safetensors\"",
        ),
        (
            "name = \"a\"\nbase = \"\"",
            "error: plan/federation.toml: `base` is missing\nhint: write base = \"base.safetensors\"",
        ),
        (
            "base = \"b\"",
            "error: plan/federation.toml: `name` is missing\nhint: write name = \"ward-study\"",
        ),
        (
            "name = \"a\"\nbase = \"b\"\n[merge]\nbefore = [{ method = \"clip\" }]",
            "error: plan/federation.toml:4: `norm` is missing\n\
             hint: write before = [{ method = \"clip\", norm = \"median\" }]",
        ),
        (
            "name = \"a\"\nbase = \"b\"\n[merge]\noptimizer = {}",
            "error: plan/federation.toml:4: `method` is missing\nhint: write optimizer = { method = \"none\" }",
        ),
    ] {
        let failure = Failure::from(parse(text).unwrap_err());
        assert_eq!(failure.to_string(), expected);
    }
}

#[test]
fn numbers_that_contradict_each_other_are_refused_with_the_arithmetic() {
    for (text, expected) in [
        (
            "[round]\ncohort = { target = 4 }\n[merge]\ntolerate = 2",
            "error: plan/federation.toml: no round can work like this\n\
             caused by: `tolerate` is 2, but half of the cohort's 4 would be hostile: 2 × 2 = 4 >= 4\n\
             hint: lower `tolerate` in [merge], or raise `target` of the cohort in [round]",
        ),
        (
            "[round]\ncohort = { target = 10 }\nquorum = 4\n[merge]\ntolerate = 2",
            "error: plan/federation.toml: no round can work like this\n\
             caused by: `quorum` is 4, but withstanding 2 hostile clients needs 2 × 2 + 1 = 5 updates\n\
             hint: raise `quorum` in [round], or lower `tolerate` in [merge]",
        ),
        (
            "[round]\ncohort = { target = 4 }\nquorum = 5",
            "error: plan/federation.toml: no round can work like this\n\
             caused by: `quorum` is 5, but a round closes at its cohort's target of 4 updates: 5 > 4\n\
             hint: lower `quorum`, or raise `target` of the cohort, in [round]",
        ),
        (
            "[round]\ndeadline = \"0s\"",
            "error: plan/federation.toml: no round can work like this\n\
             caused by: `deadline` is 0, it must be at least 1",
        ),
        (
            "[round]\ncohort = { fraction = 1.5 }",
            "error: plan/federation.toml: no round can work like this\n\
             caused by: `cohort.fraction` is 1.5, it must be over 0 and at most 1",
        ),
        (
            "[merge]\nmethod = \"ties\"\ndensity = 1.5",
            "error: plan/federation.toml: no merge can work like this\n\
             caused by: density = 1.5 is not possible: it is the share of values that is kept, in (0, 1]",
        ),
        (
            "[merge]\nlambda = inf",
            "error: plan/federation.toml: no merge can work like this\ncaused by: lambda = inf is not possible: it must be finite",
        ),
        (
            "[merge]\nbefore = [{ method = \"clip\", norm = 0 }]",
            "error: plan/federation.toml: no merge can work like this\n\
             caused by: norm = 0 is not possible: it is a length: positive and finite",
        ),
    ] {
        assert_eq!(refusal(text), expected);
    }
}

#[test]
fn values_that_leave_nothing_are_refused() {
    for (text, expected) in [
        (
            "[update]\nencodings = []",
            "error: plan/federation.toml: `encodings` is empty, so no update could be sent",
        ),
        (
            "[update]\nencodings = [\"f32\", \"f32\"]",
            "error: plan/federation.toml:4: `encodings` has an encoding twice",
        ),
        (
            "[update]\nencodings = [\"int8\"]\ndensity = 0.5",
            "error: plan/federation.toml:5: `density` has no effect: neither `top-k`, `ternary` nor `seeded-mask` is among the encodings",
        ),
        (
            "[update]\nencodings = [\"ternary\"]\ndensity = 0",
            "error: plan/federation.toml:5: `density` must be a share of the values, above 0 and at most 1",
        ),
        (
            "[update]\nencodings = [\"ternary\"]\ndensity = 1.5",
            "error: plan/federation.toml:5: `density` must be a share of the values, above 0 and at most 1",
        ),
        (
            "[update]\nmax_bytes = 0",
            "error: plan/federation.toml: `max_bytes` is 0, so no update could be sent",
        ),
        (
            "[merge]\nfreeze = [\"\"]",
            "error: plan/federation.toml:4: `freeze` holds an empty pattern, which no tensor matches",
        ),
    ] {
        assert_eq!(refusal(text), expected);
    }
}

#[test]
fn a_value_of_the_wrong_type_is_shown_with_its_line() {
    for (text, line, reason) in [
        (
            "[round]\ncount = \"many\"",
            "4 | count = \"many\"",
            "expected u64",
        ),
        ("[round]\nquorum = -1", "4 | quorum = -1", "-1"),
        (
            "[round]\ndeadline = \"soon\"",
            "4 | deadline = \"soon\"",
            "`soon` is not a span of time",
        ),
        ("[merge]\nmethod = 3", "4 | method = 3", "expected a string"),
        (
            "[merge]\nbefore = [{ method = \"clip\", norm = true }]",
            "norm = true",
            "expected a number, \"median\" or \"adaptive\"",
        ),
        (
            "[update]\nmax_bytes = \"2 parsecs\"",
            "4 | max_bytes = \"2 parsecs\"",
            "a size such as",
        ),
        ("merge = 3", "3 | merge = 3", "expected struct"),
        ("[round", "3 | [round", "unclosed table"),
        (
            "[round]\ncount = 1\ncount = 2",
            "5 | count = 2",
            "duplicate key",
        ),
    ] {
        let refusal = refusal(text);
        let head = "error: plan/federation.toml cannot be understood\ncaused by: ";
        assert!(refusal.starts_with(head), "{refusal}");
        assert!(refusal.contains(line), "{refusal}");
        assert!(refusal.contains(reason), "{refusal}");
        assert!(!refusal.ends_with('\n'), "{refusal}");
    }
}

#[test]
fn a_name_that_cannot_be_a_federations_is_refused_with_its_line() {
    let failure = Failure::from(parse("name = \"Ward Study\"\nbase = \"b\"").unwrap_err());
    assert!(
        failure.to_string().contains("1 | name = \"Ward Study\""),
        "{failure}"
    );
}

#[test]
fn a_plan_that_does_not_keep_what_the_next_merge_looks_back_to_is_refused() {
    let failure = refusal("keep = { last = 1 }");
    assert!(failure.contains("`last` is under 2"), "{failure}");
    let failure = refusal("keep = { newest = 1 }");
    assert!(failure.contains("newest"), "{failure}");
}
