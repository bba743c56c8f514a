//! The table against the wire's own description, every verdict, and the whole way from a socket to a service.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use fedmerge_common::clock::Clock;
use fedmerge_common::identity::{Identity, Issuer, PeerCertificate};
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
use crate::listener::{Door, ListenLimits, Listener, Peer};
use crate::refusals::Refusals;
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
        .map(|(path, _)| *path)
        .collect();
    let enrolment = ["Enrol", "Renew"].map(|rpc| format!("/fedmerge.v1.Enrolment/{rpc}"));
    assert_eq!(open, enrolment);
}

/// A ledger that knows some clients.
#[derive(Clone)]
struct Known(Arc<BTreeMap<ClientId, [u8; 32]>>);

impl Members for Known {
    async fn recognise(
        &self,
        client: &ClientId,
        certificate: &PeerCertificate,
        _peer: &Peer,
    ) -> Result<(), Refusal> {
        if self.0.get(client) == Some(&certificate.public_key_sha256) {
            return Ok(());
        }
        Err(Refusal::new(RefusalReason::ClientUnknown, "not this one"))
    }
}

fn known(key: [u8; 32]) -> Known {
    Known(Arc::new(BTreeMap::from([(ward(), key)])))
}

fn ward() -> ClientId {
    "ward-3".parse().unwrap()
}

fn federation() -> FederationName {
    "digits".parse().unwrap()
}

fn shown(federation: &str, identity: Identity, key: [u8; 32]) -> Option<Arc<PeerCertificate>> {
    Some(Arc::new(PeerCertificate {
        issuer: Issuer::Federation,
        federation: federation.parse().unwrap(),
        identity,
        labels: BTreeMap::new(),
        not_before: Timestamp::new(0),
        not_after: Timestamp::new(1),
        serial: "01".to_owned(),
        public_key_sha256: key,
    }))
}

/// The door at which an rpc is answered.
fn door_of(path: &str) -> Door {
    match access_of(path) {
        Some(Access::Admin | Access::Observer) => Door::Admins,
        Some(Access::Anyone | Access::Client | Access::Member) | None => Door::Clients,
    }
}

/// Calls a path through the layer at its door: whom the service saw, or the refusal.
async fn call(
    members: Known,
    path: &str,
    certificate: Option<Arc<PeerCertificate>>,
) -> Result<Caller, RefusalReason> {
    call_at(door_of(path), members, path, certificate).await
}

async fn call_at(
    door: Door,
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
        unnamed: None,
        since: Timestamp::new(0),
        door,
    });
    let service = AccessLayer::new(federation(), members, 100, Refusals::default()).layer(service);
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
    let observer = || shown("digits", Identity::Observer(admin_name.clone()), KEY);
    for (path, access) in TABLE {
        let refused = Err(RefusalReason::NotPermitted);
        let is_client = Ok(Caller::Client(ward()));
        let is_admin = Ok(Caller::Admin(admin_name.clone()));
        let is_observer = Ok(Caller::Observer(admin_name.clone()));
        let nobody = Ok(Caller::Anonymous);
        let no_certificate = Err(RefusalReason::NotAuthenticated);
        let refused = || refused.clone();
        let [as_nobody, as_client, as_admin, as_observer, as_server] = match access {
            Access::Anyone => std::array::from_fn(|_| nobody.clone()),
            Access::Client => [no_certificate, is_client, refused(), refused(), refused()],
            Access::Admin => [no_certificate, refused(), is_admin, refused(), refused()],
            Access::Observer => [no_certificate, refused(), is_admin, is_observer, refused()],
            Access::Member => [no_certificate, is_client, is_admin, is_observer, refused()],
        };
        let server = shown("digits", Identity::Server, KEY);
        for (certificate, verdict) in [
            (None, as_nobody),
            (client(), as_client),
            (admin(), as_admin),
            (observer(), as_observer),
            (server, as_server),
        ] {
            assert_eq!(call(known(KEY), path, certificate).await, verdict, "{path}");
        }
    }
}

#[tokio::test]
async fn what_is_answered_at_one_door_is_not_answered_at_the_other() {
    let client = || shown("digits", Identity::Client(ward()), KEY);
    let admin = || shown("digits", Identity::Admin("admin".parse().unwrap()), KEY);
    for (path, access) in TABLE {
        for (door, certificate) in [
            (Door::Admins, None),
            (Door::Admins, client()),
            (Door::Clients, admin()),
        ] {
            let verdict = call_at(door, known(KEY), path, certificate.clone()).await;
            let is_open = access.is_open_at(door);
            let expected = match (access, certificate) {
                (Access::Member, None) => Err(RefusalReason::NotAuthenticated),
                (Access::Member, Some(_)) if door == Door::Clients => {
                    Ok(Caller::Admin("admin".parse().unwrap()))
                }
                (Access::Anyone, Some(_)) if is_open => Ok(Caller::Anonymous),
                (Access::Admin | Access::Observer, None) if is_open => {
                    Err(RefusalReason::NotAuthenticated)
                }
                _ => Err(RefusalReason::NotPermitted),
            };
            assert_eq!(verdict, expected, "{path} {door:?}");
        }
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
    let listener = Listener::bind("127.0.0.1:0", Door::Clients).await.unwrap();
    let address = listener.address();
    let limits = ListenLimits {
        strangers: 4,
        connections: 16,
        of_client: 16,
        handshakes: 1_000,
    };
    let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
    let streams = listener.serve(
        ours.server_tls(),
        limits,
        Refusals::default(),
        stop.clone(),
        &tracker,
    );
    let (_, health) = tonic_health::server::health_reporter();
    let serving = Server::builder()
        .layer(AccessLayer::new(
            federation(),
            known(enrolled.key_sha256),
            100,
            Refusals::default(),
        ))
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
