//! Real sockets on the loopback interface, and a clock that stands still where a test says that nothing happens: it
//! then jumps to the next timer as soon as everything waits.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use fedmerge_common::clock::Clock;
use fedmerge_common::identity::{Identity, Labels};
use fedmerge_common::ids::ClientId;
use fedmerge_common::tls::{SERVER_NAME, client_config_mutual};
use fedmerge_common::units::Millis;
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::ClientConfig;
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{advance, pause, resume, timeout};
use tokio_rustls::{TlsConnector, client};
use tokio_stream::StreamExt;
use tonic::transport::server::Connected;

use super::*;
use crate::enrolment::authority::testbed::{Federation, certificate_request};

const LIMITS: ListenLimits = ListenLimits {
    strangers: 4,
    connections: 16,
    of_client: 16,
    handshakes: 1_000,
};
/// When to give up on what should have come.
const LONG: Duration = Duration::from_secs(60);
/// Shorter than the time limit of a handshake.
const SHORT: Duration = Duration::from_secs(5);

struct Listening {
    address: SocketAddr,
    streams: ReceiverStream<io::Result<PeerStream>>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Listening {
    async fn start(federation: &Federation, limits: ListenLimits) -> Self {
        let listener = Listener::bind("127.0.0.1:0", Door::Clients).await.unwrap();
        let address = listener.address();
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let tls = federation.server_tls();
        let streams = listener.serve(tls, limits, Refusals::default(), stop.clone(), &tracker);
        Self {
            address,
            streams,
            stop,
            tracker,
        }
    }

    async fn connect(&self, tls: ClientConfig) -> client::TlsStream<TcpStream> {
        let socket = TcpStream::connect(self.address).await.unwrap();
        begin_tls(socket, tls).await
    }

    async fn next(&mut self) -> PeerStream {
        let next = timeout(LONG, self.streams.next()).await.unwrap();
        next.unwrap().unwrap()
    }

    /// Nobody comes through, however long one waits.
    async fn expect_nobody(&mut self) {
        pause();
        assert!(timeout(SHORT, self.streams.next()).await.is_err());
        resume();
    }
}

async fn begin_tls(socket: TcpStream, tls: ClientConfig) -> client::TlsStream<TcpStream> {
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let connector = TlsConnector::from(Arc::new(tls));
    let connecting = timeout(LONG, connector.connect(name, socket));
    connecting.await.unwrap().unwrap()
}

/// The far end closes the connection.
async fn expect_refused(mut near: client::TlsStream<TcpStream>) {
    assert!(timeout(LONG, near.read_u8()).await.unwrap().is_err());
}

fn ward() -> ClientId {
    "ward-3".parse().unwrap()
}

#[tokio::test]
async fn a_stream_carries_bytes_and_tells_whose_it_is() {
    let ours = Federation::new();
    let mut listening = Listening::start(&ours, LIMITS).await;
    let enrolled = ours.enrol(&ward());
    let mut near = listening.connect(enrolled.tls).await;
    let mut far = listening.next().await;

    let peer = far.connect_info();
    let certificate = peer.certificate.unwrap();
    assert_eq!(certificate.identity, Identity::Client(ward()));
    assert_eq!(certificate.public_key_sha256, enrolled.key_sha256);
    assert_eq!(peer.address, near.get_ref().0.local_addr().unwrap());

    near.write_all(b"hello").await.unwrap();
    near.shutdown().await.unwrap();
    let mut heard = Vec::new();
    far.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"hello");
}

#[tokio::test]
async fn a_machine_without_a_certificate_comes_through_as_nobody() {
    let ours = Federation::new();
    let mut listening = Listening::start(&ours, LIMITS).await;
    let _near = listening
        .connect(ours.pinned_tls(Clock::with_offset(0)))
        .await;
    let far = listening.next().await;
    assert!(far.connect_info().certificate.is_none());
}

#[tokio::test]
async fn a_client_of_another_authority_does_not_come_through() {
    let (ours, theirs) = (Federation::new(), Federation::new());
    let mut listening = Listening::start(&ours, LIMITS).await;
    let key = KeyPair::generate().unwrap();
    let request = certificate_request(&key);
    let foreign = theirs
        .authority
        .admit(
            (&ward(), &Labels::new()),
            &request,
            Clock::with_offset(0).now(),
            Millis::from_secs(60),
        )
        .unwrap();
    // The stranger believes in our server; TLS 1.3 tells it only later that it was refused.
    expect_refused(listening.connect(ours.client_tls(foreign, &key)).await).await;
    listening.expect_nobody().await;
}

