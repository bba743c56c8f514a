//! Connections that begin calls and never end them: their headers come byte by byte.

use std::sync::Arc;
use std::time::Duration;

use fedmerge_common::tls::SERVER_NAME;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_rustls::{TlsConnector, rustls};

/// Between two bytes.
const PAUSE: Duration = Duration::from_millis(100);
/// How an HTTP/2 connection begins: the preface, and settings that say nothing.
const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Headers of one byte (`:method: GET`) on stream 1 that do not end.
const HEADERS: &[u8] = &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82];
/// One more byte of them (`:scheme: http`).
const CONTINUATION: &[u8] = &[0, 0, 1, 9, 0, 0, 0, 0, 1, 0x86];

/// So many slow connections at a time, each begun anew when the server has ended it; until dropped.
#[derive(Debug)]
pub(crate) struct Loris {
    _runtime: Runtime,
    begun: mpsc::UnboundedReceiver<()>,
}

impl Loris {
    pub(crate) fn start(address: &str, tls: rustls::ClientConfig, count: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let connector = TlsConnector::from(Arc::new(tls));
        let (sender, begun) = mpsc::unbounded_channel();
        for _ in 0..count {
            let (connector, address) = (connector.clone(), address.to_owned());
            let sender = sender.clone();
            runtime.spawn(async move {
                while !sender.is_closed() {
                    // The server may refuse it at any step, which is its right.
                    let _ended = dribble(&connector, &address, &sender).await;
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        Self {
            _runtime: runtime,
            begun,
        }
    }

    /// Waits until so many connections have begun a call.
    pub(crate) fn wait_for(&mut self, count: usize) {
        for _ in 0..count {
            self.begun.blocking_recv().unwrap();
        }
    }
}

async fn dribble(
    connector: &TlsConnector,
    address: &str,
    begun: &mpsc::UnboundedSender<()>,
) -> std::io::Result<()> {
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let stream = connector.connect(name, socket).await?;
    let (mut reading, mut writing) = tokio::io::split(stream);
    writing.write_all(BEGIN).await?;
    writing.write_all(HEADERS).await?;
    writing.flush().await?;
    // Nobody may listen any more.
    let _heard = begun.send(());
    tokio::select! {
        ended = swallow(&mut reading) => ended,
        ended = go_on(&mut writing) => ended,
    }
}

/// Takes what the server says, until it ends the connection.
async fn swallow(reading: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    let mut buffer = [0; 256];
    while reading.read(&mut buffer).await? > 0 {}
    Ok(())
}

async fn go_on(writing: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
    loop {
        tokio::time::sleep(PAUSE).await;
        writing.write_all(CONTINUATION).await?;
        writing.flush().await?;
    }
}
