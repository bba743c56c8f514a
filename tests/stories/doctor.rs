//! What `client doctor` finds, and what it tells to mend.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use fedmerge_common::clock::OFFSET_VARIABLE;

use crate::harness::command::run;
use crate::harness::federation::Federation;
use crate::harness::plan::Plan;
use crate::harness::process::Ended;
use crate::harness::values::Values;

fn doctor(federation: &Federation, arguments: &[&str]) -> Ended {
    federation.run(&[&["client", "doctor", "--dir", "a"], arguments].concat())
}

/// The line of a check.
fn line(ended: &Ended, check: &str) -> String {
    let mut lines = ended.stdout.lines();
    let is_of = |line: &&str| line.split_whitespace().nth(1) == Some(check);
    lines
        .find(is_of)
        .unwrap_or_else(|| panic!("{check}: {ended}"))
        .to_owned()
}

/// A federation with one client, enrolled and not running.
fn enrolled() -> Federation {
    let mut federation = Federation::new(&Plan::of(1));
    federation.start_server();
    federation.enrol(&["a"]);
    federation
}

#[test]
fn a_client_in_order_has_nothing_to_mend_and_may_try_its_command() {
    let mut federation = enrolled();
    let looked = doctor(&federation, &[]).well();
    for check in [
        "client",
        "key",
        "certificate",
        "policy",
        "server",
        "clock",
        "disk",
    ] {
        assert!(line(&looked, check).starts_with("ok "), "{looked}");
    }
    assert!(looked.stdout.ends_with("nothing to mend\n"), "{looked}");

    let trainer = federation.trainer("a", &Values::base().plus(1.0), 30);
    let tried = doctor(&federation, &["--train", trainer.command()]).well();
    let training = line(&tried, "training");
    assert!(
        training.starts_with("ok ") && training.contains("of 30 examples"),
        "{tried}"
    );
    // Nothing of that was sent or stays, and the round is held as if it had not been.
    assert!(
        !federation.path("a/rehearsal").exists() && !federation.path("a/site-log.jsonl").exists()
    );
    federation.start_client("a", &trainer);
    federation.next_round().expect("a", "accepted", &[]);
    federation.client_end("a").well();
}

#[test]
fn a_command_that_would_be_declined_is_told_with_its_words_and_its_log() {
    let federation = enrolled();
    let other = Values {
        w: vec![1.0],
        b: vec![2.0],
    };
    other.write(&federation.path("other.safetensors"));
    for (command, words) in [
        ("echo lost my way >&2; exit 3", "lost my way"),
        ("true", "no checkpoint"),
        (
            "cp ../other.safetensors \"$FEDMERGE_OUT\" || cp other.safetensors \"$FEDMERGE_OUT\"",
            "does not fit the base",
        ),
    ] {
        let tried = doctor(&federation, &["--train", command]).with_code(65);
        let training = line(&tried, "training");
        assert!(
            training.starts_with("MEND") && training.contains(words),
            "{tried}"
        );
        assert!(tried.stderr.contains("to be mended: training"), "{tried}");
    }
    assert!(federation.path("a/rehearsal").exists());
}

#[test]
fn each_thing_that_is_wrong_is_named_with_what_to_do() {
    let mut federation = enrolled();
    let key = federation.path("a/identity/client.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let looked = doctor(&federation, &[]).with_code(69);
    assert!(line(&looked, "key").starts_with("MEND"), "{looked}");
    assert!(looked.stdout.contains("chmod 600"), "{looked}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    let mut late = federation.command(&["client", "doctor", "--dir", "a"]);
    let late = run(late.env(OFFSET_VARIABLE, "1800")).with_code(69);
    assert!(line(&late, "clock").starts_with("MEND"), "{late}");
    assert!(late.stdout.contains("timedatectl"), "{late}");

    let mut ended = federation.command(&["client", "doctor", "--dir", "a"]);
    let ended = run(ended.env(OFFSET_VARIABLE, (2 * 86_400).to_string())).well();
    assert!(line(&ended, "certificate").starts_with("note"), "{ended}");
    assert!(line(&ended, "server").contains("not greeted"), "{ended}");

    let gate = federation.gate("a");
    let trainer = federation.trainer("a", &Values::base().plus(1.0), 1);
    federation.start_client("a", &trainer.behind(&gate));
    gate.wait_for_knock();
    let looked = doctor(&federation, &["--train", "true", "--format", "json"]).well();
    let finding = |check: &str| {
        let lines = looked.stdout.lines();
        let findings = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let mut findings = findings.filter(|finding| finding["check"] == check);
        findings.next().unwrap()
    };
    assert_eq!(finding("process")["verdict"], "good");
    assert_eq!(finding("training")["verdict"], "remark");
    federation.kill_client("a");
    federation.stop_server().well();

    let alone = doctor(&federation, &[]).with_code(69);
    assert!(line(&alone, "server").contains("not reachable"), "{alone}");
    assert!(line(&alone, "disk").starts_with("ok "), "{alone}");
    federation
        .run(&["client", "doctor", "--dir", "nowhere"])
        .refused(
            78,
            &["not the directory of an enrolled client", "enrol first"],
        );
}
