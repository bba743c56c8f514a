//! The shape of TLS in a federation: version 1.3 alone, ring, one certificate authority, and one name.
//!
//! Clients verify the server by the name [`SERVER_NAME`], whatever address they reached it at. Sessions
//! are never resumed, because a resumed session would skip the client's certificate. The time comes
//! from a [`Clock`]. [`failure_of`] finds out, from whatever error a transport wraps it in, why the
//! other side could not be trusted.

mod failure;
mod pin;

use std::sync::Arc;

use rustls::client::{Resumption, WantsClientCert};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig};

use crate::clock::Clock;

pub use failure::{TlsFailure, failure_of};

/// The DNS name in every server certificate, which clients verify whatever the address.
pub const SERVER_NAME: &str = "fedmerge-server";

/// The application protocol that both ends speak: HTTP/2.
const PROTOCOL: &[u8] = b"h2";

/// Certificates or keys of which no configuration can be made.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureTlsError {
    /// The authority's certificate cannot be used.
    #[error("the certificate authority's certificate cannot be used")]
    Authority(#[source] rustls::Error),
    /// There is no usable authority to verify clients with.
    #[error("clients cannot be verified with the certificate authority")]
    Verifier(#[source] VerifierBuilderError),
    /// The own certificate or key cannot be used, or they do not belong together.
    #[error("the certificate and its private key cannot be used together")]
    Key(#[source] rustls::Error),
    /// The cryptography lacks what TLS 1.3 needs.
    #[error("TLS 1.3 is not available")]
    Version(#[source] rustls::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn roots<'a>(
    authorities: impl IntoIterator<Item = CertificateDer<'a>>,
) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority)?;
    }
    Ok(roots)
}

fn finish_client(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// For a machine that knows only the SHA-256 of the authority's public key: it trusts a server whose
/// certificate is signed by the authority with that key, which the server must send along.
///
/// # Errors
/// When TLS 1.3 is not available.
pub fn client_config_pinned(
    pin: [u8; 32],
    clock: Clock,
) -> Result<ClientConfig, ConfigureTlsError> {
    Ok(finish_client(pinned(pin, clock)?.with_no_client_auth()))
}

/// For a machine that knows only the hash of the authority's public key, and shows a certificate that another authority gave it.
///
/// # Errors
/// When certificate and key cannot be used together, or TLS 1.3 is not available.
pub fn client_config_pinned_with(
    pin: [u8; 32],
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clock: Clock,
) -> Result<ClientConfig, ConfigureTlsError> {
    let config = pinned(pin, clock)?.with_client_auth_cert(chain, key);
    Ok(finish_client(config.map_err(ConfigureTlsError::Key)?))
}

fn pinned(
    pin: [u8; 32],
    clock: Clock,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, ConfigureTlsError> {
    let provider = provider();
    let verifier = pin::PinnedVerifier::new(pin, Arc::clone(&provider));
    Ok(
        ClientConfig::builder_with_details(provider, Arc::new(clock))
            .with_protocol_versions(&[&TLS13])
            .map_err(ConfigureTlsError::Version)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier)),
    )
}

/// For an enrolled client or an administrator: both ends show a certificate of `authority`.
///
/// # Errors
/// When a certificate or the key cannot be used.
pub fn client_config_mutual(
    authority: CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clock: Clock,
) -> Result<ClientConfig, ConfigureTlsError> {
    let roots = roots([authority]).map_err(ConfigureTlsError::Authority)?;
    let config = ClientConfig::builder_with_details(provider(), Arc::new(clock))
        .with_protocol_versions(&[&TLS13])
        .map_err(ConfigureTlsError::Version)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(ConfigureTlsError::Key)?;
    Ok(finish_client(config))
}

/// Whose certificates a server takes from clients.
#[derive(Debug, Clone, Default)]
pub struct ClientAuthorities {
    /// Authorities, DER.
    pub authorities: Vec<CertificateDer<'static>>,
    /// What some of them have taken back, DER. Where an authority has no list, none of its certificates is taken back.
    pub revoked: Vec<CertificateRevocationListDer<'static>>,
}

fn verifier_of(
    clients: ClientAuthorities,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, ConfigureTlsError> {
    let roots = roots(clients.authorities).map_err(ConfigureTlsError::Authority)?;
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .with_crls(clients.revoked)
        .allow_unknown_revocation_status()
        .build()
        .map_err(ConfigureTlsError::Verifier)
}

/// Whether clients can be verified with these authorities.
///
/// # Errors
/// When a certificate or a list cannot be used.
pub fn check_client_authorities(clients: ClientAuthorities) -> Result<(), ConfigureTlsError> {
    verifier_of(clients, provider()).map(drop)
}

/// For the server: `chain` is its certificate followed by those of its authorities. A client may come without a certificate (to
/// enrol); one that it shows must be of one of `clients`, and not taken back.
///
/// # Errors
/// When a certificate, a list or the key cannot be used.
pub fn server_config(
    clients: ClientAuthorities,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clock: Clock,
) -> Result<ServerConfig, ConfigureTlsError> {
    let provider = provider();
    let clients = verifier_of(clients, Arc::clone(&provider))?;
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(clock))
        .with_protocol_versions(&[&TLS13])
        .map_err(ConfigureTlsError::Version)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(ConfigureTlsError::Key)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[cfg(test)]
mod tests;
