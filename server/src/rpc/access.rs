//! Who may call what: one table, enforced before any service sees a request.
//!
//! What is not in the table may be called by nobody. A client counts only while the ledger knows it under the
//! key that it shows, so that an evicted client is refused at its next call, on a connection however old.

mod layer;

use fedmerge_common::ids::{AdminName, ClientId};
use fedmerge_proto::status::{Refusal, RefusalReason};
use tonic::{Request, Status};

use crate::listener::Door;

pub use layer::{AccessLayer, AccessService, Members};

/// Who may call an rpc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody, with a certificate or without; the caller is not asked who it is.
    Anyone,
    /// Enrolled clients.
    Client,
    /// Administrators.
    Admin,
    /// Administrators and observers.
    Observer,
    /// Everybody with a certificate: enrolled clients, administrators and observers.
    Member,
}

impl Access {
    /// Whether such rpcs are answered at a door.
    #[must_use]
    pub fn is_open_at(self, door: Door) -> bool {
        match self {
            Self::Anyone | Self::Client => door == Door::Clients,
            Self::Admin | Self::Observer => door == Door::Admins,
            Self::Member => true,
        }
    }
}

/// Every rpc and who may call it.
pub const TABLE: &[(&str, Access)] = &[
    ("/fedmerge.v1.Enrolment/Enrol", Access::Anyone),
    ("/fedmerge.v1.Enrolment/Renew", Access::Anyone),
    ("/fedmerge.v1.Round/Hello", Access::Member),
    ("/fedmerge.v1.Round/Attend", Access::Client),
    ("/fedmerge.v1.Round/ReportProgress", Access::Client),
    ("/fedmerge.v1.Round/Decline", Access::Client),
    ("/fedmerge.v1.Round/ReportEvaluation", Access::Client),
    ("/fedmerge.v1.Transfer/CompareModels", Access::Member),
    ("/fedmerge.v1.Transfer/DownloadModel", Access::Member),
    ("/fedmerge.v1.Transfer/BeginUpload", Access::Client),
    ("/fedmerge.v1.Transfer/UploadChunks", Access::Client),
    ("/fedmerge.v1.Transfer/CommitUpload", Access::Client),
    ("/fedmerge.v1.Admin/GetStatus", Access::Observer),
    ("/fedmerge.v1.Admin/WatchStatus", Access::Observer),
    ("/fedmerge.v1.Admin/CreateToken", Access::Admin),
    ("/fedmerge.v1.Admin/ListClients", Access::Observer),
    ("/fedmerge.v1.Admin/ApproveClient", Access::Admin),
    ("/fedmerge.v1.Admin/EvictClient", Access::Admin),
    ("/fedmerge.v1.Admin/ListRounds", Access::Observer),
    ("/fedmerge.v1.Admin/RollBackModel", Access::Admin),
    ("/grpc.health.v1.Health/Check", Access::Member),
    ("/grpc.health.v1.Health/Watch", Access::Member),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Access::Member,
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        Access::Member,
    ),
];

/// Who calls, as far as it was asked. It stands in the extensions of every request that a service sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Somebody, at an rpc that is open to everybody.
    Anonymous,
    /// An enrolled client.
    Client(ClientId),
    /// An administrator.
    Admin(AdminName),
    /// Somebody who may look on.
    Observer(AdminName),
}

/// Who may call the rpc at a path; nothing when there is no such rpc.
fn access_of(path: &str) -> Option<Access> {
    let (_, access) = TABLE.iter().find(|(known, _)| *known == path)?;
    Some(*access)
}

/// Who sent a request.
///
/// # Errors
/// When the request did not come through an [`AccessLayer`], which is a defect of the server.
pub fn caller<T>(request: &Request<T>) -> Result<&Caller, Status> {
    request.extensions().get().ok_or_else(|| {
        Refusal::new(
            RefusalReason::Internal,
            "the server does not know who calls",
        )
        .into()
    })
}

/// The client that sent a request.
///
/// # Errors
/// When somebody else sent it.
pub fn client<T>(request: &Request<T>) -> Result<ClientId, Status> {
    match caller(request)? {
        Caller::Client(client) => Ok(client.clone()),
        Caller::Anonymous | Caller::Admin(_) | Caller::Observer(_) => {
            Err(Refusal::new(RefusalReason::NotPermitted, "only clients may call this").into())
        }
    }
}

#[cfg(test)]
mod tests;
