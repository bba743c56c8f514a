//! The doors of a server: accepts connections, shakes hands, and hands finished streams to the gRPC server.
//!
//! One door is for clients, and the one port that sites must reach; the other is for administrators, by default on this machine alone.
//!
//! Nobody stalls anybody: each handshake is a task of its own with a time limit; strangers make room for one another, and the
//! connections of those who are known are counted. Whoever comes through has spoken TLS 1.3 and either shown no certificate or one of
//! the authority's; what they may call is `rpc::access`'s to decide.

mod connections;
mod handshake;
mod peer;
mod strangers;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fedmerge_common::clock::Clock;
use fedmerge_common::failure::{ExitCode, Failure, explain};
use fedmerge_common::identity::Identity;
use fedmerge_common::tls::failure_of;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::enrolment::authority::ServerTls;
use crate::enrolment::keeper::Newest;
use crate::pace::Paces;
use crate::refusals::{LostConnection, Refusals};

pub use connections::Connections;
use handshake::{Shown, shake_hands};
use peer::Hold;
pub use peer::{Door, Peer, PeerStream};
use strangers::{Strangers, subscriber};

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
    /// Peers that have shown no certificate, those that shake hands among them; the oldest make room.
    pub strangers: usize,
    /// Connections of those who have shown one; more wait.
    pub connections: usize,
    /// Connections of a client; the oldest makes room.
    pub of_client: usize,
    /// Handshakes that an address begins in a second, in the long run.
    pub handshakes: u32,
}

/// A bound port.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    door: Door,
    clock: Clock,
    connections: Connections,
}

impl Listener {
    /// Binds `HOST:PORT` for those of one door; port 0 takes a free one.
    ///
    /// # Errors
    /// When it is no address, or the system does not let this process listen there.
    pub async fn bind(address: &str, door: Door) -> Result<Self, ListenError> {
        let no_address = |source| ListenError::Address {
            address: address.to_owned(),
            source,
        };
        let found: Vec<SocketAddr> = lookup_host(address).await.map_err(no_address)?.collect();
        let bound = TcpListener::bind(&found[..]).await;
        let bound = bound.and_then(|socket| Ok((socket.local_addr()?, socket)));
        match bound {
            Ok((address, socket)) => Ok(Self {
                socket,
                address,
                door,
                clock: Clock::system(),
                connections: Connections::default(),
            }),
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

    /// The connections that are open, by the keys that were shown on them.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Accepts until `stop`, in tasks of `tracker`. The stream ends after `stop`.
    pub fn serve(
        self,
        tls: Newest<ServerTls>,
        limits: ListenLimits,
        refusals: Refusals,
        stop: CancellationToken,
        tracker: &TaskTracker,
    ) -> ReceiverStream<io::Result<PeerStream>> {
        let (streams, incoming) = mpsc::channel(WAITING_STREAMS);
        let accepting = Accepting {
            socket: self.socket,
            door: self.door,
            clock: self.clock,
            open: self.connections,
            strangers: Strangers::new(limits.strangers),
            handshakes: Paces::new(limits.handshakes),
            of_client: limits.of_client,
            refusals,
            connections: Arc::new(Gate::new("connections", limits.connections)),
            tls,
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
    door: Door,
    clock: Clock,
    open: Connections,
    strangers: Strangers,
    handshakes: Paces<IpAddr>,
    of_client: usize,
    refusals: Refusals,
    connections: Arc<Gate>,
    tls: Newest<ServerTls>,
    streams: mpsc::Sender<io::Result<PeerStream>>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Accepting {
    async fn run(self) {
        loop {
            match self.socket.accept().await {
                Ok((socket, address)) => self.shake_hands(socket, address),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn shake_hands(&self, socket: TcpStream, address: SocketAddr) {
        let paced = self
            .handshakes
            .take(&subscriber(address.ip()), Instant::now());
        if paced.is_err() {
            // Whoever is honest comes again; an answer would cost what the limit is to save.
            self.refusals.count_lost(LostConnection::TooManyHandshakes);
            return;
        }
        let stranger = self.strangers.enter(address.ip());
        let given_up = stranger.given_up.clone();
        let tls = Arc::clone(&self.tls.borrow());
        let streams = self.streams.clone();
        let (door, clock, open) = (self.door, self.clock, self.open.clone());
        let connections = Arc::clone(&self.connections);
        let (of_client, refusals) = (self.of_client, self.refusals.clone());
        let failures = refusals.clone();
        let shaking = async move {
            match shake_hands(&tls, socket).await {
                Ok((certificate, stream)) => {
                    let (certificate, unnamed) = match certificate {
                        Shown::Nothing => (None, None),
                        Shown::Certificate(certificate) => (Some(certificate), None),
                        Shown::Unnamed(error) => (None, Some(Arc::from(error.to_string()))),
                    };
                    let peer = Peer {
                        address,
                        certificate,
                        unnamed,
                        since: clock.now(),
                        door,
                    };
                    let hold = match &peer.certificate {
                        // Clients are refused at the other door, and take no place of those who are not.
                        Some(shown)
                            if door == Door::Admins
                                && matches!(shown.identity, Identity::Client(_)) =>
                        {
                            Hold::Stranger(stranger)
                        }
                        Some(shown) => {
                            let _permit = connections.enter().await;
                            let connection =
                                open.enter(&shown.identity, shown.public_key_sha256, of_client);
                            Hold::Known {
                                connection,
                                _permit,
                            }
                        }
                        None => Hold::Stranger(stranger),
                    };
                    let stream = PeerStream::new(peer, stream, hold);
                    // Without a receiver nobody serves any more.
                    let _ = streams.send(Ok(stream)).await;
                }
                Err(error) => {
                    failures.count_lost(LostConnection::HandshakeFailed);
                    let reason = failure_of(&error)
                        .map_or_else(|| explain(&error), |failure| failure.to_string());
                    tracing::info!(peer = %address, reason, "handshake failed");
                }
            }
        };
        let stop = self.stop.clone();
        // Cut off by `stop`, or by those who come later: nobody has been promised anything yet.
        self.tracker.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = given_up.cancelled() => {
                    refusals.count_lost(LostConnection::MadeRoom);
                    tracing::debug!(peer = %address, "handshake given up for newer ones");
                }
                () = shaking => {}
            }
        });
    }
}

/// So many at the same time, and now and then a warning that the limit is reached.
struct Gate {
    name: &'static str,
    permits: Arc<Semaphore>,
    limit: usize,
    warned: Mutex<Option<Instant>>,
}

impl Gate {
    fn new(name: &'static str, limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self {
            name,
            permits: Arc::new(Semaphore::new(limit)),
            limit,
            warned: Mutex::new(None),
        }
    }

    async fn enter(&self) -> OwnedSemaphorePermit {
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

    fn warns_now(&self) -> bool {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = warned.is_none_or(|last| last.elapsed() >= REMINDER);
        if is_due {
            *warned = Some(Instant::now());
        }
        is_due
    }
}

#[cfg(test)]
mod tests;
