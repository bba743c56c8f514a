//! The yardstick: how fast one TLS stream of this machine carries bytes over loopback, with nothing around it.
//!
//! The same configurations, certificates and ciphers as between server and client, the same library, and no HTTP/2, no digest, no file.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use fedmerge_common::tls::SERVER_NAME;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Bytes that are handed to the stream at once.
const PIECE_BYTES: usize = 256 * 1024;

/// Sends so many bytes, and answers how long that takes after the handshake.
///
/// # Errors
/// The stream's.
pub(crate) async fn time(
    server: Arc<rustls::ServerConfig>,
    client: rustls::ClientConfig,
    bytes: u64,
) -> io::Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let acceptor = TlsAcceptor::from(server);
    let sending = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        let mut stream = acceptor.accept(stream).await?;
        stream.read_u8().await?;
        let piece = vec![7; PIECE_BYTES];
        let mut left = bytes;
        while left > 0 {
            let length = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            stream.write_all(&piece[..length]).await?;
            left -= length as u64;
        }
        stream.shutdown().await
    });
    let name = ServerName::try_from(SERVER_NAME).expect("the server name is a DNS name");
    let stream = TcpStream::connect(address).await?;
    let connector = TlsConnector::from(Arc::new(client));
    let mut stream = connector.connect(name, stream).await?;
    stream.write_u8(0).await?;
    stream.flush().await?;
    let begun = Instant::now();
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = bytes;
    while left > 0 {
        match stream.read(&mut piece).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => left = left.saturating_sub(read as u64),
        }
    }
    let elapsed = begun.elapsed();
    sending.await.map_err(io::Error::other)??;
    Ok(elapsed)
}
