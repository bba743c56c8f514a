//! Forty and more things that a hostile peer may do to a server, by name: each gets its typed answer, the server stays small, and the
//! honest clients' model is the one that it would have been.

mod lies;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use bytes::Bytes;
use fedmerge_common::digest::Digest;
use fedmerge_proto::convert::transfer::chunk;
use fedmerge_proto::status::RefusalReason;
use fedmerge_proto::v1;
use fedmerge_proto::v1::commit_upload_response::Outcome;

use crate::harness::command::run;
use crate::harness::federation::Federation;
use crate::harness::plan::Plan;
use crate::harness::process::LIMIT;
use crate::harness::raw_client::{Answer, HeldStream, RawClient, header};
use crate::harness::trainer::Gate;
use crate::harness::values::Values;
use lies::LIES;

/// Bytes that are no task vector.
const GARBAGE: &[u8] = &[b'x'; 4096];
/// The update of each honest client.
const HONEST: [(&str, f32); 3] = [("a", 1.0), ("b", 2.0), ("c", 6.0)];
/// What the server may take at most, however it is treated.
const MOST_MEMORY_BYTES: u64 = 128 << 20;
const MOST_STAGED_BYTES: u64 = 1 << 20;

/// What is done, and by which names it is known to have been answered as it should.
#[derive(Debug, Default)]
struct Deeds(BTreeSet<&'static str>);

impl Deeds {
    #[track_caller]
    fn refused<T: std::fmt::Debug>(
        &mut self,
        deed: &'static str,
        answer: Answer<T>,
        reason: RefusalReason,
    ) {
        let refusal = answer.expect_err(deed);
        assert_eq!(refusal.reason, reason, "{deed}: {refusal:?}");
        self.done(deed);
    }

    #[track_caller]
    fn rejected(&mut self, deed: &'static str, answer: Answer<Outcome>, code: v1::RejectionCode) {
        match answer {
            Ok(Outcome::Rejected(rejected)) => {
                assert_eq!(rejected.code(), code, "{deed}: {rejected:?}");
                assert!(!rejected.detail.is_empty(), "{deed}");
            }
            other @ (Ok(Outcome::Accepted(_)) | Err(_)) => panic!("{deed}: {other:?}"),
        }
        self.done(deed);
    }

    fn done(&mut self, deed: &'static str) {
        assert!(self.0.insert(deed), "{deed} was done twice");
    }
}

/// A name for each lie's client.
fn liar(number: usize) -> String {
    format!("liar-{number}")
}

/// A round of three honest clients, without or with so many others beside them.
fn federation(others: usize) -> Federation {
    let plan = Plan {
        quorum: HONEST.len(),
        grace: "1s",
        merge: "method = \"trimmed-mean\"\ntolerate = 1",
        ..Plan::of(HONEST.len() + others)
    };
    let mut federation = Federation::new(&plan);
    federation.start_server();
    federation
}

fn start_honest(federation: &mut Federation, is_gated: bool) -> Vec<Gate> {
    let mut gates = Vec::new();
    for (name, step) in HONEST {
        let trainer = federation.trainer(name, &Values::base().plus(step), 1);
        if is_gated {
            let gate = federation.gate(name);
            federation.start_client(name, &trainer.behind(&gate));
            gates.push(gate);
        } else {
            federation.start_client(name, &trainer);
        }
    }
    gates
}

/// The digest of the model that honest clients make when they are alone.
fn undisturbed() -> String {
    let mut federation = federation(0);
    federation.enrol(&HONEST.map(|(name, _)| name));
    start_honest(&mut federation, false);
    federation.next_round().published().digest.clone()
}

#[test]
fn each_of_many_hostile_deeds_gets_its_answer_and_the_honest_model_is_untouched() {
    let mut deeds = Deeds::default();
    // Beside the liars: one who breaks the protocol, and one who begins and never ends.
    let mut federation = federation(LIES.len() + 2);
    let names: Vec<String> = (0..LIES.len()).map(liar).collect();
    let mut all: Vec<&str> = HONEST.iter().map(|(name, _)| *name).collect();
    all.extend(["mallory", "sloth", "eve"]);
    all.extend(names.iter().map(String::as_str));
    let used = federation.token();
    run(&mut federation.enrol_command("gone", &used)).well();
    federation.enrol(&all);
    let mut gates = start_honest(&mut federation, true);

    let crude = crude_peers(&federation, &mut deeds);
    tokens_are_not_for_everyone(&federation, &used, &mut deeds);
    let mut mallory = RawClient::with_certificate_of(&federation, "mallory");
    let mut sloth = RawClient::with_certificate_of(&federation, "sloth");
    let mut liars: Vec<RawClient> = names
        .iter()
        .map(|name| RawClient::with_certificate_of(&federation, name))
        .collect();
    let task = std::thread::scope(|scope| {
        // All must attend before anyone is invited.
        let attending: Vec<_> = liars
            .iter_mut()
            .chain([&mut sloth])
            .map(|client| scope.spawn(|| client.attend()))
            .collect();
        let task = mallory.attend();
        for attending in attending {
            assert_eq!(attending.join().unwrap().round, task.round);
        }
        task
    });
    strangers_get_nothing(&federation, &task, &mut deeds);
    let eve = RawClient::with_certificate_of(&federation, "eve");
    members_do_not_leave_their_place(&mallory, &eve, &task, &mut deeds);
    uploads_are_what_was_announced(&mallory, &eve, &task, &mut deeds);
    let held = never_ending(&sloth, &task, &mut deeds);
    lies_are_seen_through(&federation, &liars, &task, &mut deeds);
    deeds.rejected(
        "an update of who was not invited",
        eve.submit(header(&task, GARBAGE), GARBAGE),
        v1::RejectionCode::NotInvited,
    );

    let status = federation
        .run(&["server", "status", "--dir", "server"])
        .well();
    assert!(status.stdout.contains("refused      "), "{status}");
    for reason in ["token-unknown", "not-authenticated", "upload-unknown"] {
        assert!(status.stdout.contains(reason), "{status}");
    }
    // Whoever does not answer is waited for until the deadline; whoever is gone, for a moment.
    drop((held, mallory, sloth, liars));
    for gate in &mut gates {
        gate.open();
    }
    let closed = federation.next_round();
    assert_eq!(closed.accepted, HONEST.len());
    assert_eq!(closed.published().digest, undisturbed());
    the_server_stays_small(&mut federation);
    drop(crude);
    assert!(
        deeds.0.len() >= 40,
        "{} deeds: {:?}",
        deeds.0.len(),
        deeds.0
    );
}

/// Peers that do not even speak TLS: they are cut off. Those who only keep silent are answered by nobody, and are there all the time.
fn crude_peers(federation: &Federation, deeds: &mut Deeds) -> Vec<TcpStream> {
    let say = |words: &[u8]| {
        let mut stream = TcpStream::connect(&federation.address).unwrap();
        stream.write_all(words).unwrap();
        stream
    };
    let words: [(&str, &[u8]); 2] = [
        ("HTTP without TLS", b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n"),
        ("nonsense", &[0xff; 512]),
    ];
    for (deed, words) in words {
        let mut stream = say(words);
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let cut_off = stream.read_to_end(&mut Vec::new());
        let is_reset = |error: std::io::Error| error.kind() == ErrorKind::ConnectionReset;
        assert!(cut_off.map_or_else(is_reset, |_| true), "{deed}");
        deeds.done(deed);
    }
    let silent: [&[u8]; 2] = [b"", &[0x16, 3, 1, 0x40, 0, 1]];
    silent.map(say).into()
}

/// Join strings that let nobody in: the command of an honest client tells why.
fn tokens_are_not_for_everyone(federation: &Federation, used: &str, deeds: &mut Deeds) {
    let mut parts = used.split('.');
    let (version, pin) = (parts.next().unwrap(), parts.next().unwrap());
    let id = parts.next().unwrap();
    let secret = "A".repeat(parts.next().unwrap().len());
    let revoked = federation.token();
    let revoked_id = revoked.split('.').nth(2).unwrap();
    let revoke = ["server", "token", "revoke", revoked_id, "--dir", "server"];
    federation.run(&revoke).well();
    let other = format!("{version}.{}.{id}.{secret}", "0".repeat(pin.len()));
    for (deed, token, exit) in [
        ("a token that is used up", used.to_owned(), 77),
        (
            "a guessed secret",
            format!("{version}.{pin}.{id}.{secret}"),
            77,
        ),
        ("a token that was revoked", revoked, 77),
        ("a token of another federation", other, 77),
        ("a token cut off", used[..used.len() - 9].to_owned(), 77),
    ] {
        let refused = run(&mut federation.enrol_command("thief", &token));
        assert_eq!(refused.status.code(), Some(exit), "{deed}: {refused}");
        assert!(refused.stderr.contains("hint: "), "{deed}: {refused}");
        deeds.done(deed);
    }
    let taken = run(&mut federation.enrol_command("gone", &federation.token()));
    assert!(!taken.status.success(), "{taken}");
    deeds.done("an enrolment under another's name");
}

/// Without a certificate nothing but enrolment is answered.
fn strangers_get_nothing(federation: &Federation, task: &v1::Invitation, deeds: &mut Deeds) {
    let stranger = RawClient::without_certificate(federation, &federation.token());
    let base = Digest::of_file(&federation.path("base.safetensors")).unwrap();
    let who = RefusalReason::NotAuthenticated;
    let bytes = || chunk(0, Bytes::from_static(GARBAGE));
    deeds.refused("a stranger downloads", stranger.download(&base), who);
    deeds.refused("a stranger reports", stranger.report_progress(1), who);
    deeds.refused(
        "a stranger announces",
        stranger.begin_upload(header(task, GARBAGE)),
        who,
    );
    deeds.refused("a stranger sends", stranger.send("upload", bytes()), who);
    deeds.refused("a stranger commits", stranger.commit("upload"), who);
    deeds.refused("a stranger judges", stranger.condemn(1), who);
    let not_here = RefusalReason::NotPermitted;
    deeds.refused("a stranger looks on", stranger.admin_status(), not_here);
    deeds.refused("a stranger makes tokens", stranger.admin_token(), not_here);
}

/// Members do what members may, and to what is theirs.
fn members_do_not_leave_their_place(
    mallory: &RawClient,
    eve: &RawClient,
    task: &v1::Invitation,
    deeds: &mut Deeds,
) {
    let not_permitted = RefusalReason::NotPermitted;
    deeds.refused("a member looks on", mallory.admin_status(), not_permitted);
    deeds.refused(
        "a member makes tokens",
        mallory.admin_token(),
        not_permitted,
    );
    let invalid = RefusalReason::InvalidRequest;
    deeds.refused("progress of no round", mallory.report_progress(0), invalid);
    deeds.refused(
        "a model that is nobody's",
        mallory.download(&Digest::of(b"other")),
        RefusalReason::ModelUnknown,
    );
    deeds.refused(
        "a comparison of models that are nobody's",
        mallory.changed_bytes(&Digest::of(b"one"), &Digest::of(b"other")),
        RefusalReason::ModelUnknown,
    );
    let upload = mallory
        .begin_upload(header(task, GARBAGE))
        .unwrap()
        .upload_id;
    let huge = v1::UpdateHeader {
        metrics: BTreeMap::from([("x".repeat(9 << 20), 1.0)]),
        ..header(task, GARBAGE)
    };
    let too_large = RefusalReason::TooLarge;
    deeds.refused(
        "an announcement of 9 MiB",
        mallory.begin_upload(huge),
        too_large,
    );
    let huge = chunk(0, vec![b'x'; 9 << 20].into());
    deeds.refused("a chunk of 9 MiB", mallory.send(&upload, huge), too_large);
    let bytes = chunk(0, Bytes::from_static(GARBAGE));
    let unknown = RefusalReason::UploadUnknown;
    deeds.refused(
        "bytes for another's upload",
        eve.send(&upload, bytes),
        unknown,
    );
    deeds.refused("the end of another's upload", eve.commit(&upload), unknown);
}

/// Chunks are those that were announced, in their place.
fn uploads_are_what_was_announced(
    mallory: &RawClient,
    eve: &RawClient,
    task: &v1::Invitation,
    deeds: &mut Deeds,
) {
    let upload = mallory
        .begin_upload(header(task, GARBAGE))
        .unwrap()
        .upload_id;
    let corrupt = v1::Chunk {
        digest: Bytes::copy_from_slice(Digest::of(b"other").as_bytes()),
        ..chunk(0, Bytes::from_static(GARBAGE))
    };
    let ahead = chunk(10, Bytes::from_static(&GARBAGE[10..]));
    let too_long = chunk(0, Bytes::from_static(&[b'x'; 5000]));
    let empty = chunk(0, Bytes::new());
    let send = |chunk| mallory.send(&upload, chunk);
    deeds.refused(
        "a chunk with another digest",
        send(corrupt),
        RefusalReason::ChunkCorrupt,
    );
    deeds.refused(
        "a chunk out of its place",
        send(ahead),
        RefusalReason::WrongOffset,
    );
    deeds.refused(
        "more bytes than announced",
        send(too_long),
        RefusalReason::TooLarge,
    );
    deeds.refused(
        "a chunk of nothing",
        send(empty),
        RefusalReason::InvalidRequest,
    );
    deeds.refused(
        "an upload by the name of a path",
        mallory.send("../../state", chunk(0, Bytes::from_static(b"x"))),
        RefusalReason::InvalidRequest,
    );
    let endless = v1::UpdateHeader {
        payload_bytes: u64::MAX,
        ..header(task, GARBAGE)
    };
    let condemned = mallory.begin_upload(endless).unwrap();
    deeds.refused(
        "bytes of an update that is too large",
        mallory.send(&condemned.upload_id, chunk(0, Bytes::from_static(GARBAGE))),
        RefusalReason::UploadUnknown,
    );
    let nothing = v1::UpdateHeader::default();
    deeds.refused(
        "an announcement of nothing",
        eve.begin_upload(nothing),
        RefusalReason::InvalidRequest,
    );
    deeds.refused(
        "the end of an upload that never began",
        mallory.commit("00000000000000000000000000000000"),
        RefusalReason::UploadUnknown,
    );
}

/// Each liar hands in one update.
fn lies_are_seen_through(
    federation: &Federation,
    liars: &[RawClient],
    task: &v1::Invitation,
    deeds: &mut Deeds,
) {
    let dir = federation.path("");
    for ((deed, lie, code), client) in LIES.iter().zip(liars) {
        let mut told = header(task, GARBAGE);
        let digest = told.payload.clone();
        let payload: &'static [u8] = Box::leak(lie(&dir, &mut told).into_boxed_slice());
        if told.payload == digest {
            told.payload = Some(Digest::of(payload).into());
        }
        told.payload_bytes = payload.len() as u64;
        deeds.rejected(deed, client.submit(told, payload), *code);
    }
}

/// An update that begins and never ends, and one whose stream is never closed.
fn never_ending(sloth: &RawClient, task: &v1::Invitation, deeds: &mut Deeds) -> HeldStream {
    let upload = sloth.begin_upload(header(task, GARBAGE)).unwrap().upload_id;
    let held = sloth.hold(&upload, chunk(0, Bytes::from_static(&GARBAGE[..100])));
    let held = held.unwrap();
    deeds.refused(
        "the end of an upload that has fallen silent",
        sloth.commit(&upload),
        RefusalReason::WrongOffset,
    );
    held
}

/// Memory and disk after all that.
fn the_server_stays_small(federation: &mut Federation) {
    let pid = federation.server().pid().as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = peak.unwrap().trim().trim_end_matches("kB").trim();
    let bytes = kibibytes.parse::<u64>().unwrap() * 1024;
    assert!(bytes < MOST_MEMORY_BYTES, "{bytes} bytes of memory");
    let staged = fs::read_dir(federation.path("server/state/staging")).unwrap();
    let staged: u64 = staged
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(staged < MOST_STAGED_BYTES, "{staged} bytes staged");
}
