//! One connection: TCP, TLS 1.3 to the federation's server name whatever its address, HTTP/2.
//!
//! Made by hand, so that each step fails in its own words, and handed to tonic whole. The connection is used once: when
//! it breaks, calls on it fail and the link makes the next one.

use std::io;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fedmerge_common::tls;
use fedmerge_proto::limits::{DOWNLOAD_WINDOW_BYTES, DOWNLOADS_WINDOW_BYTES, MAX_FRAME_BYTES};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use super::address::ServerAddress;
use super::trouble::Trouble;
use super::watched::{Reason, Watched};

/// Longest wait for each step of a connection.
const STEP_LIMIT: Duration = Duration::from_secs(10);
/// A silent peer is asked for a sign of life this often, and given up after as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Environment variable that has a silent server asked for a sign of life after other than 20 s, in milliseconds. For tests.
pub const KEEP_ALIVE_VARIABLE: &str = "FEDMERGE_TEST_KEEP_ALIVE_MS";

fn keep_alive() -> Duration {
    #[expect(
        clippy::disallowed_methods,
        reason = "it must reach every process under test, whatever its settings"
    )]
    let milliseconds = std::env::var(KEEP_ALIVE_VARIABLE)
        .ok()
        .and_then(|text| text.trim().parse::<NonZeroU64>().ok());
    milliseconds.map_or(KEEP_ALIVE, |number| Duration::from_millis(number.get()))
}

/// Connects, once; `reason` learns why the server ends it, where it says so.
pub(super) async fn open(
    address: &ServerAddress,
    tls: &Arc<rustls::ClientConfig>,
    reason: &Reason,
) -> Result<Channel, Trouble> {
    let stream = within(
        "connect",
        TcpStream::connect((address.host(), address.port())),
    )
    .await
    .map_err(|error| Trouble::Unreachable(in_words(&error)))?;
    stream
        .set_nodelay(true)
        .map_err(|error| Trouble::Unreachable(in_words(&error)))?;
    let name = ServerName::try_from(tls::SERVER_NAME).expect("the server name is a DNS name");
    let connector = TlsConnector::from(Arc::clone(tls));
    let stream = within("TLS", connector.connect(name, stream))
        .await
        .map_err(|error| Trouble::from_connecting(&error))?;
    speak(Watched::new(stream, reason.clone())).await
}

async fn within<T>(step: &str, deed: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer to {step} within {STEP_LIMIT:?}"),
        )
    };
    timeout(STEP_LIMIT, deed).await.map_err(late)?
}

async fn speak(stream: Watched) -> Result<Channel, Trouble> {
    let once = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move {
            stream.ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotConnected, "the connection broke off")
            })
        }
    });
    let keep_alive = keep_alive();
    Endpoint::from_static("http://fedmerge-server")
        .initial_stream_window_size(DOWNLOAD_WINDOW_BYTES)
        .initial_connection_window_size(DOWNLOADS_WINDOW_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .http2_keep_alive_interval(keep_alive)
        .keep_alive_timeout(keep_alive)
        .keep_alive_while_idle(true)
        .connect_timeout(STEP_LIMIT)
        .connect_with_connector(connector)
        .await
        .map_err(|error| Trouble::from_connecting(&error))
}

/// The usual reasons without numbers, the others as the system words them.
fn in_words(error: &io::Error) -> String {
    let usual = [
        (io::ErrorKind::ConnectionRefused, "connection refused"),
        (io::ErrorKind::ConnectionReset, "connection reset"),
        (io::ErrorKind::HostUnreachable, "no route to host"),
        (io::ErrorKind::NetworkUnreachable, "network unreachable"),
    ];
    let found = usual.iter().find(|(kind, _)| *kind == error.kind());
    found.map_or_else(|| error.to_string(), |(_, words)| (*words).to_owned())
}
