//! A bad network between clients and server: connections are cut, fall silent, trickle, and are refused, and nothing comes of it.

use bytes::Bytes;
use fedmerge_proto::convert::transfer::chunk;
use fedmerge_proto::status::RefusalReason;

use crate::harness::federation::Federation;
use crate::harness::machine::wait_until;
use crate::harness::plan::Plan;
use crate::harness::random::arbitrary;
use crate::harness::raw_client::{RawClient, header};
use crate::harness::values::Values;
use crate::stories::drama::{CLIENTS, Drama, ROUNDS};

/// Bad networks in a usual run of the tests.
const USUAL_NETWORKS: u64 = 1;

/// A model of more than one chunk of a transfer, so that a cut also comes between two.
fn model(seed: u64) -> Values {
    Values {
        w: arbitrary(seed, 100_000),
        b: vec![0.5; 2],
    }
}

/// How many bad networks there are: `FEDMERGE_TEST_NETWORKS`, for a long search.
fn networks() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test has no settings but these"
    )]
    let wanted = std::env::var("FEDMERGE_TEST_NETWORKS");
    wanted.map_or(USUAL_NETWORKS, |number| number.parse().unwrap())
}

/// The digest of the last model; every client trains once a round, hears once a round that its update counts, and leaves well.
fn last_model(seed: Option<u64>) -> String {
    let mut drama = Drama::of(model(0), |command| command);
    for round in 1..=ROUNDS {
        for ((name, ..), seed) in CLIENTS.into_iter().zip(1..) {
            let tuned = model(u64::from(round) << 8 | seed);
            tuned.write(&drama.federation.path(&format!("{name}.{round}.tuned")));
        }
    }
    if let Some(seed) = seed {
        drama.federation.worsen_network(seed);
    }
    drama.enrol();
    drama.start_clients();
    let digest = drama.end();
    for (name, ..) in CLIENTS {
        drama.client_leaves(name);
    }
    drama.nothing_was_done_twice();
    if seed.is_some() {
        drama.federation.network().expect_trouble();
    }
    digest
}

#[test]
fn a_bad_network_loses_no_client_and_changes_no_byte() {
    let undisturbed = last_model(None);
    for seed in 0..networks() {
        assert_eq!(last_model(Some(seed)), undisturbed, "network {seed}");
    }
}

/// Found by bad networks: the upload stood still until the server's keep-alive had noticed what its client knew.
#[test]
fn an_upload_goes_on_over_a_new_connection_while_the_server_still_believes_in_the_old_one() {
    const PAYLOAD: &[u8] = &[b'x'; 4096];
    let (first, rest) = PAYLOAD.split_at(1000);
    let mut federation = Federation::new(&Plan::of(1));
    federation.start_server();
    federation.enrol(&["a"]);
    let mut before = RawClient::with_certificate_of(&federation, "a");
    let task = before.attend();
    let begun = before.begin_upload(header(&task, PAYLOAD)).unwrap();
    let upload = begun.upload_id;
    let silent = before.hold(&upload, chunk(0, Bytes::from_static(first)));
    assert!(silent.is_ok());

    let after = RawClient::with_certificate_of(&federation, "a");
    let send = || after.send(&upload, chunk(1000, Bytes::from_static(rest)));
    assert_eq!(send().unwrap_err().reason, RefusalReason::Busy);
    wait_until("the old stream's end", || send().is_ok());
    let begun = after.begin_upload(header(&task, PAYLOAD)).unwrap();
    assert_eq!(begun.durable_bytes, 4096);
}
