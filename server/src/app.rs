//! The server as a whole: build (everything opened and bound, nothing running), serve, drain.
//!
//! Whatever can be wrong with the directory is found while building, before a client can connect. Draining ends every stream,
//! waits a moment for the tasks behind them, and leaves the ledger closed; a kill instead of it loses nothing either.

mod build;
mod plan_change;

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::ids::FederationName;
use fedmerge_common::lock::DirectoryLock;
use fedmerge_common::output::Output;
use fedmerge_common::update::ModelRef;
use fedmerge_proto::limits::{MAX_FRAME_BYTES, UPLOAD_WINDOW_BYTES, UPLOADS_WINDOW_BYTES};
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::console;
use crate::directory::ServerDirectory;
use crate::driver::Driver;
use crate::enrolment::authority::ServerTls;
use crate::enrolment::keeper::{Keeper, Newest};
use crate::files;
use crate::listener::{ListenLimits, Listener, PeerStream};
use crate::refusals::Refusals;
use crate::rpc::LedgerMembers;
use crate::rpc::access::AccessLayer;
use crate::store::ledger::Ledger;

pub(crate) use build::restored;
pub use build::{Options, check};
pub use plan_change::PlanChange;

/// A silent client is asked for a sign of life this often, and given up after as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// A certificate is looked at when a connection begins: none is older than this. Its streams then have the grace to end.
const LONGEST_CONNECTION: Duration = Duration::from_secs(3600);
/// Streams that are cut after it begin again where they ended.
const CONNECTION_GRACE: Duration = Duration::from_secs(60);
/// How long the tasks behind streams may take to end.
const DRAIN: Duration = Duration::from_secs(5);

/// Where a server listens.
#[derive(Debug)]
struct Doors {
    clients: Listener,
    admins: Listener,
}

/// What may be asked of a server at once.
#[derive(Debug, Clone, Copy)]
struct CallLimits {
    /// Calls of a client in a second.
    per_second: u32,
    /// Calls that are under way on a connection.
    streams: u32,
    /// All headers of a call, bytes.
    header_bytes: u32,
}

/// Administrators have their own limits: a crowd at the other door does not lock them out.
const ADMIN_LIMITS: ListenLimits = ListenLimits {
    strangers: 64,
    connections: 64,
    of_client: 16,
    handshakes: 200,
};

impl Doors {
    /// Takes connections at both until `stop`.
    fn serve(
        self,
        tls: &Newest<ServerTls>,
        limits: ListenLimits,
        refusals: &Refusals,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> impl Stream<Item = io::Result<PeerStream>> + use<> {
        let serve = |door: Listener, limits| {
            let refusals = refusals.clone();
            door.serve(tls.clone(), limits, refusals, stop.clone(), tasks)
        };
        serve(self.clients, limits).merge(serve(self.admins, ADMIN_LIMITS))
    }
}

/// What a start has to tell of its plan.
#[derive(Debug, Default)]
struct News {
    change: Option<PlanChange>,
    /// Whether the plan has more rounds, and a federation that had ended goes on.
    reopened: bool,
}

/// A server that is ready to serve.
#[derive(Debug)]
pub struct App {
    _lock: DirectoryLock,
    directory: ServerDirectory,
    ledger: Ledger,
    doors: Doors,
    keeper: Keeper,
    limits: ListenLimits,
    members: LedgerMembers,
    calls: CallLimits,
    refusals: Refusals,
    routes: Routes,
    driver: Driver,
    federation: FederationName,
    base: ModelRef,
    output: Output,
    news: News,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl App {
    /// Serves until `interrupted`, or until the federation is over where that was asked for; then drains.
    ///
    /// # Errors
    /// When the ledger or the network fails for good.
    pub async fn serve(self, interrupted: impl Future<Output = ()>) -> Result<(), Failure> {
        let address = self.doors.clients.address().to_string();
        write_address(&self.directory.address(), &address)?;
        let admin_address = self.doors.admins.address().to_string();
        write_address(&self.directory.admin_address(), &admin_address)?;
        let incoming = self.doors.serve(
            &self.keeper.tls(),
            self.limits,
            &self.refusals,
            &self.stop,
            &self.tasks,
        );
        self.tasks.spawn(self.keeper.keep(self.stop.clone()));
        let serving = Server::builder()
            .initial_stream_window_size(UPLOAD_WINDOW_BYTES)
            .initial_connection_window_size(UPLOADS_WINDOW_BYTES)
            .max_frame_size(MAX_FRAME_BYTES)
            .max_concurrent_streams(self.calls.streams)
            .http2_max_header_list_size(self.calls.header_bytes)
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .max_connection_age(LONGEST_CONNECTION)
            .max_connection_age_grace(CONNECTION_GRACE)
            .layer(AccessLayer::new(
                self.federation.clone(),
                self.members,
                self.calls.per_second,
                self.refusals,
            ))
            .add_routes(self.routes)
            .serve_with_incoming_shutdown(incoming, self.stop.clone().cancelled_owned());
        let serving = tokio::spawn(until_stopped(serving, self.stop.clone()));
        // Before the driver, which tells what follows from it: a server may end with its federation at once.
        console::listening(&self.output, &address, &self.federation, &self.base);
        if let Some(change) = &self.news.change {
            console::plan_changed(&self.output, change);
        }
        if self.news.reopened {
            console::reopened(&self.output);
        }
        let driving = self.driver.run(self.stop.clone());
        let guard = self.stop.clone().drop_guard();
        let driving = tokio::spawn(async move {
            // However the driver ends, there is nothing to serve without it.
            let _stop = guard;
            driving.await
        });
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = interrupted => self.stop.cancel(),
        }
        self.tasks.close();
        let drained = tokio::time::timeout(DRAIN, async {
            self.tasks.wait().await;
            serving.await
        });
        let served = drained.await.unwrap_or_else(|_| {
            tracing::warn!("some streams did not end in time");
            Ok(Ok(()))
        });
        let driven = driving.await;
        self.ledger.close().await;
        // Without these files, `server status` says at once that nobody serves.
        let _missing = fs::remove_file(self.directory.address());
        let _missing = fs::remove_file(self.directory.admin_address());
        [driven, served].into_iter().try_for_each(|ended| {
            ended.unwrap_or_else(|error| {
                let failure = Failure::new(ExitCode::Bug, "a part of the server broke off");
                Err(failure.with_source(&error))
            })
        })
    }
}

/// Serves until `stop`; an end before that is a failure, and stops everything else.
async fn until_stopped(
    serving: impl Future<Output = Result<(), tonic::transport::Error>>,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let guard = stop.clone().drop_guard();
    let served = serving.await;
    if stop.is_cancelled() {
        return Ok(());
    }
    drop(guard);
    let failure = Failure::new(ExitCode::Bug, "the server stopped serving by itself");
    Err(match served {
        Ok(()) => failure,
        Err(error) => failure.with_source(&error),
    })
}

fn write_address(path: &Path, address: &str) -> Result<(), Failure> {
    files::write(path, format!("{address}\n").as_bytes()).map_err(|error| {
        let message = format!("`{}` cannot be written", path.display());
        Failure::new(ExitCode::Unavailable, message).with_source(&error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn serving_that_ends_by_itself_is_a_failure_and_stops_the_rest() {
        let stop = CancellationToken::new();
        let ended = until_stopped(std::future::ready(Ok(())), stop.clone()).await;
        assert_eq!(ended.map_err(|failure| failure.exit), Err(ExitCode::Bug));
        assert!(stop.is_cancelled());
        assert_eq!(
            until_stopped(std::future::ready(Ok(())), stop).await,
            Ok(())
        );
    }
}
