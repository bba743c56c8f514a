//! What the program says to wrong input that it can judge by itself: what is wrong, what to do next, and the exit code.

use insta::assert_snapshot;

use crate::command::{fedmerge, run};

/// What a person sees of a command that fails, and what a script sees of it.
fn seen(command: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let ended = run(fedmerge(command).current_dir(dir.path()));
    assert!(ended.stdout.is_empty(), "an error on stdout: {ended}");
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 0, "something was written: {ended}");
    format!("{}exit code {}", ended.stderr, ended.status.code().unwrap())
}

#[test]
fn an_unknown_command_is_wrong_usage() {
    assert_snapshot!(seen(&["fly"]), @r#"
    error: unrecognized subcommand 'fly'

    Usage: fedmerge [OPTIONS] <COMMAND>

    For more information, try '--help'.
    exit code 64
    "#);
}

#[test]
fn a_missing_argument_is_wrong_usage() {
    assert_snapshot!(seen(&["client", "run"]), @r#"
    error: the following required arguments were not provided:
      --train <COMMAND>

    Usage: fedmerge client run --train <COMMAND>

    For more information, try '--help'.
    exit code 64
    "#);
}

#[test]
fn an_unknown_method_is_answered_with_the_nearest() {
    assert_snapshot!(seen(&["simulate", "--method", "meen"]), @r#"
    error: invalid value 'meen' for '--method <NAME>'
      [possible values: mean, median, trimmed-mean, meamed, phocas, sign-majority, task-arithmetic, ties, dare-linear, dare-ties, della, della-linear, breadcrumbs, breadcrumbs-ties, sce, ram, magmax, consensus, krum, multi-krum, bulyan, geometric-median, centered-clipping, mda, caf, dnc, fltrust, flame, moNNA]

      tip: a similar value exists: 'mean'

    For more information, try '--help'.
    exit code 64
    "#);
}

#[test]
fn a_directory_that_is_not_enrolled_is_told_how_to_enrol() {
    assert_snapshot!(seen(&["client", "run", "--dir", "nowhere", "--train", "true"]), @r#"
    error: nowhere is not the directory of an enrolled client
    hint: enrol first: fedmerge client enrol --server URL --token STRING --dir DIR
    exit code 78
    "#);
}

#[test]
fn a_server_without_tls_is_not_spoken_to() {
    assert_snapshot!(seen(&["client", "enrol", "--server", "http://hub", "--token", "fm1", "--dir", "x"]), @r#"
    error: `http://` is not spoken here: a server is reached by https://host:port
    hint: write --server https://host:port
    exit code 64
    "#);
}

#[test]
fn a_token_that_was_cut_off_is_told_without_being_repeated() {
    assert_snapshot!(seen(&["client", "enrol", "--server", "https://hub", "--token", "fm1.s3cr3t", "--dir", "x"]), @r#"
    error: --token is not a join string
    caused by: a join string has 4 parts with dots between them, found 2
    hint: paste the whole line that `fedmerge server token create` printed
    exit code 64
    "#);
}

#[test]
fn no_clients_are_too_few() {
    assert_snapshot!(seen(&["simulate", "--clients", "0"]), @r#"
    error: --clients 0 must be from 1 to 1000
    hint: 8 is a good number to begin with
    exit code 64
    "#);
}

#[test]
fn a_plan_that_is_not_there_is_named() {
    assert_snapshot!(seen(&["simulate", "no-such.toml"]), @r#"
    error: cannot read the plan no-such.toml
    caused by: No such file or directory (os error 2)
    hint: give a federation.toml, or none: simulate has a plan of its own
    exit code 78
    "#);
}

#[test]
fn examples_that_are_not_there_are_named() {
    assert_snapshot!(seen(&["simulate", "--dataset", "nowhere.safetensors"]), @r#"
    error: cannot load the examples
    caused by: read examples from nowhere.safetensors
    caused by: cannot read `nowhere.safetensors`
    caused by: No such file or directory (os error 2)
    exit code 65
    "#);
}

#[test]
fn a_point_that_no_process_passes_is_refused() {
    for (order, why) in [
        ("client-tired:1", "names `client-tired`, which is no point"),
        ("client-trained", "not a point's name and a count"),
    ] {
        let mut command = fedmerge(&["client", "status", "--dir", "nowhere"]);
        let ended = run(command.env("FEDMERGE_TEST_CRASH_AT", order)).with_code(78);
        assert!(ended.stderr.contains(why), "{ended}");
        assert!(
            ended.stderr.contains("name one of client-downloaded, "),
            "{ended}"
        );
    }
}

#[test]
fn no_command_at_all_is_wrong_usage_and_answered_with_help() {
    let ended = run(&mut fedmerge(&[])).with_code(64);
    assert!(
        ended.stderr.contains("Usage: fedmerge [OPTIONS] <COMMAND>"),
        "{ended}"
    );
}

#[test]
fn a_simulation_does_not_write_where_something_is() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("precious"), "").unwrap();
    let ended = run(fedmerge(&["simulate", "--out", "."]).current_dir(dir.path())).with_code(64);
    assert_snapshot!(ended.stderr, @r#"
    error: . is not empty
    hint: give --out a new directory
    "#);
}
