//! Machines that do not get in, and what they are told.

use std::process::Command;

use fedmerge_common::clock::OFFSET_VARIABLE;

use crate::harness::command::run;
use crate::harness::federation::Federation;
use crate::harness::plan::Plan;

/// Seconds of a day.
const DAY: i64 = 86_400;

fn shifted(command: &mut Command, seconds: i64) -> &mut Command {
    command.env(OFFSET_VARIABLE, seconds.to_string())
}

#[test]
fn a_token_that_is_wrong_used_up_or_expired_lets_nobody_in() {
    let mut federation = Federation::new(&Plan::of(1));
    federation.start_server();

    let (good, once, short) = (
        federation.token(),
        federation.token(),
        federation.token_with(&["--ttl", "1h"]),
    );
    let (public, secret) = good.rsplit_once('.').unwrap();
    let wrong = format!("{public}.{}", secret.chars().rev().collect::<String>());
    let ended = run(&mut federation.enrol_command("a", &wrong)).refused(77, &["token-unknown"]);
    let everything = format!("{}{}", ended.stdout, ended.stderr);
    assert!(
        !everything.contains(&wrong),
        "the secret was printed: {ended}"
    );

    run(&mut federation.enrol_command("a", "fm1.nonsense")).refused(64, &["4 parts"]);

    run(&mut federation.enrol_command("a", &once)).well();
    run(&mut federation.enrol_command("b", &once)).refused(77, &["token-used-up", "token create"]);
    run(&mut federation.enrol_command("a", &good))
        .refused(64, &["already the directory of client a"]);
    std::fs::rename(federation.path("a"), federation.path("elsewhere")).unwrap();
    run(&mut federation.enrol_command("a", &good)).refused(77, &["name-taken", "--name"]);

    federation.stop_server().well();
    federation.start_server_with(|command| shifted(command, 2 * DAY));
    let mut late = federation.enrol_command("c", &short);
    run(shifted(&mut late, 2 * DAY)).refused(77, &["token-expired", "token create"]);
}

#[test]
fn a_server_that_did_not_make_the_token_is_not_trusted() {
    let [mut mine, mut other] = [Federation::new(&Plan::of(1)), Federation::new(&Plan::of(1))];
    mine.start_server();
    other.start_server();
    let ended = run(&mut other.enrol_command("a", &mine.token()));
    ended.refused(
        77,
        &[
            "certificate authority is not the one that was pinned",
            &other.address,
        ],
    );
}

#[test]
fn a_machine_whose_clock_is_a_day_off_is_told_the_time() {
    let mut federation = Federation::new(&Plan::of(1));
    federation.start_server();
    let token = federation.token();
    let mut ahead = federation.enrol_command("ahead", &token);
    run(shifted(&mut ahead, DAY)).refused(78, &["clock-skew", "this machine's clock says"]);
    let mut behind = federation.enrol_command("behind", &token);
    run(shifted(&mut behind, -DAY)).refused(78, &["not valid before", "this machine's clock says"]);
    // Neither used the token up.
    run(&mut federation.enrol_command("right", &token)).well();
}
