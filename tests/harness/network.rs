//! A bad network: a proxy on this machine between clients and their server, with troubles that a seed chooses.
//!
//! It cuts connections, some loudly and some silently, anywhere in what they carry; it lets bytes trickle; now and then nobody listens.
//! Invariant: the trouble is bounded. Some connections have it, the first [`TROUBLED`], each of a kind and at a byte that its number and
//! the seed decide, whatever the time; through all later ones everything passes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{self, Runtime};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::random::random;

/// Connections that have trouble.
const TROUBLED: u64 = 12;
/// More than a TLS handshake takes. A silence comes later: a client waits long for a handshake, longer than a story should take.
const HANDSHAKE_BYTES: u64 = 8 * 1024;
/// More than a chunk of a transfer: whoever transfers so much has made progress, and tries again soon after a cut.
const CHUNK_BYTES: u64 = 300 * 1024;
/// Most bytes that pass at once.
const PIECE_BYTES: usize = 64 * 1024;
/// What a socket of the network keeps.
const BUFFER_BYTES: u32 = 64 * 1024;
/// As long as nobody listens.
const CLOSED: Duration = Duration::from_millis(400);

/// How the network ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Both ends get a reset.
    Reset,
    /// The same, and for a while nobody listens.
    Refusal,
    /// Nothing passes any more, and neither end is told.
    Silence,
}

/// What the network does to one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fate {
    end: End,
    /// Bytes that pass before the end, in both directions together.
    bytes: u64,
    /// So many bytes pass at once.
    piece_bytes: usize,
    /// Between one piece and the next.
    pause: Duration,
}

impl Fate {
    /// The fate of a connection; none for one that has no trouble.
    fn of(seed: u64, number: u64) -> Option<Self> {
        let chance = |purpose: u64, below: u64| random(seed, 4 * number + purpose) % below;
        // One kind after the other, so that no seed goes without.
        let end = match (seed + number) % 4 {
            0 => End::Refusal,
            1 => End::Silence,
            _ => End::Reset,
        };
        // A short one now and then, as in a handshake; never so many in a row that a client waits long for its next attempt.
        let bytes = match number % 3 {
            0 => chance(0, 2 * HANDSHAKE_BYTES),
            _ => CHUNK_BYTES + chance(0, 2 * CHUNK_BYTES),
        };
        let (piece_bytes, pause) = match chance(1, 4) {
            0 => (1 + chance(2, 4_000), 1),
            1 => (PIECE_BYTES as u64, 1 + chance(2, 60)),
            _ => (PIECE_BYTES as u64, 0),
        };
        let fate = Self {
            end,
            bytes: match end {
                End::Silence => bytes.max(HANDSHAKE_BYTES),
                End::Reset | End::Refusal => bytes,
            },
            piece_bytes: usize::try_from(piece_bytes).unwrap(),
            pause: Duration::from_millis(pause),
        };
        (number < TROUBLED).then_some(fate)
    }
}

/// What has happened.
#[derive(Debug, Default)]
struct Happened {
    resets: AtomicU64,
    refusals: AtomicU64,
    silences: AtomicU64,
    /// In both directions.
    carried_bytes: AtomicU64,
    /// Where the connection that carries these bytes is cut, the last first.
    cuts: Mutex<Vec<u64>>,
    /// Wakes whoever listens when nobody should.
    closing: Notify,
}

impl Happened {
    /// Counts bytes; whether the connection that carries them is cut.
    fn carries(&self, bytes: u64) -> bool {
        let carried = self.carried_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let mut cuts = self.cuts.lock().unwrap();
        cuts.pop_if(|cut| *cut <= carried).is_some()
    }

    fn note(&self, end: End) {
        let counter = match end {
            End::Reset => &self.resets,
            End::Refusal => &self.refusals,
            End::Silence => &self.silences,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if end == End::Refusal {
            self.closing.notify_one();
        }
    }
}

/// A bad network, until dropped.
#[derive(Debug)]
pub(crate) struct Network {
    address: SocketAddr,
    happened: Arc<Happened>,
    /// Carries every byte.
    _runtime: Runtime,
}

impl Network {
    /// The way to the server that listens at `server`, with every kind of trouble.
    pub(crate) fn before(server: &str, seed: u64) -> Self {
        Self::of(server, Some(seed), Vec::new())
    }

    /// A way that works, but for resets where so many bytes have been carried in all.
    pub(crate) fn cutting(server: &str, mut cuts: Vec<u64>) -> Self {
        cuts.sort_unstable_by(|left, right| right.cmp(left));
        Self::of(server, None, cuts)
    }

    fn of(server: &str, seed: Option<u64>, cuts: Vec<u64>) -> Self {
        let server: SocketAddr = server.parse().unwrap();
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let happened = Arc::new(Happened {
            cuts: Mutex::new(cuts),
            ..Happened::default()
        });
        let port = {
            let _in_runtime = runtime.enter();
            bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        };
        let address = port.local_addr().unwrap();
        let way = Way {
            server,
            seed,
            happened: Arc::clone(&happened),
        };
        runtime.spawn(way.run(port));
        Self {
            address,
            happened,
            _runtime: runtime,
        }
    }

