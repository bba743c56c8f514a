//! Handshakes in memory, between the configurations of both ends.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::io;
use std::sync::Arc;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ConnectionCommon, ServerConfig, ServerConnection};
use time::{Duration, OffsetDateTime};

use super::*;
use crate::identity::{Identity, PeerCertificate, ReadCertificateError, public_key_sha256};

const DAY_SECONDS: i64 = 86_400;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

fn of(authority: &CertificateDer<'static>) -> ClientAuthorities {
    ClientAuthorities {
        authorities: vec![authority.clone()],
        revoked: Vec::new(),
    }
}

struct Leaf {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "test authority");
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    Authority {
        issuer: Issuer::new(params, key),
        certificate,
    }
}

impl Authority {
    /// A certificate that lives from an hour ago to an hour from now.
    fn issue(&self, names: Vec<SanType>, usage: ExtendedKeyUsagePurpose) -> Leaf {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
        params.extended_key_usages = vec![usage];
        params.not_before = OffsetDateTime::now_utc() - Duration::HOUR;
        params.not_after = OffsetDateTime::now_utc() + Duration::HOUR;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Leaf {
            certificate,
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }

    fn server(&self) -> Leaf {
        self.issue(
            vec![dns(SERVER_NAME), uri("fedmerge://digits/server")],
            ExtendedKeyUsagePurpose::ServerAuth,
        )
    }

    fn client(&self) -> Leaf {
        self.issue(
            vec![uri("fedmerge://digits/client/ward-3")],
            ExtendedKeyUsagePurpose::ClientAuth,
        )
    }

    fn pin(&self) -> [u8; 32] {
        public_key_sha256(&self.certificate).unwrap()
    }

    fn server_config(&self, leaf: Leaf) -> ServerConfig {
        let chain = vec![leaf.certificate, self.certificate.clone()];
        server_config(
            of(&self.certificate),
            chain,
            leaf.key,
            Clock::with_offset(0),
        )
        .unwrap()
    }

    fn client_config(&self, leaf: Leaf, clock: Clock) -> ClientConfig {
        client_config_mutual(
            self.certificate.clone(),
            vec![leaf.certificate],
            leaf.key,
            clock,
        )
        .unwrap()
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(Ia5String::try_from(name).unwrap())
}

fn uri(name: &str) -> SanType {
    SanType::URI(Ia5String::try_from(name).unwrap())
}

fn carry<A, B>(
    from: &mut ConnectionCommon<A>,
    to: &mut ConnectionCommon<B>,
) -> Result<(), rustls::Error> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}

/// Lets two ends shake hands. Answers the server's view of the client, or the error of the end that met it
/// first.
fn handshake(
    client: ClientConfig,
    server: ServerConfig,
) -> Result<ServerConnection, rustls::Error> {
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        carry(&mut client, &mut server)?;
        carry(&mut server, &mut client)?;
    }
    Ok(server)
}

/// The failure as a client finds it: two wrappings deep, one of them an `io::Error`.
fn failure_through_io(error: rustls::Error) -> Option<TlsFailure> {
    failure_of(&io::Error::other(io::Error::new(
        io::ErrorKind::InvalidData,
        error,
    )))
}

#[test]
fn a_server_whose_authority_is_pinned_is_trusted() {
    let ours = authority();
    let client = client_config_pinned(ours.pin(), Clock::with_offset(0)).unwrap();
    let server = handshake(client, ours.server_config(ours.server())).unwrap();
    assert_eq!(server.peer_certificates(), None);
    assert_eq!(server.alpn_protocol(), Some(&b"h2"[..]));
}

#[test]
fn a_server_of_another_authority_does_not_match_the_pin() {
    let (ours, theirs) = (authority(), authority());
    let client = client_config_pinned(ours.pin(), Clock::with_offset(0)).unwrap();
    let error = handshake(client, theirs.server_config(theirs.server())).unwrap_err();
    let expected = TlsFailure::AuthorityMismatch {
        expected: ours.pin(),
        found: Some(theirs.pin()),
    };
    assert_eq!(failure_through_io(error), Some(expected));
}

#[test]
fn showing_the_pinned_authority_is_not_enough_without_its_signature() {
    let (ours, theirs) = (authority(), authority());
    let leaf = theirs.server();
    let chain = vec![leaf.certificate, ours.certificate.clone()];
    let server = server_config(
        of(&theirs.certificate),
        chain,
        leaf.key,
        Clock::with_offset(0),
    )
    .unwrap();
    let client = client_config_pinned(ours.pin(), Clock::with_offset(0)).unwrap();
    let error = handshake(client, server).unwrap_err();
    assert_eq!(
        failure_through_io(error),
        Some(TlsFailure::UnknownAuthority)
    );
}

