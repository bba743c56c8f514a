//! The server as a whole: build (everything opened and bound, nothing running), serve, drain.
//!
//! Whatever can be wrong with the directory is found while building, before a client can connect. Draining ends every stream,
//! waits a moment for the tasks behind them, and leaves the ledger closed; a kill instead of it loses nothing either.

mod build;

use std::fs;
use std::time::Duration;

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::lock::DirectoryLock;
use fedmerge_proto::limits::{CONNECTION_WINDOW_BYTES, MAX_FRAME_BYTES, STREAM_WINDOW_BYTES};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::directory::ServerDirectory;
use crate::driver::Driver;
use crate::files;
use crate::listener::{ListenLimits, Listener};
use crate::rpc::access::AccessLayer;
use crate::store::ledger::Ledger;

pub use build::{Options, check};

/// A silent client is asked for a sign of life this often, and given up after as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Most streams that one connection may have open.
const MAX_STREAMS: u32 = 32;
/// A certificate is looked at when a connection begins: none is older than this. Its streams then have the grace to end.
const LONGEST_CONNECTION: Duration = Duration::from_secs(3600);
/// Streams that are cut after it begin again where they ended.
const CONNECTION_GRACE: Duration = Duration::from_secs(60);
/// How long the tasks behind streams may take to end.
const DRAIN: Duration = Duration::from_secs(5);

/// A server that is ready to serve.
#[derive(Debug)]
pub struct App {
    _lock: DirectoryLock,
    directory: ServerDirectory,
    ledger: Ledger,
    listener: Listener,
    tls: rustls::ServerConfig,
    limits: ListenLimits,
    routes: Routes,
    driver: Driver,
    announce: build::Greeting,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl App {
    /// Serves until `interrupted`, or until the federation is over where that was asked for; then drains.
    ///
    /// # Errors
    /// When the ledger or the network fails for good.
    pub async fn serve(self, interrupted: impl Future<Output = ()>) -> Result<(), Failure> {
        let address = self.listener.address().to_string();
        write_address(&self.directory, &address)?;
        let incoming = self.listener.serve(
            std::sync::Arc::new(self.tls),
            self.limits,
            self.stop.clone(),
            &self.tasks,
        );
        let serving = Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(MAX_FRAME_BYTES)
            .max_concurrent_streams(MAX_STREAMS)
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .max_connection_age(LONGEST_CONNECTION)
            .max_connection_age_grace(CONNECTION_GRACE)
            .layer(AccessLayer::new(
                self.announce.name.clone(),
                self.ledger.clone(),
            ))
            .add_routes(self.routes)
            .serve_with_incoming_shutdown(incoming, self.stop.clone().cancelled_owned());
        let mut serving = tokio::spawn(serving);
        let mut driving = tokio::spawn(self.driver.run(self.stop.clone()));
        self.announce.listening(&address);
        let ended = tokio::select! {
            ended = &mut driving => Some(ended),
            served = &mut serving => {
                self.stop.cancel();
                tracing::error!(?served, "serving ended by itself");
                None
            }
            () = interrupted => None,
        };
        self.stop.cancel();
        self.tasks.close();
        let drained = tokio::time::timeout(DRAIN, async {
            self.tasks.wait().await;
            // What ended by itself was heard above.
            if !serving.is_finished() {
                let _served = serving.await;
            }
        });
        if drained.await.is_err() {
            tracing::warn!("some streams did not end in time");
        }
        let ended = match ended {
            Some(ended) => ended,
            None => driving.await,
        };
        self.ledger.close().await;
        // Without this file, `server status` says at once that nobody serves.
        let _missing = fs::remove_file(self.directory.address());
        ended.unwrap_or_else(|error| {
            let failure = Failure::new(ExitCode::Bug, "the driver broke off");
            Err(failure.with_source(&error))
        })
    }
}

fn write_address(directory: &ServerDirectory, address: &str) -> Result<(), Failure> {
    let path = directory.address();
    files::write(&path, format!("{address}\n").as_bytes()).map_err(|error| {
        let message = format!("`{}` cannot be written", path.display());
        Failure::new(ExitCode::Unavailable, message).with_source(&error)
    })
}