    /// Where clients find it.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Bytes that it has carried in both directions, whatever they were.
    pub(crate) fn carried_bytes(&self) -> u64 {
        self.happened.carried_bytes.load(Ordering::Relaxed)
    }

    /// How many connections it has cut.
    pub(crate) fn cuts(&self) -> u64 {
        self.happened.resets.load(Ordering::Relaxed)
    }

    /// Fails the test unless there was trouble of every kind.
    pub(crate) fn expect_trouble(&self) {
        let happened = &self.happened;
        for counter in [&happened.resets, &happened.refusals, &happened.silences] {
            assert!(counter.load(Ordering::Relaxed) > 0, "{happened:?}");
        }
    }
}

/// A socket of an address that more than one may have: who listens there may come and go while nobody else gets the port.
fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(true).unwrap();
    keep_little(&socket);
    socket.bind(address).unwrap();
    socket
}

/// What is in the network's own buffers is lost when it cuts: it should be no more than on a wire.
fn keep_little(socket: &TcpSocket) {
    socket.set_send_buffer_size(BUFFER_BYTES).unwrap();
    socket.set_recv_buffer_size(BUFFER_BYTES).unwrap();
}

/// All connections of a network.
struct Way {
    server: SocketAddr,
    /// Of the troubles, where there are any.
    seed: Option<u64>,
    happened: Arc<Happened>,
}

impl Way {
    /// Takes connections for ever; `port` is kept and never listens.
    async fn run(self, port: TcpSocket) {
        let address = port.local_addr().unwrap();
        let mut number = 0;
        loop {
            let listener = bind(address).listen(64).unwrap();
            tokio::select! {
                () = self.accept(&listener, &mut number) => {}
                () = self.happened.closing.notified() => {}
            }
            drop(listener);
            sleep(CLOSED).await;
        }
    }

    async fn accept(&self, listener: &TcpListener, number: &mut u64) {
        while let Ok((near, _)) = listener.accept().await {
            let fate = self.seed.and_then(|seed| Fate::of(seed, *number));
            *number += 1;
            tokio::spawn(carry(near, self.server, fate, Arc::clone(&self.happened)));
        }
    }
}

/// Carries one connection to its end.
async fn carry(
    mut near: TcpStream,
    server: SocketAddr,
    fate: Option<Fate>,
    happened: Arc<Happened>,
) {
    // A server that is gone shows as one that hangs up.
    let far = TcpSocket::new_v4().unwrap();
    keep_little(&far);
    let Ok(mut far) = far.connect(server).await else {
        return;
    };
    let left = AtomicU64::new(fate.map_or(u64::MAX, |fate| fate.bytes));
    let (from_near, to_near) = near.split();
    let (from_far, to_far) = far.split();
    let ended = tokio::try_join!(
        pass(from_near, to_far, fate, (&left, &happened)),
        pass(from_far, to_near, fate, (&left, &happened)),
    );
    let Err(Broken::ByTheNetwork) = ended else {
        return;
    };
    let end = fate.map_or(End::Reset, |fate| fate.end);
    happened.note(end);
    if end == End::Silence {
        // Both sockets stay open, and nobody reads them.
        std::future::pending::<()>().await;
    }
    for end in [near, far] {
        // Fails where the other side was faster.
        let _ = end.set_zero_linger();
    }
}

/// Why nothing passes any more.
enum Broken {
    ByAnEnd,
    ByTheNetwork,
}

/// Passes bytes on in one direction until its source has no more, or until none are left to either direction; counts them.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    fate: Option<Fate>,
    (left, happened): (&AtomicU64, &Happened),
) -> Result<(), Broken> {
    let mut piece = vec![0; fate.map_or(PIECE_BYTES, |fate| fate.piece_bytes)];
    loop {
        let read = from.read(&mut piece).await;
        let read = read.map_err(|_| Broken::ByAnEnd)?;
        if happened.carries(read as u64) {
            return Err(Broken::ByTheNetwork);
        }
        let before = left.load(Ordering::Relaxed);
        let after = before.saturating_sub(read as u64);
        left.store(after, Ordering::Relaxed);
        let passing = usize::try_from(before - after).unwrap();
        let written = to.write_all(&piece[..passing]).await;
        written.map_err(|_| Broken::ByAnEnd)?;
        if after == 0 {
            return Err(Broken::ByTheNetwork);
        }
        if read == 0 {
            return to.shutdown().await.map_err(|_| Broken::ByAnEnd);
        }
        if let Some(fate) = fate
            && !fate.pause.is_zero()
        {
            sleep(fate.pause).await;
        }
    }
}
