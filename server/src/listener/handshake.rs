//! One handshake: TLS within a time limit, then the reading of the certificate that the peer showed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use fedmerge_common::identity::{PeerCertificate, ReadCertificateError};
use fedmerge_common::units::Millis;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::enrolment::authority::ServerTls;
use crate::enrolment::site::UnnamedPeerError;

/// A handshake that takes longer is given up.
const LIMIT: Millis = Millis::from_secs(10);
/// How long whoever was refused is listened to before the connection is closed.
const LINGER: Duration = Duration::from_secs(1);
/// Kilobytes that are read of it meanwhile, at most.
const MOST_UNREAD: usize = 64;

/// Why a connection comes to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShakeHandsError {
    /// It took too long.
    #[error("the handshake took longer than {LIMIT}")]
    TooSlow,
    /// TLS failed, or the connection.
    #[error("the handshake failed")]
    Tls(#[source] io::Error),
    /// The authority signed a certificate that names nobody.
    #[error("the peer's certificate does not tell whose it is")]
    Certificate(#[source] ReadCertificateError),
}

/// What a peer showed of itself.
#[derive(Debug)]
pub(super) enum Shown {
    /// No certificate.
    Nothing,
    /// One that tells whose it is.
    Certificate(Arc<PeerCertificate>),
    /// One of a site's authority, of somebody whom the settings do not name.
    Unnamed(UnnamedPeerError),
}

/// Closes a connection so that what was said last arrives: a socket that is closed with bytes unread is reset, and the peer's system
/// throws away the alert that says why.
async fn part(mut socket: TcpStream) -> io::Result<()> {
    socket.shutdown().await?;
    let mut unread = [0; 1024];
    for _ in 0..MOST_UNREAD {
        if socket.read(&mut unread).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Shakes hands with whoever connected: what it showed, and the stream.
pub(super) async fn shake_hands(
    tls: &ServerTls,
    socket: TcpStream,
) -> Result<(Shown, TlsStream<TcpStream>), ShakeHandsError> {
    socket.set_nodelay(true).map_err(ShakeHandsError::Tls)?;
    let acceptor = TlsAcceptor::from(Arc::clone(&tls.config));
    let accepting = acceptor.accept(socket).into_fallible();
    let accepted = timeout(LIMIT.to_duration(), accepting).await;
    let stream = match accepted.map_err(|_| ShakeHandsError::TooSlow)? {
        Ok(stream) => stream,
        Err((error, socket)) => {
            let _gone = timeout(LINGER, part(socket)).await;
            return Err(ShakeHandsError::Tls(error));
        }
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let shown = match certificates.and_then(<[_]>::first) {
        None => Shown::Nothing,
        Some(certificate) => match tls.names.owner(certificate) {
            Ok(certificate) => Shown::Certificate(Arc::new(certificate)),
            Err(UnnamedPeerError::Certificate(error)) => {
                return Err(ShakeHandsError::Certificate(error));
            }
            Err(error @ (UnnamedPeerError::NoName { .. } | UnnamedPeerError::Several { .. })) => {
                Shown::Unnamed(error)
            }
        },
    };
    Ok((shown, stream))
}
