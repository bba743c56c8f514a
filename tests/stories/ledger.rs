//! A ledger in trouble: nothing is begun on it, the file and what to do are named, and a backup brings the federation back.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use crate::harness::federation::{Federation, SERVER_RUN};
use crate::harness::machine::Sealed;
use crate::harness::plan::Plan;
use crate::harness::values::Values;

/// A federation of two rounds, between them; its client is started anew for the second.
fn between_rounds() -> Federation {
    let mut federation = Federation::new(&Plan {
        rounds: 1,
        ..Plan::of(1)
    });
    federation.start_server();
    federation.enrol(&["a"]);
    hold(&mut federation, 1.0);
    federation.install(&plan_of(2));
    federation
}

fn plan_of(rounds: u64) -> String {
    let plan = Plan {
        rounds,
        ..Plan::of(1)
    };
    plan.to_string()
}

/// One round to the end of the federation, whose client adds `plus` to the base that it knows.
fn hold(federation: &mut Federation, plus: f32) {
    let trainer = federation.trainer("a", &Values::base().plus(plus), 1);
    federation.start_client("a", &trainer);
    federation.next_round();
    federation.client_end("a").well();
    federation.server_end().well();
}

#[test]
fn a_damaged_ledger_is_refused_and_a_backup_goes_on_where_it_was_made() {
    let mut federation = between_rounds();
    let backup = ["server", "backup", "copy.sqlite", "--dir", "server"];
    federation.run(&backup).well();
    federation
        .run(&backup)
        .refused(64, &["copy.sqlite", "is there already"]);

    let ledger = federation.path("server/state/ledger.sqlite");
    let file = File::options().write(true).open(&ledger).unwrap();
    file.write_all_at(&[0xa5; 4096], 2 * 4096).unwrap();
    let words = ["state/ledger.sqlite is damaged", "fedmerge server backup"];
    federation.run(&SERVER_RUN).refused(65, &words);

    fs::copy(federation.path("copy.sqlite"), &ledger).unwrap();
    for left in ["ledger.sqlite-wal", "ledger.sqlite-shm"] {
        let _missing = fs::remove_file(federation.path("server/state").join(left));
    }
    federation.start_server();
    hold(&mut federation, 2.0);
    assert_eq!(Values::read(&federation.model(2)), Values::base().plus(2.0));
}

#[test]
fn a_ledger_that_was_emptied_or_lost_does_not_begin_the_federation_anew() {
    let federation = between_rounds();
    let ledger = federation.path("server/state/ledger.sqlite");
    for lose in [
        (|path| drop(File::create(path).unwrap())) as fn(&std::path::Path),
        |path| fs::remove_file(path).unwrap(),
    ] {
        lose(&ledger);
        federation
            .run(&SERVER_RUN)
            .refused(65, &["ledger.sqlite is empty", "models/1", "is there"]);
    }
    assert_eq!(Values::read(&federation.model(1)), Values::base().plus(1.0));
}

#[test]
fn a_ledger_that_cannot_be_written_is_refused_before_anybody_connects_and_can_still_be_read() {
    let mut federation = between_rounds();
    let ledger = federation.path("server/state/ledger.sqlite");
    let Some(sealed) = Sealed::seal(&ledger) else {
        return;
    };
    let words = ["ledger.sqlite cannot be written", "mounted for writing"];
    let ended = federation.run(&SERVER_RUN).refused(69, &words);
    assert!(ended.stdout.is_empty(), "{ended}");
    let list = ["server", "rounds", "list", "--dir", "server"];
    let listed = federation.run(&list).well().stdout;
    assert!(listed.contains("published model 1"), "{listed}");
    drop(sealed);
    federation.start_server();
    hold(&mut federation, 2.0);
}
