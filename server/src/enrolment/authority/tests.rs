//! Handshakes between what an authority hands out, and what becomes of wrong files and wrong requests.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::identity::PeerCertificate;
use fedmerge_common::tls::{SERVER_NAME, TlsFailure, failure_of};
use rcgen::{
    CertificateParams, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType,
};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::testbed::{Federation, certificate_request};
use super::*;
use crate::enrolment::keeper::Newest;

const DAY_SECONDS: i64 = 86_400;
const HOUR: Millis = Millis::from_secs(3600);

fn now() -> Timestamp {
    Clock::with_offset(0).now()
}

fn client() -> ClientId {
    "ward-3".parse().unwrap()
}

/// Lets two ends shake hands. Answers whom the server sees, or the client's error before the server's.
async fn handshake(
    server: Newest<ServerTls>,
    client: ClientConfig,
) -> Result<Option<PeerCertificate>, io::Error> {
    let server = Arc::clone(&server.borrow().config);
    handshake_with(server, client).await
}

async fn handshake_with(
    server: Arc<ServerConfig>,
    client: ClientConfig,
) -> Result<Option<PeerCertificate>, io::Error> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    let acceptor = TlsAcceptor::from(server);
    let (near, far) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
    near?;
    let far = far?;
    let shown = far.get_ref().1.peer_certificates();
    Ok(shown.map(|chain| PeerCertificate::parse(&chain[0]).unwrap()))
}

#[tokio::test]
async fn a_machine_that_knows_the_pin_trusts_the_server() {
    let ours = Federation::new();
    let pinned = ours.pinned_tls(Clock::with_offset(0));
    assert_eq!(handshake(ours.server_tls(), pinned).await.unwrap(), None);
}

#[tokio::test]
async fn the_administrator_of_the_machine_is_recognised() {
    let ours = Federation::new();
    let peer = handshake(ours.server_tls(), ours.admin_tls())
        .await
        .unwrap();
    let peer = peer.unwrap();
    assert_eq!(peer.identity, Identity::Admin("admin".parse().unwrap()));
    assert_eq!(peer.federation.as_str(), "digits");
}

#[tokio::test]
async fn an_admitted_client_is_recognised_by_its_name_and_key() {
    let ours = Federation::new();
    let enrolled = ours.enrol(&client());
    let peer = handshake(ours.server_tls(), enrolled.tls).await.unwrap();
    let peer = peer.unwrap();
    assert_eq!(peer.identity, Identity::Client(client()));
    assert_eq!(peer.federation, *ours.authority.federation());
    assert_eq!(peer.public_key_sha256, enrolled.key_sha256);
}

#[tokio::test]
async fn an_authority_that_was_read_again_admits_clients_too() {
    let mut ours = Federation::new();
    let pin = ours.authority.pin();
    ours.authority = Authority::load(&ours.directory, Clock::system().now()).unwrap();
    assert_eq!(ours.authority.pin(), pin);
    assert_eq!(ours.authority.federation().as_str(), "digits");
    let enrolled = ours.enrol(&client());
    assert!(handshake(ours.server_tls(), enrolled.tls).await.is_ok());
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused() {
    let (ours, theirs) = (Federation::new(), Federation::new());
    let pinned = ours.pinned_tls(Clock::with_offset(0));
    let error = handshake(theirs.server_tls(), pinned).await.unwrap_err();
    let expected = TlsFailure::AuthorityMismatch {
        expected: ours.authority.pin(),
        found: Some(theirs.authority.pin()),
    };
    assert_eq!(failure_of(&error), Some(expected));
}

#[tokio::test]
async fn a_client_of_another_authority_is_refused() {
    let (ours, theirs) = (Federation::new(), Federation::new());
    let stranger = theirs.enrol(&client()).tls;
    let error = handshake(ours.server_tls(), stranger).await.unwrap_err();
    assert_eq!(failure_of(&error), Some(TlsFailure::UnknownAuthority));
}

#[tokio::test]
async fn a_machine_whose_clock_is_a_day_behind_is_told_so() {
    let ours = Federation::new();
    let pinned = ours.pinned_tls(Clock::with_offset(-DAY_SECONDS));
    let error = handshake(ours.server_tls(), pinned).await.unwrap_err();
    assert!(matches!(
        failure_of(&error),
        Some(TlsFailure::NotValidYet { .. })
    ));
}

#[tokio::test]
async fn a_machine_whose_clock_is_half_an_hour_behind_is_served() {
    let ours = Federation::new();
    let pinned = ours.pinned_tls(Clock::with_offset(-1800));
    assert!(handshake(ours.server_tls(), pinned).await.is_ok());
}

#[tokio::test]
async fn what_a_request_asks_for_besides_its_key_is_ignored() {
    let ours = Federation::new();
    let key = KeyPair::generate().unwrap();
    let mut wish = CertificateParams::new(vec![SERVER_NAME.to_owned()]).unwrap();
    let uri = "fedmerge://digits/admin/admin".try_into().unwrap();
    wish.subject_alt_names.push(SanType::URI(uri));
    wish.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    wish.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let request = wish.serialize_request(&key).unwrap();
    let certificate = ours
        .authority
        .admit((&client(), &Labels::new()), request.der(), now(), HOUR)
        .unwrap();

    let content = PeerCertificate::parse(&certificate).unwrap();
    assert_eq!(content.identity, Identity::Client(client()));
    let (_, parsed) = X509Certificate::from_der(&certificate).unwrap();
    assert!(!parsed.is_ca());
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth);
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names.len(), 1);
}

