//! Who comes in with a certificate of a site's own authority, over real TLS, and who does not.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::sync::Arc;

use fedmerge_common::clock::Clock;
use fedmerge_common::identity::{Identity, Issuer};
use fedmerge_common::tls::{SERVER_NAME, client_config_pinned_with};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use time::{Duration, OffsetDateTime};
use tokio::io::AsyncReadExt;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::enrolment::authority::testbed::Federation;

/// A site's authority, and one below it that signs.
struct Site {
    root: Certificate,
    below: (Certificate, rcgen::Issuer<'static, KeyPair>),
}

struct Machine {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params
}

fn ascii(text: &str) -> Ia5String {
    text.try_into().unwrap()
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(ascii(name))
}

fn uri(name: &str) -> SanType {
    SanType::URI(ascii(name))
}

impl Site {
    fn new() -> Self {
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root_params = authority_params("site root");
        let root = root_params.self_signed(&root_key).unwrap();
        let params = authority_params("site issuing");
        let issuer = rcgen::Issuer::new(root_params, root_key);
        let below = params.signed_by(&key, &issuer).unwrap();
        Self {
            root,
            below: (below, rcgen::Issuer::new(params, key)),
        }
    }

    fn machine(&self, serial: u64, names: Vec<SanType>) -> Machine {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = OffsetDateTime::now_utc() - Duration::HOUR;
        params.not_after = OffsetDateTime::now_utc() + Duration::HOUR;
        let key = KeyPair::generate().unwrap();
        let (below, issuer) = &self.below;
        let certificate = params.signed_by(&key, issuer).unwrap();
        Machine {
            chain: vec![certificate.der().clone(), below.der().clone()],
            key,
        }
    }

    /// What the authority that signs has taken back, PEM.
    fn revocations(&self, serial: u64) -> String {
        let now = OffsetDateTime::now_utc();
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now - Duration::HOUR,
            next_update: now + Duration::HOUR,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.below.1).unwrap().pem().unwrap()
    }
}

fn settings() -> TlsSettings {
    let patterns = [
        "dns:*.wards.example",
        "uri:spiffe://site/fed/*",
        "email:*@site.example",
    ];
    TlsSettings {
        client_ca: Some("site.pem".into()),
        client_names: patterns.map(|text| text.parse().unwrap()).to_vec(),
        client_labels: Labels::from([("site".to_owned(), "north".to_owned())]),
        ..TlsSettings::default()
    }
}

/// A federation that takes certificates of a site.
fn taking(site: &Site, settings: &TlsSettings) -> Federation {
    let mut federation = Federation::new();
    let path = federation.directory.root().join("site.pem");
    fs::write(path, site.root.pem()).unwrap();
    federation.site = SiteAuthority::read(&federation.directory, settings).unwrap();
    federation
}

/// Whom the server sees when a machine connects.
async fn seen(federation: &Federation, machine: &Machine) -> Result<PeerCertificate, String> {
    let server = federation.server_tls();
    let server = Arc::clone(&server.borrow());
    let key = PrivateKeyDer::try_from(machine.key.serialize_der()).unwrap();
    let chain = machine.chain.clone();
    let pin = federation.authority.pin();
    let client = client_config_pinned_with(pin, chain, key, Clock::with_offset(0)).unwrap();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    let acceptor = TlsAcceptor::from(Arc::clone(&server.config));
    let connecting = async {
        let mut stream = connector.connect(name, near).await?;
        // The server's refusal of a certificate comes after the handshake.
        stream.read_u8().await
    };
    let accepting = async {
        let stream = acceptor
            .accept(far)
            .await
            .map_err(|error| error.to_string())?;
        let shown = stream.get_ref().1.peer_certificates().unwrap();
        let owner = server.names.owner(&shown[0]);
        owner.map_err(|error| error.to_string())
    };
    let (_, seen) = tokio::join!(connecting, accepting);
    seen
}

