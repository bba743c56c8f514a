//! A server for tests: the real wire over real TLS, with services that do what a test tells them.
//!
//! Nothing here knows the real server; it serves what a test hands it until the test ends.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use fedmerge_common::clock::Clock;
use fedmerge_common::endorsement::{self, Endorsement};
use fedmerge_common::identity::{Identity, public_key_sha256};
use fedmerge_common::ids::{ClientId, FederationName};
use fedmerge_common::output::Output;
use fedmerge_common::tls;
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair,
    SanType, SigningKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::link::address::ServerAddress;
use crate::link::{Greeting, Link};

/// A certificate authority with a server and clients.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: CertificateDer<'static>,
}

pub(crate) fn federation() -> FederationName {
    "digits".parse().unwrap()
}

pub(crate) fn client_id() -> ClientId {
    "ward-3".parse().unwrap()
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    pub(crate) fn pin(&self) -> [u8; 32] {
        public_key_sha256(&self.certificate).unwrap()
    }

    /// What enrolment answers.
    pub(crate) fn sign(&self, request: &[u8], client: &ClientId) -> CertificateDer<'static> {
        let request = CertificateSigningRequestParams::from_der(&request.into()).unwrap();
        let params = params_of(&Identity::Client(client.clone()));
        params
            .signed_by(&request.public_key, &self.issuer)
            .unwrap()
            .der()
            .clone()
    }

    /// A certificate whose life is over.
    pub(crate) fn sign_expired(
        &self,
        request: &[u8],
        client: &ClientId,
    ) -> CertificateDer<'static> {
        let request = CertificateSigningRequestParams::from_der(&request.into()).unwrap();
        let mut params = params_of(&Identity::Client(client.clone()));
        params.not_after = time::OffsetDateTime::now_utc() - time::Duration::minutes(1);
        let signed = params.signed_by(&request.public_key, &self.issuer);
        signed.unwrap().der().clone()
    }

    /// What the authority signs of a base.
    pub(crate) fn endorse(&self, base: &ModelRef, at: Timestamp) -> Endorsement {
        let words = endorsement::statement(&federation(), base, at);
        Endorsement {
            at,
            signature: self.issuer.key().sign(&words).unwrap(),
            successor: None,
        }
    }

    fn issue(&self, identity: &Identity) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = params_of(identity).signed_by(&key, &self.issuer).unwrap();
        (
            certificate.der().clone(),
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
    }

    /// TLS of an enrolled client.
    pub(crate) fn client_tls(&self) -> rustls::ClientConfig {
        let (certificate, key) = self.issue(&Identity::Client(client_id()));
        tls::client_config_mutual(
            self.certificate.clone(),
            vec![certificate],
            key,
            Clock::system(),
        )
        .unwrap()
    }

    fn server_tls(&self) -> rustls::ServerConfig {
        let (certificate, key) = self.issue(&Identity::Server);
        let chain = vec![certificate, self.certificate.clone()];
        let clients = tls::ClientAuthorities {
            authorities: vec![self.certificate.clone()],
            revoked: Vec::new(),
        };
        tls::server_config(clients, chain, key, Clock::system()).unwrap()
    }
}

fn params_of(identity: &Identity) -> CertificateParams {
    let names = if *identity == Identity::Server {
        vec![tls::SERVER_NAME.to_owned()]
    } else {
        Vec::new()
    };
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = time::OffsetDateTime::now_utc() - time::Duration::hours(1);
    params.not_after = time::OffsetDateTime::now_utc() + time::Duration::hours(1);
    let uri = identity.uri(&federation());
    params
        .subject_alt_names
        .push(SanType::URI(uri.try_into().unwrap()));
    params
}

/// A server that runs until dropped.
pub(crate) struct Served {
    pub(crate) address: ServerAddress,
    _accepting: AbortOnDropHandle<()>,
    _serving: AbortOnDropHandle<()>,
}

impl Served {
    /// A link as an enrolled client makes it.
    pub(crate) fn link(&self, authority: &Authority, greeting: Greeting) -> Link {
        let quiet = Output {
            quiet: true,
            ..Output::default()
        };
        Link::new(
            self.address.clone(),
            authority.client_tls(),
            greeting,
            quiet,
        )
    }
}

pub(crate) async fn serve(authority: &Authority, routes: Routes) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(authority.server_tls()));
    let (streams, incoming) = mpsc::channel(4);
    let accepting = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(stream).await
                && streams
                    .send(Ok::<_, io::Error>(Stream(stream)))
                    .await
                    .is_err()
            {
                return;
            }
        }
    });
    let serving = tokio::spawn(async move {
        Server::builder()
            .add_routes(routes)
            .serve_with_incoming(ReceiverStream::new(incoming))
            .await
            .unwrap();
    });
    Served {
        address,
        _accepting: AbortOnDropHandle::new(accepting),
        _serving: AbortOnDropHandle::new(serving),
    }
}

struct Stream(TlsStream<TcpStream>);

impl Connected for Stream {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