#[test]
fn a_client_certificate_lives_as_long_as_it_should() {
    let ours = Federation::new();
    let request = certificate_request(&KeyPair::generate().unwrap());
    let at = Timestamp::new(1_800_000_000_000);
    let admit = |life| {
        let certificate = ours
            .authority
            .admit((&client(), &Labels::new()), &request, at, life)
            .unwrap();
        PeerCertificate::parse(&certificate).unwrap()
    };
    let (one, other) = (admit(HOUR), admit(Millis::new(u64::MAX)));
    // Backdated by an hour, or by half of a short life.
    let half = Millis::new(HOUR.get() / 2);
    assert_eq!((one.not_before, one.not_after), (at - half, at + HOUR));
    assert_eq!(other.not_before, at - HOUR);
    // 9999-12-31T23:59:59Z.
    assert_eq!(other.not_after.unix_seconds(), 253_402_300_799);
    assert_ne!(one.serial, other.serial);
    assert_eq!((one.serial.len(), other.serial.len()), (32, 32));
}

#[test]
fn the_key_of_a_request_is_that_of_its_certificate() {
    let ours = Federation::new();
    for kind in [
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_ED25519,
    ] {
        let request = certificate_request(&KeyPair::generate_for(kind).unwrap());
        let certificate = ours
            .authority
            .admit((&client(), &Labels::new()), &request, now(), HOUR);
        assert_eq!(
            Authority::request_key(&request).unwrap(),
            public_key_sha256(&certificate.unwrap()).unwrap()
        );
    }
}

#[test]
fn a_request_that_its_own_key_did_not_sign_is_refused() {
    let ours = Federation::new();
    let request = certificate_request(&KeyPair::generate().unwrap());
    let flipped = |position: usize| {
        let mut spoilt = request.clone();
        spoilt[position] ^= 1;
        spoilt
    };
    let longer = [&request[..], b"\0"].concat();
    for wrong in [
        Vec::new(),
        b"not DER".to_vec(),
        request[..request.len() - 1].to_vec(),
        longer,
        flipped(request.len() - 1),
        flipped(request.len() / 2),
    ] {
        let error = ours
            .authority
            .admit((&client(), &Labels::new()), &wrong, now(), HOUR)
            .unwrap_err();
        assert!(matches!(error, SignError::Request(_)), "{error:?}");
        assert!(Authority::request_key(&wrong).is_err());
    }
}

#[test]
fn keys_are_readable_by_their_owner_alone() {
    let ours = Federation::new();
    let directory = &ours.directory;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory.identity()), 0o700);
    for key in [
        directory.authority_key(),
        directory.key(),
        directory.admin_key(),
    ] {
        assert_eq!(mode(&key), 0o600, "{}", key.display());
    }
}

#[test]
fn an_identity_is_never_overwritten() {
    let ours = Federation::new();
    let before = fs::read(ours.directory.authority_key()).unwrap();
    let error = Authority::create(&ours.directory, ours.authority.federation(), now()).unwrap_err();
    assert!(matches!(error, CreateAuthorityError::Exists { .. }));
    assert_eq!(Failure::from(error).exit, ExitCode::BadConfiguration);
    assert_eq!(fs::read(ours.directory.authority_key()).unwrap(), before);
}

#[test]
fn what_an_attempt_that_was_cut_off_left_behind_is_replaced() {
    let root = tempfile::tempdir().unwrap();
    let directory = ServerDirectory::new(root.path());
    fs::create_dir(directory.identity()).unwrap();
    let partial = root.path().join("identity.partial");
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join("ca.key"), "half").unwrap();
    Authority::create(&directory, &"digits".parse().unwrap(), now()).unwrap();
    assert!(!partial.exists());
    Authority::load(&directory, Clock::system().now()).unwrap();
}

fn load_failure(directory: &ServerDirectory) -> Failure {
    Failure::from(Authority::load(directory, Clock::system().now()).unwrap_err())
}

#[test]
fn a_directory_without_an_identity_says_how_to_make_one() {
    let root = tempfile::tempdir().unwrap();
    let directory = ServerDirectory::new(root.path());
    let failure = load_failure(&directory);
    assert_eq!(failure.exit, ExitCode::BadConfiguration);
    assert!(failure.message.ends_with("identity/ca.pem is missing"));
    assert_eq!(
        failure.hint.as_deref(),
        Some("make a server: fedmerge server init DIR")
    );
}

