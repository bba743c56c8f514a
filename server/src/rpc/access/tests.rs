//! The table against the wire's own description, every verdict, and the whole way from a socket to a service.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use fedmerge_common::clock::Clock;
use fedmerge_common::identity::{Identity, PeerCertificate};
use fedmerge_common::ids::FederationName;
use fedmerge_common::units::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Code;
use tonic::transport::Server;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::enrolment::authority::testbed::Federation;
use crate::listener::{ListenLimits, Listener, Peer};
use crate::testbed::channel_through;

const PROTOCOL: [&str; 4] = [
    include_str!("../../../../proto/fedmerge/v1/admin.proto"),
    include_str!("../../../../proto/fedmerge/v1/enrolment.proto"),
    include_str!("../../../../proto/fedmerge/v1/round.proto"),
    include_str!("../../../../proto/fedmerge/v1/transfer.proto"),
];

/// The paths of all rpcs that a `.proto` file describes.
fn paths_of(proto: &str) -> Vec<String> {
    let mut service = "";
    let mut paths = Vec::new();
    for line in proto.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("service ") {
            service = rest.split_whitespace().next().unwrap();
        } else if let Some(rest) = line.strip_prefix("rpc ") {
            let rpc = rest.split('(').next().unwrap().trim();
            paths.push(format!("/fedmerge.v1.{service}/{rpc}"));
        }
    }
    paths
}

#[test]
fn every_rpc_is_in_the_table_once_and_the_table_names_no_other() {
    let described: BTreeSet<String> = PROTOCOL.iter().flat_map(|text| paths_of(text)).collect();
    let listed: Vec<&str> = TABLE.iter().map(|(path, _)| *path).collect();
    let ours: BTreeSet<String> = listed
        .iter()
        .filter(|path| path.starts_with("/fedmerge."))
        .map(|path| (*path).to_owned())
        .collect();
    assert!(described.len() >= 14);
    assert_eq!(ours, described);
    assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len());
}

#[test]
fn enrolment_alone_is_open_to_everybody() {
    let open: Vec<_> = TABLE
        .iter()
        .filter(|(_, access)| *access == Access::Anyone)
        .collect();
    assert_eq!(open, [&("/fedmerge.v1.Enrolment/Enrol", Access::Anyone)]);
}

/// A ledger that knows some clients, or none because it is broken.
#[derive(Clone)]
struct Known(Result<Arc<BTreeMap<ClientId, [u8; 32]>>, String>);

impl Members for Known {
    async fn key_of(&self, client: &ClientId) -> Result<Option<[u8; 32]>, String> {
        let clients = self.0.as_ref().map_err(Clone::clone)?;
        Ok(clients.get(client).copied())
    }
}

fn known(key: [u8; 32]) -> Known {
    Known(Ok(Arc::new(BTreeMap::from([(ward(), key)]))))
}

fn ward() -> ClientId {
    "ward-3".parse().unwrap()
}

fn federation() -> FederationName {
    "digits".parse().unwrap()
}

fn shown(federation: &str, identity: Identity, key: [u8; 32]) -> Option<Arc<PeerCertificate>> {
    Some(Arc::new(PeerCertificate {
        federation: federation.parse().unwrap(),
        identity,
        not_before: Timestamp::new(0),
        not_after: Timestamp::new(1),
        serial: "01".to_owned(),
        public_key_sha256: key,
    }))
}

/// Calls a path through the layer: whom the service saw, or the refusal.
async fn call(
    members: Known,
    path: &str,
    certificate: Option<Arc<PeerCertificate>>,
) -> Result<Caller, RefusalReason> {
    let service = service_fn(|request: http::Request<()>| async move {
        let mut response = http::Response::new(());
        let caller = request.extensions().get::<Caller>().unwrap().clone();
        response.extensions_mut().insert(caller);
        Ok::<_, Infallible>(response)
    });
    let mut request = http::Request::new(());
    *request.uri_mut() = path.parse().unwrap();
    request.extensions_mut().insert(Peer {
        address: "127.0.0.1:1".parse().unwrap(),
        certificate,
    });
    let service = AccessLayer::new(federation(), members).layer(service);
    let response = service.oneshot(request).await.unwrap();
    if let Some(caller) = response.extensions().get::<Caller>() {
        return Ok(caller.clone());
    }
    let status = Status::from_header_map(response.headers()).unwrap();
    Err(Refusal::from_status(&status).unwrap().reason)
}

const KEY: [u8; 32] = [7; 32];