#[tokio::test]
async fn a_machine_of_the_site_is_the_client_that_its_certificate_names() {
    let site = Site::new();
    let federation = taking(&site, &settings());
    for name in [
        dns("Ward-3.wards.example"),
        uri("spiffe://site/fed/ward-3"),
        SanType::Rfc822Name(ascii("ward-3@site.example")),
    ] {
        let label = uri("fedmerge-label:tier=edge");
        let machine = site.machine(7, vec![name, label, dns("other.example")]);
        let seen = seen(&federation, &machine).await.unwrap();
        assert_eq!(seen.identity, Identity::Client("ward-3".parse().unwrap()));
        assert_eq!(seen.issuer, Issuer::Site);
        assert_eq!(seen.federation.as_str(), "digits");
        let labels: Vec<_> = seen
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        assert_eq!(labels, ["site=north", "tier=edge"]);
    }
}

#[tokio::test]
async fn a_site_makes_no_administrators_and_no_clients_beside_its_names() {
    let site = Site::new();
    let federation = taking(&site, &settings());
    for (names, words) in [
        (vec![uri("fedmerge://digits/admin/root")], "fit none of"),
        (vec![uri("fedmerge://digits/client/ward-3")], "fit none of"),
        (vec![dns("a.b.wards.example")], "fit none of"),
        (vec![dns("wards.example")], "fit none of"),
        (vec![uri("spiffe://site/fed/a/b")], "fit none of"),
        (vec![uri("spiffe://site/fed/UPPER CASE")], "fit none of"),
        (vec![], "(none) fit none of"),
        (
            vec![dns("a.wards.example"), dns("b.wards.example")],
            "more than one client",
        ),
    ] {
        let error = seen(&federation, &site.machine(7, names))
            .await
            .unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    let another = Site::new();
    let machine = another.machine(7, vec![dns("ward-3.wards.example")]);
    let error = seen(&federation, &machine).await.unwrap_err();
    assert!(error.contains("invalid peer certificate"), "{error}");
}

#[tokio::test]
async fn what_the_site_has_taken_back_does_not_come_in() {
    let site = Site::new();
    let settings = TlsSettings {
        client_crl: Some("site.crl".into()),
        ..settings()
    };
    let mut federation = taking(&site, &self::settings());
    let path = federation.directory.root().join("site.crl");
    fs::write(path, site.revocations(13)).unwrap();
    federation.site = SiteAuthority::read(&federation.directory, &settings).unwrap();
    let names = || vec![dns("ward-3.wards.example")];
    let error = seen(&federation, &site.machine(13, names()))
        .await
        .unwrap_err();
    assert!(error.contains("Revoked"), "{error}");
    assert!(seen(&federation, &site.machine(14, names())).await.is_ok());
}

#[test]
fn a_file_that_is_no_authority_is_named() {
    let federation = Federation::new();
    let read = || {
        SiteAuthority::read(&federation.directory, &settings())
            .unwrap_err()
            .to_string()
    };
    let path = federation.directory.root().join("site.pem");
    assert!(read().contains("site.pem cannot be read"), "{}", read());
    for (text, words) in [
        ("", "holds no certificate"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "number 1 is no certificate",
        ),
        (
            "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n",
            "is damaged",
        ),
    ] {
        fs::write(&path, text).unwrap();
        assert!(read().contains(words), "{}", read());
    }
    assert!(
        SiteAuthority::read(&federation.directory, &TlsSettings::default())
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_pattern_says_where_the_name_stands() {
    for text in [
        "dns:*.wards.example",
        "uri:spiffe://a/*/b",
        "email:*@a.example",
        "dns:ward-*",
    ] {
        assert_eq!(text.parse::<NamePattern>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "*",
        "dns:*",
        "dns:a.example",
        "dns:*.*",
        "ip:*1",
        "*.a.example",
    ] {
        assert!(text.parse::<NamePattern>().is_err(), "{text}");
    }
}