#[tokio::test]
async fn a_certificate_of_the_authority_that_names_nobody_does_not_come_through() {
    let ours = Federation::new();
    let mut listening = Listening::start(&ours, LIMITS).await;
    let key_of_authority = std::fs::read_to_string(ours.directory.authority_key()).unwrap();
    let issuer = Issuer::from_ca_cert_der(
        ours.authority.certificate(),
        KeyPair::from_pem(&key_of_authority).unwrap(),
    )
    .unwrap();
    let key = KeyPair::generate().unwrap();
    let nameless = CertificateParams::default()
        .signed_by(&key, &issuer)
        .unwrap();
    let tls = client_config_mutual(
        ours.authority.certificate().clone(),
        vec![nameless.der().clone()],
        PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        Clock::with_offset(0),
    );
    expect_refused(listening.connect(tls.unwrap()).await).await;
    listening.expect_nobody().await;
}

#[tokio::test]
async fn one_who_says_nothing_holds_up_nobody_and_is_dropped() {
    let ours = Federation::new();
    let mut listening = Listening::start(&ours, LIMITS).await;
    let mut silent = TcpStream::connect(listening.address).await.unwrap();
    let _near = listening.connect(ours.admin_tls()).await;
    let _far = listening.next().await;
    pause();
    advance(Duration::from_secs(11)).await;
    resume();
    let heard = timeout(LONG, silent.read(&mut [0])).await.unwrap();
    assert_eq!(heard.unwrap(), 0);
}

#[tokio::test]
async fn over_the_limit_a_connection_waits_until_another_is_dropped() {
    let ours = Federation::new();
    let limits = ListenLimits {
        connections: 1,
        ..LIMITS
    };
    let mut listening = Listening::start(&ours, limits).await;
    let _first = listening.connect(ours.admin_tls()).await;
    let served = listening.next().await;
    let socket = TcpStream::connect(listening.address).await.unwrap();
    let second = tokio::spawn(begin_tls(socket, ours.admin_tls()));
    listening.expect_nobody().await;
    drop(served);
    listening.next().await;
    second.await.unwrap();
}

#[tokio::test]
async fn over_the_limit_the_oldest_stranger_makes_room() {
    let ours = Federation::new();
    let limits = ListenLimits {
        strangers: 1,
        ..LIMITS
    };
    let mut listening = Listening::start(&ours, limits).await;
    let mut silent = TcpStream::connect(listening.address).await.unwrap();
    // Whoever has shown a certificate is no stranger, and takes nobody's place.
    for _ in 0..2 {
        let _near = listening.connect(ours.admin_tls()).await;
        let _far = listening.next().await;
    }
    let heard = timeout(LONG, silent.read(&mut [0])).await.unwrap();
    assert_eq!(heard.unwrap(), 0);
    let nobody = || ours.pinned_tls(Clock::with_offset(0));
    let _near = listening.connect(nobody()).await;
    let mut first = listening.next().await;
    let _near = listening.connect(nobody()).await;
    let _second = listening.next().await;
    let cut = timeout(LONG, first.read(&mut [0])).await.unwrap();
    assert_eq!(cut.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn when_it_stops_the_port_is_free_and_every_task_ends() {
    let ours = Federation::new();
    let mut listening = Listening::start(&ours, LIMITS).await;
    let _under_way = TcpStream::connect(listening.address).await.unwrap();
    listening.stop.cancel();
    assert!(
        timeout(LONG, listening.streams.next())
            .await
            .unwrap()
            .is_none()
    );
    listening.tracker.close();
    timeout(LONG, listening.tracker.wait()).await.unwrap();
    Listener::bind(&listening.address.to_string(), Door::Clients)
        .await
        .unwrap();
}

#[tokio::test]
async fn without_anybody_to_serve_its_streams_it_ends() {
    let ours = Federation::new();
    let listening = Listening::start(&ours, LIMITS).await;
    drop(listening.streams);
    listening.tracker.close();
    timeout(LONG, listening.tracker.wait()).await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_told_with_what_to_do() {
    let first = Listener::bind("127.0.0.1:0", Door::Clients).await.unwrap();
    let address = first.address().to_string();
    let failure = Failure::from(Listener::bind(&address, Door::Clients).await.unwrap_err());
    assert_eq!(failure.exit, ExitCode::Unavailable);
    assert_eq!(failure.message, format!("cannot listen on {address}"));
    assert_eq!(
        failure.hint.as_deref(),
        Some("another process uses the port: choose one with --listen HOST:PORT")
    );
}

#[tokio::test]
async fn what_is_no_address_is_bad_configuration() {
    for address in ["", "here", "127.0.0.1", "127.0.0.1:port", "127.0.0.1:70000"] {
        let failure = Failure::from(Listener::bind(address, Door::Clients).await.unwrap_err());
        assert_eq!(failure.exit, ExitCode::BadConfiguration, "{address}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_a_crowd_reaches_again_and_again_is_told_once_a_minute() {
    let gate = Gate::new("connections", 1);
    assert!(gate.warns_now());
    assert!(!gate.warns_now());
    advance(REMINDER).await;
    assert!(gate.warns_now());
}
