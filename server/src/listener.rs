//! The one port: accepts connections, shakes hands, and hands finished streams to the gRPC server.
//!
//! Nobody stalls anybody: each handshake is a task of its own with a time limit, and handshakes and open
//! connections are counted. Whoever comes through has spoken TLS 1.3 and either shown no certificate or one of
//! the authority's; what they may call is `rpc::access`'s to decide.

mod handshake;
mod peer;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fedmerge_common::failure::{ExitCode, Failure, explain};
use fedmerge_common::tls::failure_of;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use handshake::shake_hands;
pub use peer::{Peer, PeerStream};

/// Pause after the system refused to accept, as it does when a process has too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Time after which it is said again that a limit is reached: a crowd that connects reaches it many times in a second.
const REMINDER: Duration = Duration::from_secs(60);
/// Finished streams that wait for the gRPC server.
const WAITING_STREAMS: usize = 16;

/// Why a server does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The text is no address, or names no machine.
    #[error("`{address}` is not an address of the form HOST:PORT")]
    Address {
        /// What was there.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process listens there.
    #[error("cannot listen on {address}")]
    InUse {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The address is not this machine's, or the system does not allow it.
    #[error("cannot listen on {address}")]
    Refused {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<ListenError> for Failure {
    fn from(error: ListenError) -> Self {
        match &error {
            ListenError::Address { .. } => Self::from_error(ExitCode::BadConfiguration, &error)
                .with_hint("name one like 0.0.0.0:7443 with --listen HOST:PORT"),
            ListenError::InUse { .. } => Self::from_error(ExitCode::Unavailable, &error)
                .with_hint("another process uses the port: choose one with --listen HOST:PORT"),
            ListenError::Refused { .. } => Self::from_error(ExitCode::Unavailable, &error)
                .with_hint("choose an address of this machine and a port over 1023 with --listen HOST:PORT"),
        }
    }
}

/// How much a listener takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenLimits {
    /// Handshakes at the same time.
    pub handshakes: usize,
    /// Connections open at the same time, handshakes included.
    pub connections: usize,
}

/// A bound port.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds `HOST:PORT`; port 0 takes a free one.
    ///
    /// # Errors
    /// When it is no address, or the system does not let this process listen there.
    pub async fn bind(address: &str) -> Result<Self, ListenError> {
        let no_address = |source| ListenError::Address {
            address: address.to_owned(),
            source,
        };
        let found: Vec<SocketAddr> = lookup_host(address).await.map_err(no_address)?.collect();
        let bound = TcpListener::bind(&found[..]).await;
        let bound = bound.and_then(|socket| Ok((socket.local_addr()?, socket)));
        match bound {
            Ok((address, socket)) => Ok(Self { socket, address }),
            Err(source) if source.kind() == io::ErrorKind::AddrInUse => Err(ListenError::InUse {
                address: address.to_owned(),
                source,
            }),
            Err(source) => Err(ListenError::Refused {
                address: address.to_owned(),
                source,
            }),
        }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `stop`, in tasks of `tracker`. The stream ends after `stop`.
    pub fn serve(
        self,
        tls: Arc<ServerConfig>,
        limits: ListenLimits,
        stop: CancellationToken,
        tracker: &TaskTracker,
    ) -> ReceiverStream<io::Result<PeerStream>> {
        let (streams, incoming) = mpsc::channel(WAITING_STREAMS);
        let accepting = Accepting {
            socket: self.socket,
            handshakes: Gate::new("handshakes", limits.handshakes),
            connections: Gate::new("connections", limits.connections),
            acceptor: TlsAcceptor::from(tls),
            streams: streams.clone(),
            stop: stop.clone(),
            tracker: tracker.clone(),
        };
        tracker.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = streams.closed() => {}
                () = accepting.run() => {}
            }
        });
        ReceiverStream::new(incoming)
    }
}

/// The accept loop.
struct Accepting {
    socket: TcpListener,
    handshakes: Gate,
    connections: Gate,
    acceptor: TlsAcceptor,
    streams: mpsc::Sender<io::Result<PeerStream>>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Accepting {
    async fn run(mut self) {
        loop {
            // Before accepting, so that those over a limit wait in the system's queue and cost nothing here.
            let connection = self.connections.enter().await;
            let handshake = self.handshakes.enter().await;
            match self.socket.accept().await {
                Ok((socket, address)) => self.shake_hands(socket, address, connection, handshake),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn shake_hands(
        &self,
        socket: TcpStream,
        address: SocketAddr,
        connection: OwnedSemaphorePermit,
        handshake: OwnedSemaphorePermit,
    ) {
        let acceptor = self.acceptor.clone();
        let streams = self.streams.clone();
        let shaking = async move {
            let shaken = shake_hands(&acceptor, socket, address).await;
            drop(handshake);
            match shaken {
                Ok((peer, stream)) => {
                    // Without a receiver nobody serves any more.
                    let _ = streams
                        .send(Ok(PeerStream::new(peer, stream, connection)))
                        .await;
                }
                Err(error) => {
                    let reason = failure_of(&error)
                        .map_or_else(|| explain(&error), |failure| failure.to_string());
                    tracing::info!(peer = %address, reason, "handshake failed");
                }
            }
        };
        let stop = self.stop.clone();
        // Cut off by `stop`: nobody has been promised anything yet.
        self.tracker
            .spawn(async move { stop.run_until_cancelled(shaking).await });
    }
}

/// So many at the same time, and now and then a warning that the limit is reached.
struct Gate {
    name: &'static str,
    permits: Arc<Semaphore>,
    limit: usize,
    warned: Option<Instant>,
}

impl Gate {
    fn new(name: &'static str, limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self {
            name,
            permits: Arc::new(Semaphore::new(limit)),
            limit,
            warned: None,
        }
    }

    async fn enter(&mut self) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return permit;
        }
        if self.warns_now() {
            let (what, limit) = (self.name, self.limit);
            tracing::warn!(what, limit, "the listener is full: new connections wait");
        }
        Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .expect("a gate is never closed")
    }

    fn warns_now(&mut self) -> bool {
        let is_due = self.warned.is_none_or(|last| last.elapsed() >= REMINDER);
        if is_due {
            self.warned = Some(Instant::now());
        }
        is_due
    }
}

#[cfg(test)]
mod tests;
