//! Peers that break the protocol on purpose: each gets its typed refusal, and the honest do not notice.

use std::io::Write;
use std::net::TcpStream;

use bytes::Bytes;
use fedmerge_common::digest::Digest;
use fedmerge_proto::convert::transfer::chunk;
use fedmerge_proto::status::RefusalReason;
use fedmerge_proto::v1;
use fedmerge_proto::v1::commit_upload_response::Outcome;

use crate::harness::federation::Federation;
use crate::harness::plan::Plan;
use crate::harness::raw_client::{Answer, RawClient, header};
use crate::harness::trainer::Gate;
use crate::harness::values::Values;

/// Bytes that are no task vector.
const PAYLOAD: &[u8] = &[b'x'; 4096];

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Answer<T>, reason: RefusalReason) {
    let refusal = answer.expect_err("it was answered");
    assert_eq!(refusal.reason, reason, "{refusal:?}");
}

#[track_caller]
fn rejected(answer: Answer<Outcome>, code: v1::RejectionCode) {
    match answer {
        Ok(Outcome::Rejected(rejected)) => assert_eq!(rejected.code(), code, "{rejected:?}"),
        other @ (Ok(Outcome::Accepted(_)) | Err(_)) => panic!("expected {code:?}: {other:?}"),
    }
}

/// Two honest clients behind gates, and two that are enrolled and do as they like.
fn federation() -> (Federation, [Gate; 2]) {
    let plan = Plan {
        rounds: 2,
        quorum: 2,
        grace: "1s",
        ..Plan::of(3)
    };
    let mut federation = Federation::new(&plan);
    federation.start_server();
    federation.enrol(&["a", "b", "mallory", "eve"]);
    let gates = [federation.gate("a"), federation.gate("b")];
    for ((name, step), gate) in [("a", 1.0), ("b", 3.0)].into_iter().zip(&gates) {
        let trainer = federation.trainer(name, &Values::base().plus(step), 1);
        federation.start_client(name, &trainer.behind(gate));
    }
    (federation, gates)
}

#[test]
fn hostile_peers_get_typed_refusals_and_the_honest_publish_their_rounds() {
    let (mut federation, mut gates) = federation();
    let idle = TcpStream::connect(&federation.address).unwrap();
    let mut plain = TcpStream::connect(&federation.address).unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
        .unwrap();

    let mut mallory = RawClient::with_certificate_of(&federation, "mallory");
    let eve = RawClient::with_certificate_of(&federation, "eve");
    let task = mallory.attend();
    strangers_are_refused(&federation, &task);
    uploads_are_checked(&mallory, &eve, &task);
    for client in [&mallory, &eve] {
        refused(client.admin_status(), RefusalReason::NotPermitted);
        refused(client.admin_token(), RefusalReason::NotPermitted);
    }
    rejected(
        eve.submit(header(&task, PAYLOAD), PAYLOAD),
        v1::RejectionCode::NotInvited,
    );
    rejected(
        mallory.submit(header(&task, PAYLOAD), PAYLOAD),
        v1::RejectionCode::Malformed,
    );

    for gate in &mut gates {
        gate.open();
    }
    let closed = federation.next_round();
    assert_eq!(
        Values::read(&closed.published().path),
        Values::base().plus(2.0)
    );
    closed.expect("mallory", "rejected", &["malformed"]);

    federation.server().next_event("round-opened");
    // An update for a past round is too late; an answer to one that was decided in it is given again.
    rejected(
        eve.submit(header(&task, PAYLOAD), PAYLOAD),
        v1::RejectionCode::RoundClosed,
    );
    rejected(
        mallory.submit(header(&task, PAYLOAD), PAYLOAD),
        v1::RejectionCode::Malformed,
    );
    drop(mallory);
    for gate in &mut gates {
        gate.open();
    }
    let closed = federation.next_round();
    closed.published();
    closed.expect("mallory", "silent", &[]);
    drop(idle);
}

/// Without a certificate nothing but enrolment is answered.
fn strangers_are_refused(federation: &Federation, task: &v1::Invitation) {
    let stranger = RawClient::without_certificate(federation, &federation.token());
    let base = Digest::of_file(&federation.path("base.safetensors")).unwrap();
    let reason = RefusalReason::NotAuthenticated;
    refused(stranger.download(&base), reason);
    refused(stranger.report_progress(1), reason);
    refused(stranger.begin_upload(header(task, PAYLOAD)), reason);
    refused(
        stranger.send("upload", chunk(0, Bytes::from_static(PAYLOAD))),
        reason,
    );
    refused(stranger.commit("upload"), reason);
    // Not even who they are is asked at this door.
    refused(stranger.admin_status(), RefusalReason::NotPermitted);
    refused(stranger.admin_token(), RefusalReason::NotPermitted);
}

/// Chunks that are not what was announced, and other people's uploads.
fn uploads_are_checked(mallory: &RawClient, eve: &RawClient, task: &v1::Invitation) {
    let upload = mallory
        .begin_upload(header(task, PAYLOAD))
        .unwrap()
        .upload_id;
    let good = chunk(0, Bytes::from_static(PAYLOAD));
    let corrupt = v1::Chunk {
        digest: Bytes::copy_from_slice(Digest::of(b"other").as_bytes()),
        ..good.clone()
    };
    let ahead = chunk(10, Bytes::from_static(&PAYLOAD[10..]));
    let too_long = chunk(0, Bytes::from_static(&[b'x'; 5000]));
    let empty = chunk(0, Bytes::new());
    refused(mallory.send(&upload, corrupt), RefusalReason::ChunkCorrupt);
    refused(mallory.send(&upload, ahead), RefusalReason::WrongOffset);
    refused(mallory.send(&upload, too_long), RefusalReason::TooLarge);
    refused(mallory.send(&upload, empty), RefusalReason::InvalidRequest);
    refused(eve.send(&upload, good), RefusalReason::UploadUnknown);
    refused(eve.commit(&upload), RefusalReason::UploadUnknown);
    refused(
        mallory.send("../../state", chunk(0, Bytes::from_static(b"x"))),
        RefusalReason::InvalidRequest,
    );
    let endless = v1::UpdateHeader {
        payload_bytes: u64::MAX,
        ..header(task, PAYLOAD)
    };
    // What its header condemns is decided without a byte: all of it counts as there, and none is taken.
    let condemned = mallory.begin_upload(endless).unwrap();
    assert_eq!(condemned.durable_bytes, u64::MAX);
    refused(
        mallory.send(&condemned.upload_id, chunk(0, Bytes::from_static(PAYLOAD))),
        RefusalReason::UploadUnknown,
    );
    refused(mallory.report_progress(0), RefusalReason::InvalidRequest);
    refused(
        mallory.download(&Digest::of(b"other")),
        RefusalReason::ModelUnknown,
    );
}
