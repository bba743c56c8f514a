//! One handshake: TLS within a time limit, then the reading of the certificate that the peer showed.

use std::io;
use std::sync::Arc;

use fedmerge_common::identity::{PeerCertificate, ReadCertificateError};
use fedmerge_common::units::Millis;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A handshake that takes longer is given up.
const LIMIT: Millis = Millis::from_secs(10);

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

/// Shakes hands with whoever connected: the certificate that was shown, if one was, and the stream.
pub(super) async fn shake_hands(
    acceptor: &TlsAcceptor,
    socket: TcpStream,
) -> Result<(Option<Arc<PeerCertificate>>, TlsStream<TcpStream>), ShakeHandsError> {
    socket.set_nodelay(true).map_err(ShakeHandsError::Tls)?;
    let stream = timeout(LIMIT.to_duration(), acceptor.accept(socket))
        .await
        .map_err(|_| ShakeHandsError::TooSlow)?
        .map_err(ShakeHandsError::Tls)?;
    let shown = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first);
    let certificate = shown
        .map(|certificate| PeerCertificate::parse(certificate).map(Arc::new))
        .transpose()
        .map_err(ShakeHandsError::Certificate)?;
    Ok((certificate, stream))
}
