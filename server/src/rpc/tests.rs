//! All services on a loopback port, as an administrator and as a client find them.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use fedmerge_proto::v1;
use fedmerge_proto::v1::round_client::RoundClient;
use fedmerge_proto::v1::transfer_client::TransferClient;
use tokio::sync::watch;
use tonic::transport::{Channel, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::access::AccessLayer;
use super::*;
use crate::driver::Stay;
use crate::enrolment::authority::testbed::Federation as Identities;
use crate::listener::{Door, ListenLimits, Listener};
use crate::testbed::{Bed, channel_through, plan};
use crate::traffic::Traffic;

/// A server of a federation, and who may speak with it.
struct Served {
    identities: Identities,
    bed: Bed,
    address: std::net::SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Served {
    async fn start() -> Self {
        let (identities, bed) = (Identities::new(), Bed::new());
        let running = bed.start(plan(2, 1), Stay::Always).await;
        let (stop, tasks) = (running.stop.clone(), TaskTracker::new());
        let listener = Listener::bind("127.0.0.1:0", Door::Admins).await.unwrap();
        let address = listener.address();
        let limits = ListenLimits {
            strangers: 4,
            connections: 16,
            of_client: 16,
            handshakes: 1_000,
        };
        let connections = listener.connections();
        let now = Clock::with_offset(0).now();
        let authority = Authority::load(&identities.directory, now).unwrap();
        let streams = listener.serve(
            identities.server_tls(),
            limits,
            Refusals::default(),
            stop.clone(),
            &tasks,
        );
        let ledger = running.ledger;
        let members = LedgerMembers {
            ledger: ledger.clone(),
            clock: Clock::with_offset(0),
            max_clients: 10,
            needs_approval: false,
        };
        let layer = AccessLayer::new("digits".parse().unwrap(), members, 100, Refusals::default());
        let desk = Desk {
            name: "digits".parse().unwrap(),
            federation: running.federation,
            ledger,
            authority: watch::channel(Arc::new(authority)).1,
            uploads: running.uploads,
            clock: Clock::with_offset(0),
            selector: Selector::default(),
            enrolment: EnrolmentSettings::default(),
            connections,
            max_clients: 8,
            max_downloads: 4,
            message_bytes: ByteSize::from_mebibytes(8),
            refusals: Refusals::default(),
            traffic: Traffic::default(),
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        let server = Server::builder()
            .layer(layer)
            .add_routes(routes(desk).await);
        tokio::spawn(server.serve_with_incoming_shutdown(streams, stop.clone().cancelled_owned()));
        Self {
            identities,
            bed,
            address,
            stop,
            tasks,
        }
    }

    async fn as_admin(&self) -> Channel {
        channel_through(self.identities.admin_tls(), self.address).await
    }
}

#[tokio::test]
async fn reflection_lists_each_service_and_health_says_that_it_serves() {
    let served = Served::start().await;
    let channel = served.as_admin().await;
    let question = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let answers = reflection
        .server_reflection_info(tokio_stream::once(question))
        .await;
    let answer = answers.unwrap().into_inner().message().await.unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.unwrap().message_response else {
        panic!("no list of services");
    };
    let names: Vec<String> = list.service.into_iter().map(|one| one.name).collect();
    let mut health = HealthClient::new(channel);
    for service in ["Admin", "Enrolment", "Round", "Transfer"] {
        let service = format!("fedmerge.v1.{service}");
        assert!(names.contains(&service), "{service} is not in {names:?}");
        let answer = health.check(HealthCheckRequest { service }).await;
        let status = answer.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving);
    }
}

#[tokio::test]
async fn a_model_comes_in_chunks_from_any_offset_and_none_past_its_end() {
    let served = Served::start().await;
    let base = served.bed.base;
    let path = served.bed.directory.model(base.version);
    let bytes = std::fs::read(path.join(crate::files::MODEL)).unwrap();
    // The ledger of a server holds its base.
    let ledger = Ledger::open(&served.bed.directory.ledger()).await.unwrap();
    let stored = crate::store::ledger::StoredModel {
        model: base,
        parent: None,
        round: None,
        published: fedmerge_common::units::Timestamp::new(0),
        rollback: None,
        score: None,
        removed: None,
    };
    ledger.publish(&stored).await.unwrap();
    let mut transfer = TransferClient::new(served.as_admin().await);
    for (offset, length) in [(0, 0), (7, 0), (7, 5), (bytes.len(), 0), (7, bytes.len())] {
        let request = v1::DownloadModelRequest {
            digest: Some(base.digest.into()),
            offset: offset as u64,
            length: length as u64,
            ..Default::default()
        };
        let mut chunks = transfer.download_model(request).await.unwrap().into_inner();
        let mut whole = Vec::new();
        while let Some(message) = chunks.message().await.unwrap() {
            whole.extend_from_slice(&message.chunk.unwrap().data);
        }
        let end = match length {
            0 => bytes.len(),
            length => bytes.len().min(offset + length),
        };
        assert_eq!(whole, bytes[offset..end]);
    }
    let request = v1::DownloadModelRequest {
        digest: Some(base.digest.into()),
        offset: bytes.len() as u64 + 1,
        ..Default::default()
    };
    assert!(transfer.download_model(request).await.is_err());
}

#[tokio::test]
async fn at_stop_the_streams_end_and_no_task_is_left() {
    let served = Served::start().await;
    let channel = served.as_admin().await;
    let hello = RoundClient::new(channel.clone())
        .hello(v1::HelloRequest::default())
        .await;
    assert_eq!(hello.unwrap().into_inner().federation, "digits");
    let mut admin = v1::admin_client::AdminClient::new(channel);
    let watching = admin.watch_status(v1::WatchStatusRequest {}).await;
    let mut statuses = watching.unwrap().into_inner();
    assert!(statuses.message().await.unwrap().is_some());
    served.stop.cancel();
    while let Ok(Some(_)) = statuses.message().await {}
    served.tasks.close();
    served.tasks.wait().await;
}