#[test]
fn a_client_certificate_does_not_make_a_server() {
    let ours = authority();
    let client = client_config_pinned(ours.pin(), Clock::with_offset(0)).unwrap();
    let error = handshake(client, ours.server_config(ours.client())).unwrap_err();
    assert_eq!(failure_through_io(error), Some(TlsFailure::WrongName));
}

#[test]
fn a_client_that_trusts_the_authority_shows_its_certificate() {
    let ours = authority();
    let client = ours.client_config(ours.client(), Clock::with_offset(0));
    let server = handshake(client, ours.server_config(ours.server())).unwrap();
    let peer = PeerCertificate::parse(&server.peer_certificates().unwrap()[0]).unwrap();
    assert_eq!(peer.federation.as_str(), "digits");
    assert_eq!(peer.identity, Identity::Client("ward-3".parse().unwrap()));
    assert!(peer.not_before < Clock::system().now() && Clock::system().now() < peer.not_after);
}

#[test]
fn a_client_whose_clock_is_a_day_behind_is_told_the_times() {
    let ours = authority();
    for config in [
        ours.client_config(ours.client(), Clock::with_offset(-DAY_SECONDS)),
        client_config_pinned(ours.pin(), Clock::with_offset(-DAY_SECONDS)).unwrap(),
    ] {
        let error = handshake(config, ours.server_config(ours.server())).unwrap_err();
        let failure = failure_through_io(error).unwrap();
        assert!(
            matches!(failure, TlsFailure::NotValidYet { now, not_before } if now < not_before),
            "{failure}"
        );
    }
}

#[test]
fn a_client_whose_clock_is_a_day_ahead_finds_the_certificate_expired() {
    let ours = authority();
    let client = ours.client_config(ours.client(), Clock::with_offset(DAY_SECONDS));
    let error = handshake(client, ours.server_config(ours.server())).unwrap_err();
    let failure = failure_through_io(error).unwrap();
    assert!(
        matches!(failure, TlsFailure::Expired { now, not_after } if now > not_after),
        "{failure}"
    );
}

#[test]
fn a_client_certificate_of_another_authority_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let client = ours.client_config(theirs.client(), Clock::with_offset(0));
    let error = handshake(client, ours.server_config(ours.server())).unwrap_err();
    assert_eq!(
        failure_through_io(error),
        Some(TlsFailure::UnknownAuthority)
    );
}

#[test]
fn an_alert_about_the_own_certificate_is_recognised() {
    let alert = rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA);
    let expected = TlsFailure::OwnCertificateRefused {
        alert: "unknown certificate authority",
    };
    assert_eq!(failure_through_io(alert), Some(expected));
}

#[test]
fn an_end_that_does_not_speak_tls_is_recognised() {
    let ours = authority();
    let client = client_config_pinned(ours.pin(), Clock::with_offset(0)).unwrap();
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    client
        .read_tls(&mut &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..])
        .unwrap();
    let error = client.process_new_packets().unwrap_err();
    assert_eq!(failure_through_io(error), Some(TlsFailure::NotTls));
}

#[test]
fn an_error_of_another_kind_is_no_tls_failure() {
    assert_eq!(
        failure_of(&io::Error::from(io::ErrorKind::ConnectionRefused)),
        None
    );
}

#[test]
fn a_certificate_tells_exactly_one_identity() {
    let ours = authority();
    let read = |names| {
        let leaf = ours.issue(names, ExtendedKeyUsagePurpose::ClientAuth);
        PeerCertificate::parse(&leaf.certificate)
    };
    let admin = read(vec![uri("fedmerge://digits/admin/root")]).unwrap();
    assert_eq!(admin.identity, Identity::Admin("root".parse().unwrap()));
    assert_eq!(
        admin.identity.uri(&admin.federation),
        "fedmerge://digits/admin/root"
    );
    assert_eq!(
        read(vec![dns("x")]),
        Err(ReadCertificateError::Names { count: 0 })
    );
    let two = vec![uri("fedmerge://a/server"), uri("fedmerge://a/client/b")];
    assert_eq!(read(two), Err(ReadCertificateError::Names { count: 2 }));
    for name in [
        "fedmerge://a",
        "fedmerge://a/root",
        "fedmerge://a/client/",
        "fedmerge://A/server",
        "fedmerge://a/client/b/c",
    ] {
        assert_eq!(
            read(vec![uri(name)]),
            Err(ReadCertificateError::Uri { uri: name.into() }),
            "{name}"
        );
    }
    assert_eq!(
        PeerCertificate::parse(b"not DER"),
        Err(ReadCertificateError::Encoding)
    );
}