#[test]
fn a_damaged_file_is_named() {
    for spoil in [
        ServerDirectory::authority_certificate,
        ServerDirectory::authority_key,
        ServerDirectory::certificate,
    ] {
        let ours = Federation::new();
        let path = spoil(&ours.directory);
        fs::write(&path, "spilt coffee").unwrap();
        let failure = load_failure(&ours.directory);
        assert_eq!(failure.exit, ExitCode::BadConfiguration);
        assert_eq!(failure.message, format!("{} is damaged", path.display()));
    }
}

#[test]
fn files_of_another_owner_are_found_out() {
    let (ours, theirs) = (Federation::new(), Federation::new());
    fs::copy(
        theirs.directory.authority_key(),
        ours.directory.authority_key(),
    )
    .unwrap();
    let error = Authority::load(&ours.directory, Clock::system().now()).unwrap_err();
    assert!(
        matches!(error, LoadAuthorityError::Mismatch { .. }),
        "{error}"
    );

    fs::copy(
        theirs.directory.admin_certificate(),
        theirs.directory.certificate(),
    )
    .unwrap();
    let error = Authority::load(&theirs.directory, Clock::system().now()).unwrap_err();
    assert!(matches!(error, LoadAuthorityError::Owner { .. }), "{error}");
}

#[test]
fn a_server_key_of_another_certificate_is_found_out() {
    let ours = Federation::new();
    fs::copy(ours.directory.admin_key(), ours.directory.key()).unwrap();
    let error = ours
        .authority
        .server_tls(&ours.directory, None, Clock::with_offset(0))
        .unwrap_err();
    assert!(matches!(error, LoadAuthorityError::Tls { .. }), "{error}");
}

#[tokio::test]
async fn certificates_are_renewed_for_the_same_keys_when_two_thirds_of_their_life_are_over() {
    let ours = Federation::new();
    let paths = [
        ours.directory.certificate(),
        ours.directory.admin_certificate(),
    ];
    let read = || {
        paths
            .clone()
            .map(|path| Stored::read(path).unwrap().content)
    };
    let first = read();
    let at = |days: i64| Clock::with_offset(days * DAY_SECONDS);

    let tls = |clock| ours.authority.server_tls(&ours.directory, None, clock);
    tls(at(240)).unwrap();
    assert_eq!(read(), first);

    let late = at(250);
    let tls = tls(late).unwrap();
    for (old, new) in first.iter().zip(&read()) {
        assert!(new.not_after - old.not_after > Millis::from_secs(249 * 86_400));
        assert_eq!(new.public_key_sha256, old.public_key_sha256);
        assert_eq!(new.identity, old.identity);
    }
    let admin = Authority::admin_tls(&ours.directory, late).unwrap();
    assert!(handshake_with(tls.config, admin).await.is_ok());
}

#[test]
fn an_administrator_whose_files_are_kept_elsewhere_does_not_stop_the_server() {
    let ours = Federation::new();
    fs::remove_file(ours.directory.admin_certificate()).unwrap();
    fs::remove_file(ours.directory.admin_key()).unwrap();
    assert!(
        ours.authority
            .server_tls(&ours.directory, None, Clock::with_offset(0))
            .is_ok()
    );
    let error = Authority::admin_tls(&ours.directory, Clock::with_offset(0)).unwrap_err();
    assert!(
        matches!(error, LoadAuthorityError::Missing { .. }),
        "{error}"
    );
}

#[test]
fn an_administrator_whose_certificate_is_over_is_told_the_times() {
    let ours = Federation::new();
    let late = Clock::with_offset(400 * DAY_SECONDS);
    let failure = Failure::from(Authority::admin_tls(&ours.directory, late).unwrap_err());
    assert_eq!(failure.exit, ExitCode::NotPermitted);
    assert!(failure.message.contains("admin.pem is valid from"));
}

#[tokio::test]
async fn whoever_knows_the_old_authority_is_served_while_the_new_one_overlaps_with_it_and_not_afterwards()
 {
    let mut ours = Federation::new();
    let (before, after) = (Clock::with_offset(0), Clock::with_offset(46 * DAY_SECONDS));
    let (early, late) = (ours.enrol(&client()).tls, ours.pinned_tls(after));
    let pinned = ours.pinned_tls(before);
    let overlap = Millis::from_secs(45 * 86_400);
    let new = ours.authority.rotate(&ours.directory, now(), overlap);
    ours.authority = new.unwrap();

    // With the new authority's certificates, and with the old one's.
    let newcomer = ours.enrol(&client()).tls;
    for tls in [
        early,
        pinned,
        newcomer,
        ours.pinned_tls(before),
        ours.admin_tls(),
    ] {
        handshake(ours.server_tls(), tls).await.unwrap();
    }
    let tls = ours.authority.server_tls(&ours.directory, None, after);
    let error = handshake_with(tls.unwrap().config, late).await.unwrap_err();
    let failure = failure_of(&error).unwrap();
    assert!(
        matches!(failure, TlsFailure::AuthorityMismatch { .. }),
        "{failure}"
    );
}
