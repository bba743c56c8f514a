//! Tensors that no round changes: they travel once.

use fedmerge_common::digest::Digest;
use fedmerge_proto::status::RefusalReason;

use crate::harness::federation::Federation;
use crate::harness::plan::Plan;
use crate::harness::raw_client::RawClient;
use crate::harness::trainer::Trainer;
use crate::harness::values::Values;

/// Many frozen values.
const FROZEN: usize = 100_000;

#[test]
fn tensors_that_are_frozen_do_not_travel_twice() {
    let plan = Plan {
        rounds: 3,
        merge: "method = \"mean\"\nfreeze = [\"b\"]",
        ..Plan::of(2)
    };
    let base = Values {
        b: vec![0.5; FROZEN],
        ..Values::base()
    };
    let mut federation = Federation::from_base(&plan, |path| base.write(path));
    federation.start_server();
    federation.enrol(&["a", "b", "c"]);
    for round in 1..=3_u8 {
        let path = federation.path(&format!("tuned-{round}.safetensors"));
        let w = base.plus(f32::from(round)).w;
        Values { w, ..base.clone() }.write(&path);
    }
    // A base that was put together wrongly would have another digest, and the round no update.
    let trainer = Trainer::shell("cp tuned-$FEDMERGE_ROUND.safetensors \"$FEDMERGE_OUT\"");
    for name in ["a", "b"] {
        federation.start_client(name, &trainer);
    }
    for _ in 1..=2 {
        let closed = federation.next_round();
        closed.published();
        let sent = closed.clients.iter().map(|client| client.bytes).max();
        assert!(sent > Some(0) && sent < Some(1000), "{closed:?}");
    }
    let digest = |version| Digest::of_file(&federation.model(version)).unwrap();
    let (before, after) = (digest(0), digest(2));
    let other = RawClient::with_certificate_of(&federation, "c");
    let changed = other.changed_bytes(&before, &after).unwrap();
    let whole = federation.model(2).metadata().unwrap().len();
    let frozen = 4 * FROZEN as u64;
    assert!(
        changed < 1000 && whole > frozen,
        "{changed} of {whole} bytes"
    );
    let unknown = other.changed_bytes(&Digest::of(b"none"), &after);
    assert_eq!(unknown.unwrap_err().reason, RefusalReason::ModelUnknown);
    assert_eq!(federation.next_round().accepted, 2);
    for name in ["a", "b"] {
        federation.client_end(name).well();
    }
    let last = Values::read(&federation.model(3));
    assert_eq!((last.w, last.b), (base.plus(3.0).w, base.b));
}
