//! A TLS stream that keeps in mind why the server ended it.
//!
//! With TLS 1.3 a server refuses a certificate after the handshake, when HTTP/2 reads already; of what breaks a connection below it, that
//! keeps the words at best.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use fedmerge_common::tls::{TlsFailure, failure_of};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Why the server ended a connection, once it has. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Reason(Arc<OnceLock<TlsFailure>>);

impl Reason {
    pub(super) fn get(&self) -> Option<TlsFailure> {
        self.0.get().cloned()
    }
}

/// The stream.
pub(super) struct Watched {
    stream: TlsStream<TcpStream>,
    reason: Reason,
}

impl Watched {
    pub(super) fn new(stream: TlsStream<TcpStream>, reason: Reason) -> Self {
        Self { stream, reason }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Err(error)) = &polled
            && let Some(failure) = failure_of(error)
        {
            // The first reason is the one.
            let _known = self.reason.0.set(failure);
        }
        polled
    }
}

impl AsyncWrite for Watched {
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
        slices: &[io::IoSlice<'_>],
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
