//! Proof of what was published: signed, checked by whoever has the authority's certificate, and made again from the updates.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::command::{fedmerge, run};
use crate::harness::machine::skipped;
use crate::harness::process::Ended;

/// What the reference implementation of OpenSSF Model Signing says of a model.
const REFERENCE: &str = "
import pathlib, sys, model_signing
model, authority = map(pathlib.Path, sys.argv[1:3])
verifier = model_signing.verifying.Config().use_certificate_verifier(certificate_chain=[authority])
verifier.verify(model, model / 'model.sig')
";

/// A federation of three clients that held two rounds.
fn held(dir: &Path) -> tempfile::TempDir {
    let out = tempfile::tempdir_in(dir).unwrap();
    let words = [
        "simulate",
        "--clients",
        "3",
        "--rounds",
        "2",
        "--local-steps",
        "2",
        "--out",
    ];
    run(fedmerge(&words).arg(out.path())).well();
    out
}

fn verify(out: &Path, model: &str, more: &[&str]) -> Ended {
    let server = out.join("server");
    let words = ["server", "models", "verify", model, "--dir"];
    run(fedmerge(&words).arg(server).args(more))
}

fn verify_copy(model: &Path, authority: &Path) -> Ended {
    let mut command = fedmerge(&["verify"]);
    run(command.arg(model).arg("--authority").arg(authority))
}

#[test]
fn a_model_is_what_was_signed_and_its_updates_make_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let out = held(dir.path());
    let out = out.path();
    for model in ["0", "1", "2"] {
        let told = verify(out, model, &[]).well().stdout;
        assert!(told.starts_with(&format!(
            "model {model} is what the server of simulation signed"
        )));
    }
    for model in ["1", "2"] {
        let told = verify(out, model, &["--recompute"]).well().stdout;
        assert!(
            told.contains("merged again from 3 updates: the same"),
            "{told}"
        );
    }
    let first = verify(out, "0", &["--recompute"]);
    assert_eq!(first.status.code(), Some(64), "{first}");

    let server = out.join("server");
    let copy = dir.path().join("copy");
    let words = ["server", "models", "export", "--dir"];
    run(fedmerge(&words).arg(&server).arg(&copy)).well();
    let authority = server.join("identity/ca.pem");
    let told = verify_copy(&copy, &authority).well().stdout;
    assert!(
        told.contains("simulation/2, as the server of simulation signed it"),
        "{told}"
    );
    let client = out.join("clients/client-1/identity/ca.pem");
    verify_copy(&copy, &client).well();
    check_by_the_reference(&copy, &authority);
    every_byte_of_the_manifest_counts(&copy, &authority);
}

fn check_by_the_reference(model: &Path, authority: &Path) {
    let python = |code: &str| {
        let mut command = Command::new("python3");
        command.arg("-c").arg(code).arg(model).arg(authority);
        command.output()
    };
    if !python("import model_signing").is_ok_and(|found| found.status.success()) {
        skipped("python3 with model_signing is not there");
        return;
    }
    let verified = python(REFERENCE).unwrap();
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success(), "{said}");
}

fn every_byte_of_the_manifest_counts(model: &Path, authority: &Path) {
    let path = model.join("fedmerge.json");
    let honest = fs::read(&path).unwrap();
    // One byte of each field: the first after its name.
    let text = String::from_utf8(honest.clone()).unwrap();
    let fields: Vec<usize> = text.match_indices("\": ").map(|(at, _)| at + 3).collect();
    assert!(fields.len() > 30, "{text}");
    for at in fields.into_iter().step_by(7) {
        let mut changed = honest.clone();
        changed[at] ^= 1;
        fs::write(&path, changed).unwrap();
        let refused = verify_copy(model, authority);
        assert_eq!(refused.status.code(), Some(65), "{refused}");
        assert!(
            refused.stderr.contains("`fedmerge.json` has the digest"),
            "{refused}"
        );
    }
    fs::write(&path, honest).unwrap();
    verify_copy(model, authority).well();
}

#[test]
fn what_was_changed_on_the_server_s_own_disk_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let out = held(dir.path());
    let server = out.path().join("server");
    let refused = |model: &str, more: &[&str]| {
        let ended = verify(out.path(), model, more);
        assert_eq!(ended.status.code(), Some(65), "{ended}");
        ended.stderr
    };
    // An update of round 2 is another one now: the model is still what was signed, and not what its updates make.
    let updates = fs::read_dir(server.join("state/updates/2")).unwrap();
    let update = updates.map(|entry| entry.unwrap().path()).min().unwrap();
    let update = walk(&update);
    let mut bytes = fs::read(&update).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 0x40;
    fs::write(&update, bytes).unwrap();
    verify(out.path(), "2", &[]).well();
    let said = refused("2", &["--recompute"]);
    assert!(said.contains("for round 2 has blake3:"), "{said}");

    let model = server.join("models/1/model.safetensors");
    let mut bytes = fs::read(&model).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&model, bytes).unwrap();
    let said = refused("1", &[]);
    assert!(
        said.contains("`model.safetensors` has the digest"),
        "{said}"
    );

    fs::remove_file(server.join("models/0/model.sig")).unwrap();
    let said = refused("0", &[]);
    assert!(said.contains("nobody signed this model"), "{said}");
}

/// The file itself, or the first one below a directory.
fn walk(path: &Path) -> std::path::PathBuf {
    if path.is_file() {
        return path.to_owned();
    }
    let entries = fs::read_dir(path).unwrap();
    walk(&entries.map(|entry| entry.unwrap().path()).min().unwrap())
}

#[test]
fn another_federation_s_certificate_proves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = held(dir.path());
    let other = dir.path().join("other");
    let base = out.path().join("base.safetensors");
    run(fedmerge(&["server", "init"])
        .arg(&other)
        .arg("--base")
        .arg(base))
    .well();
    let model = out.path().join("server/models/2");
    let refused = verify_copy(&model, &other.join("identity/ca.pem"));
    assert_eq!(refused.status.code(), Some(65), "{refused}");
    assert!(
        refused
            .stderr
            .contains("not one that the federation's authority signed"),
        "{refused}"
    );
    let missing = verify_copy(&model, &dir.path().join("none.pem"));
    assert_eq!(missing.status.code(), Some(65), "{missing}");
}
