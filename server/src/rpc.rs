//! The services of `fedmerge.v1`: decode, call, encode. No decision is taken here.
//!
//! [`access`] says who may call what, before a service sees the request.

pub mod access;
mod admin;
mod enrolment;
mod members;
mod round;
mod transfer;

use std::sync::Arc;

use fedmerge_common::clock::Clock;
use fedmerge_common::ids::FederationName;
use fedmerge_common::units::ByteSize;
use fedmerge_proto::v1::FILE_DESCRIPTOR_SET;
use fedmerge_proto::v1::admin_server::AdminServer;
use fedmerge_proto::v1::enrolment_server::EnrolmentServer;
use fedmerge_proto::v1::round_server::RoundServer;
use fedmerge_proto::v1::transfer_server::TransferServer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use crate::driver::Federation;
use crate::enrolment::authority::Authority;
use crate::enrolment::keeper::Newest;
use crate::listener::Connections;
use crate::plan::Selector;
use crate::refusals::Refusals;
use crate::settings::EnrolmentSettings;
use crate::store::ledger::Ledger;
use crate::traffic::Traffic;
use crate::uploads::Uploads;

pub(crate) use admin::status;
pub use members::LedgerMembers;

/// What the services work with.
#[derive(Debug)]
pub struct Desk {
    /// The federation's name.
    pub name: FederationName,
    /// The running federation.
    pub federation: Federation,
    /// The ledger.
    pub ledger: Ledger,
    /// Signs certificates.
    pub authority: Newest<Authority>,
    /// Takes updates in.
    pub uploads: Uploads,
    /// The server's clock.
    pub clock: Clock,
    /// Which clients the plan is for.
    pub selector: Selector,
    /// How clients are admitted.
    pub enrolment: EnrolmentSettings,
    /// Who is connected, to be cut off.
    pub connections: Connections,
    /// Most clients that may be enrolled.
    pub max_clients: usize,
    /// Downloads that run at the same time.
    pub max_downloads: usize,
    /// Largest message.
    pub message_bytes: ByteSize,
    /// How often callers were told no.
    pub refusals: Refusals,
    /// Where what is sent of models is counted.
    pub traffic: Traffic,
    /// Raised when the server is about to stop: streams end.
    pub stop: CancellationToken,
    /// Owns the tasks behind streams.
    pub tasks: TaskTracker,
}

impl Desk {
    fn authority(&self) -> Arc<Authority> {
        Arc::clone(&self.authority.borrow())
    }
}

/// All services, health and reflection with them.
///
/// # Panics
/// When the descriptors that were compiled in are damaged.
pub async fn routes(desk: Desk) -> Routes {
    let message_bytes = usize::try_from(desk.message_bytes.get()).unwrap_or(usize::MAX);
    let desk = Arc::new(desk);
    let round = RoundServer::new(round::Service(Arc::clone(&desk)));
    let transfer = TransferServer::new(transfer::Service::new(Arc::clone(&desk)));
    let enrolment = EnrolmentServer::new(enrolment::Service(Arc::clone(&desk)));
    let admin = AdminServer::new(admin::Service(desk));
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<RoundServer<round::Service>>().await;
    health
        .set_serving::<TransferServer<transfer::Service>>()
        .await;
    health
        .set_serving::<EnrolmentServer<enrolment::Service>>()
        .await;
    health.set_serving::<AdminServer<admin::Service>>().await;
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
    };
    let reflection = described()
        .build_v1()
        .expect("the descriptors were compiled with the program");
    // What grpcurl and most libraries asked for until lately.
    let older_reflection = described()
        .build_v1alpha()
        .expect("the descriptors were compiled with the program");
    Routes::new(round.max_decoding_message_size(message_bytes))
        .add_service(transfer.max_decoding_message_size(message_bytes))
        .add_service(enrolment.max_decoding_message_size(message_bytes))
        .add_service(admin.max_decoding_message_size(message_bytes))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(older_reflection)
}

#[cfg(test)]
mod tests;
