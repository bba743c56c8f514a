//! A connection whose peer is known, as the gRPC server takes it.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use fedmerge_common::identity::PeerCertificate;
use fedmerge_common::units::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use crate::listener::connections::Connection;
use crate::listener::strangers::{Stranger, subscriber};

/// By which of a server's addresses somebody came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// That of clients: the one port that sites must reach.
    Clients,
    /// That of administrators and observers.
    Admins,
}

/// Who is at the other end of a connection. It stands in the extensions of every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it connects from.
    pub address: SocketAddr,
    /// The certificate that it showed, which the authority signed, or one that the site brought along.
    pub certificate: Option<Arc<PeerCertificate>>,
    /// Why it counts as nobody, where it showed a certificate that names none of this server's clients.
    pub unnamed: Option<Arc<str>>,
    /// When the connection began.
    pub since: Timestamp,
    /// Where it came in.
    pub door: Door,
}

impl Peer {
    /// What counts as its address, where callers are told apart by that: of IPv6, the part that one subscriber has.
    #[must_use]
    pub fn subscriber(&self) -> IpAddr {
        subscriber(self.address.ip())
    }
}

/// A connection after its handshake; it counts as open until dropped.
#[derive(Debug)]
pub struct PeerStream {
    peer: Peer,
    stream: TlsStream<TcpStream>,
    _hold: Hold,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// What an open connection takes of its door, until it is dropped.
#[derive(Debug)]
pub(super) enum Hold {
    /// One of the connections of those who are known, of the key that was shown.
    Known {
        connection: Connection,
        _permit: OwnedSemaphorePermit,
    },
    /// A stranger's place.
    Stranger(Stranger),
}

impl PeerStream {
    pub(super) fn new(peer: Peer, stream: TlsStream<TcpStream>, hold: Hold) -> Self {
        let cut = match &hold {
            Hold::Known { connection, .. } => &connection.cut,
            Hold::Stranger(stranger) => &stranger.given_up,
        };
        Self {
            cut: Box::pin(cut.clone().cancelled_owned()),
            peer,
            stream,
            _hold: hold,
        }
    }

    /// An error once the connection is cut.
    fn refuse_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

impl Connected for PeerStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.refuse_cut(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