#[tokio::test]
async fn each_rpc_lets_through_whom_the_table_names_and_nobody_else() {
    let admin_name: AdminName = "admin".parse().unwrap();
    let client = || shown("digits", Identity::Client(ward()), KEY);
    let admin = || shown("digits", Identity::Admin(admin_name.clone()), KEY);
    for (path, access) in TABLE {
        let refused = Err(RefusalReason::NotPermitted);
        let is_client = Ok(Caller::Client(ward()));
        let is_admin = Ok(Caller::Admin(admin_name.clone()));
        let nobody = Ok(Caller::Anonymous);
        let no_certificate = Err(RefusalReason::NotAuthenticated);
        let (as_nobody, as_client, as_admin, as_server) = match access {
            Access::Anyone => (nobody.clone(), nobody.clone(), nobody.clone(), nobody),
            Access::Client => (no_certificate, is_client, refused.clone(), refused),
            Access::Admin => (no_certificate, refused.clone(), is_admin, refused),
            Access::Member => (no_certificate, is_client, is_admin, refused),
        };
        let server = shown("digits", Identity::Server, KEY);
        assert_eq!(call(known(KEY), path, None).await, as_nobody, "{path}");
        assert_eq!(call(known(KEY), path, client()).await, as_client, "{path}");
        assert_eq!(call(known(KEY), path, admin()).await, as_admin, "{path}");
        assert_eq!(call(known(KEY), path, server).await, as_server, "{path}");
    }
}

#[tokio::test]
async fn what_is_not_in_the_table_may_be_called_by_nobody() {
    let admin = || shown("digits", Identity::Admin("admin".parse().unwrap()), KEY);
    for path in [
        "/",
        "/fedmerge.v1.Admin/Shutdown",
        "/fedmerge.v1.Admin/GetStatus/",
        "/fedmerge.v1.Enrolment/enrol",
        "/fedmerge.v2.Enrolment/Enrol",
    ] {
        for certificate in [None, admin()] {
            let verdict = call(known(KEY), path, certificate).await;
            assert_eq!(verdict, Err(RefusalReason::NotPermitted), "{path}");
        }
    }
}

const HELLO: &str = "/fedmerge.v1.Round/Hello";

#[tokio::test]
async fn a_certificate_of_another_federation_permits_nothing() {
    for identity in [
        Identity::Client(ward()),
        Identity::Admin("admin".parse().unwrap()),
    ] {
        let foreign = shown("letters", identity, KEY);
        let verdict = call(known(KEY), HELLO, foreign).await;
        assert_eq!(verdict, Err(RefusalReason::NotPermitted));
    }
}

#[tokio::test]
async fn a_client_counts_only_while_it_is_enrolled_under_its_key() {
    let client = |name: &str, key| shown("digits", Identity::Client(name.parse().unwrap()), key);
    for (certificate, verdict) in [
        (client("ward-3", KEY), Ok(Caller::Client(ward()))),
        (client("ward-3", [8; 32]), Err(RefusalReason::ClientUnknown)),
        (client("ward-4", KEY), Err(RefusalReason::ClientUnknown)),
    ] {
        assert_eq!(call(known(KEY), HELLO, certificate).await, verdict);
    }
}

#[tokio::test]
async fn a_broken_ledger_lets_no_client_through() {
    let broken = || Known(Err("disk I/O error".to_owned()));
    let client = shown("digits", Identity::Client(ward()), KEY);
    let verdict = call(broken(), HELLO, client).await;
    assert_eq!(verdict, Err(RefusalReason::Internal));
}

#[test]
fn a_service_learns_its_caller_from_the_request() {
    let mut request = Request::new(());
    assert_eq!(caller(&request).unwrap_err().code(), Code::Internal);
    for (found, expected) in [
        (Caller::Client(ward()), Ok(ward())),
        (
            Caller::Admin("admin".parse().unwrap()),
            Err(Code::PermissionDenied),
        ),
        (Caller::Anonymous, Err(Code::PermissionDenied)),
    ] {
        request.extensions_mut().insert(found.clone());
        assert_eq!(caller(&request).unwrap(), &found);
        assert_eq!(client(&request).map_err(|status| status.code()), expected);
    }
}

#[tokio::test]
async fn over_the_real_wire_a_client_is_served_and_others_are_told_why_not() {
    let ours = Federation::new();
    let enrolled = ours.enrol(&ward());
    let evicted = ours.enrol(&"ward-4".parse().unwrap());
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.address();
    let limits = ListenLimits {
        handshakes: 4,
        connections: 16,
    };
    let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
    let streams = listener.serve(ours.server_tls(), limits, stop.clone(), &tracker);
    let (_, health) = tonic_health::server::health_reporter();
    let serving = Server::builder()
        .layer(AccessLayer::new(federation(), known(enrolled.key_sha256)))
        .add_service(health)
        .serve_with_incoming(streams);
    let serving = tokio::spawn(serving);

    let nobody = ours.pinned_tls(Clock::with_offset(0));
    for (tls, verdict) in [
        (enrolled.tls, Ok(())),
        (ours.admin_tls(), Ok(())),
        (evicted.tls, Err(RefusalReason::ClientUnknown)),
        (nobody, Err(RefusalReason::NotAuthenticated)),
    ] {
        let mut health = HealthClient::new(channel_through(tls, address).await);
        let answer = health.check(HealthCheckRequest::default()).await;
        let answer = answer.map(|_| ());
        let answer = answer.map_err(|status| Refusal::from_status(&status).unwrap().reason);
        assert_eq!(answer, verdict);
    }
    stop.cancel();
    serving.await.unwrap().unwrap();
}
