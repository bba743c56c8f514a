//! What is told of keys that would have no effect, and of values that contradict each other.

use super::*;

#[track_caller]
fn refusal(text: &str) -> String {
    let failure = Failure::from(parse(text).unwrap_err());
    assert_eq!(failure.exit, ExitCode::BadConfiguration, "{text}");
    failure.to_string()
}

#[test]
fn a_key_of_another_method_is_refused_with_those_that_have_it() {
    for (text, expected) in [
        (
            "method = \"mean\"\ngamma = 0.5",
            "error: f.toml:6: `gamma` is a key of breadcrumbs and breadcrumbs-ties, and the merge method is mean\n\
             hint: remove `gamma`, or choose a method that has it",
        ),
        (
            "elect = \"count\"",
            "error: f.toml:5: `elect` is a key of ties, dare-ties, della and breadcrumbs-ties, and the merge method is \
             trimmed-mean\nhint: remove `elect`, or choose a method that has it",
        ),
        (
            "method = \"ties\"\nnu = 1",
            "error: f.toml:6: `nu` is a key of geometric-median, and the merge method is ties\n\
             hint: remove `nu`, or write method = \"geometric-median\"",
        ),
        (
            "method = \"krum\"\ntrusted = \"ward-1\"",
            "error: f.toml:6: `trusted` is a key of fltrust and moNNA, and the merge method is krum\n\
             hint: remove `trusted`, or choose a method that has it",
        ),
        (
            "before = [{ method = \"nnm\", norm = 1 }]",
            "error: f.toml:5: `norm` is a key of clip, and the stage is nnm\nhint: remove `norm`, or write method = \"clip\"",
        ),
        (
            "method = \"mean\"\nsparsify = { method = \"dare\", scope = \"model\" }",
            "error: f.toml:6: `scope` is a key of trim and breadcrumbs, and the sparsifying rule is dare\n\
             hint: remove `scope`, or choose a method that has it",
        ),
        (
            "optimizer = { method = \"adagrad\", beta2 = 0.5 }",
            "error: f.toml:5: `beta2` is a key of adam and yogi, and the optimizer is adagrad\n\
             hint: remove `beta2`, or choose a method that has it",
        ),
        (
            "optimizer = { method = \"none\", beta = 0.5 }",
            "error: f.toml:5: `beta` is a key of momentum and nesterov, and the optimizer is none\n\
             hint: remove `beta`, or choose a method that has it",
        ),
    ] {
        assert_eq!(refusal(text), expected);
    }
    let refusal = refusal("method = \"ties\"\nsparsify = { method = \"trim\" }");
    assert!(refusal.starts_with("error: f.toml:6: `sparsify` is a key of mean, "));
}

#[test]
fn a_reference_without_an_idea_of_its_own_is_refused() {
    const NOTHING: &str = "`compat` would have no effect: that reference has nothing of its own for what is chosen here";
    for (text, line) in [
        ("method = \"krum\"\ncompat = \"peft\"", 6),
        ("method = \"ties\"\ncompat = \"byzfl\"", 6),
        ("method = \"della\"\ncompat = \"peft\"", 6),
        (
            "method = \"mean\"\nsparsify = { method = \"della\" }\ncompat = \"peft\"",
            7,
        ),
    ] {
        assert_eq!(refusal(text), format!("error: f.toml:{line}: {NOTHING}"));
    }
    assert!(
        refusal("method = \"median\"\ncompat = \"byzfl\"")
            .starts_with("error: f.toml:6: `compat` is a key of ties, ")
    );
    assert_eq!(
        refusal("method = \"ties\"\ncompat = \"peft\"\nnormalize = true"),
        "error: f.toml:7: `normalize` would have no effect: PEFT always divides by the number of those who agree"
    );
}

#[test]
fn whom_to_trust_is_missed_and_must_be_a_name() {
    assert_eq!(
        refusal("method = \"fltrust\""),
        "error: f.toml:5: `trusted` is missing\nhint: write trusted = \"NAME\", of the one whose data you know to be good"
    );
    assert_eq!(
        refusal("method = \"moNNA\"\ntrusted = \"Ward 1\""),
        "error: f.toml:6: `trusted` is not a name that a client can have"
    );
}

#[test]
fn scopes_that_contradict_each_other_are_refused() {
    for text in [
        "method = \"krum\"\nscope = \"model\"\nbefore = [{ method = \"nnm\", scope = \"tensor\" }]",
        "method = \"mean\"\nbefore = [{ method = \"arc\", scope = \"model\" },\n  { method = \"nnm\", scope = \"tensor\" }]",
    ] {
        assert_eq!(
            refusal(text),
            "error: f.toml:7: `scope` is not that of the rest of the merge: all its stages measure over one scope"
        );
    }
}

#[test]
fn what_a_stage_needs_is_missed_and_what_it_cannot_use_is_refused() {
    for (text, expected) in [
        (
            "before = [{ method = \"clip\", norm = 1, radius = 2 }]",
            "error: f.toml:5: `radius` is the length with which norm = \"adaptive\" begins, and this norm does not adapt",
        ),
        (
            "method = \"mean\"\nsparsify = { density = 0.5 }",
            "error: f.toml:6: `method` is missing\nhint: write sparsify = { method = \"trim\", density = 0.2 }",
        ),
        (
            "before = [{ method = \"nnm\" }]\nmethod = \"dare-linear\"",
            "error: f.toml: no merge can work like this\ncaused by: nnm and dare cannot be combined: what is dropped is \
             decided for each client's own task vector, and mixing brings it back",
        ),
        (
            "method = \"krum\"\ntolerate = 7",
            "error: f.toml: no merge can work like this\ncaused by: krum with tolerate = 7 needs at least \
             2 × 7 + 3 = 17 clients, and there are 15: tolerate may be at most 6 here\n\
             hint: raise `quorum` in [round], with which a merge must be possible, or lower `tolerate` in [merge]",
        ),
    ] {
        assert_eq!(refusal(text), expected);
    }
}
