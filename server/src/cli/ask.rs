//! Asking the running server, as its administrator: the address it wrote, and the certificate beside it.

use std::fs;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fedmerge_common::clock::Clock;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::tls;
use fedmerge_proto::convert::InvalidMessage;
use fedmerge_proto::v1::admin_client::AdminClient;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::directory::ServerDirectory;
use crate::enrolment::authority::Authority;

/// Longest wait for each step: the server is on this machine.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// Connects to the server of a directory.
///
/// # Errors
/// When it does not run, or does not answer.
pub(super) async fn connect(directory: &ServerDirectory) -> Result<AdminClient<Channel>, Failure> {
    let tls = Authority::admin_tls(directory, Clock::system())?;
    let Ok(address) = fs::read_to_string(directory.admin_address()) else {
        return Err(not_running(directory));
    };
    // A server that listens on every address of the machine is reached on this one.
    let address = address
        .trim()
        .replace("0.0.0.0", "127.0.0.1")
        .replace("[::]", "[::1]");
    let reached = within(async {
        let stream = TcpStream::connect(&address).await?;
        let name = ServerName::try_from(tls::SERVER_NAME).expect("the server name is a DNS name");
        TlsConnector::from(Arc::new(tls))
            .connect(name, stream)
            .await
    });
    let stream = reached.await.map_err(|error| {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            return not_running(directory);
        }
        let message = format!("the server at {address} cannot be reached");
        Failure::new(ExitCode::Unavailable, message).with_source(&error)
    })?;
    let once = Mutex::new(Some(TokioIo::new(stream)));
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move {
            stream.ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotConnected, "the connection broke off")
            })
        }
    });
    let channel = Endpoint::from_static("http://fedmerge-server")
        .http2_keep_alive_interval(STEP_LIMIT)
        .keep_alive_timeout(STEP_LIMIT)
        .connect_with_connector(connector)
        .await
        .map_err(|error| {
            let message = format!("the server at {address} does not answer");
            Failure::new(ExitCode::Unavailable, message).with_source(&error)
        })?;
    Ok(AdminClient::new(channel))
}

/// A refused or broken call as a failure.
pub(super) fn refused(status: &Status) -> Failure {
    Failure::new(
        ExitCode::Unavailable,
        format_args!("the server answered: {}", status.message()),
    )
}

/// An answer that no server of this program gives.
pub(super) fn nonsense(error: &InvalidMessage) -> Failure {
    let message = "the server's answer cannot be understood";
    Failure::new(ExitCode::Bug, message).with_source(error)
}

fn not_running(directory: &ServerDirectory) -> Failure {
    let root = directory.root().display();
    Failure::new(ExitCode::Unavailable, format!("no server runs in `{root}`"))
        .with_hint(format!("start it: fedmerge server run --dir {root}"))
}

async fn within<T>(deed: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(STEP_LIMIT, deed)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
