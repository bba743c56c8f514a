//! Joining: what a directory holds afterwards, and what each refusal says.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use fedmerge_common::join::Secret;
use fedmerge_common::renewal::statement;
use fedmerge_proto::convert::enrolment::RenewalRequest;
use fedmerge_proto::status::{Refusal, RefusalReason};
use fedmerge_proto::v1::enrolment_server::{Enrolment, EnrolmentServer};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::renewal::Renewer;
use super::*;
use crate::testbed::{Authority, Served, client_id, federation, serve};

/// Answers as told, else signs.
struct Registrar {
    authority: Arc<Authority>,
    /// Answers that are still to be lost on their way.
    losses: Arc<AtomicUsize>,
    /// Public keys that were signed.
    keys: Arc<Mutex<Vec<[u8; 32]>>>,
    refusal: Option<RefusalReason>,
    no_renewal: Arc<Mutex<Option<RefusalReason>>>,
    spoil: fn(&mut v1::EnrolResponse),
}

#[tonic::async_trait]
impl Enrolment for Registrar {
    async fn enrol(
        &self,
        request: Request<v1::EnrolRequest>,
    ) -> Result<Response<v1::EnrolResponse>, Status> {
        let request = request.into_inner();
        if let Some(reason) = self.refusal {
            return Err(Refusal::new(reason, "because").into());
        }
        let client = request.client_id.parse().unwrap();
        let certificate = self.authority.sign(&request.certificate_request, &client);
        let mut response = v1::EnrolResponse {
            client_id: request.client_id,
            federation: federation().to_string(),
            certificate: certificate.to_vec().into(),
            change: None,
            authority: self.authority.certificate.to_vec().into(),
            server_time_ms: 0,
        };
        let signed = PeerCertificate::parse(&certificate).unwrap();
        self.keys.lock().unwrap().push(signed.public_key_sha256);
        let lose = |left: usize| left.checked_sub(1);
        if self.losses.fetch_update(SeqCst, SeqCst, lose).is_ok() {
            return Err(Status::unavailable("the answer was lost"));
        }
        (self.spoil)(&mut response);
        Ok(Response::new(response))
    }

    /// Renews what was signed as a client signs it, and spoils the answer as it would spoil that of an enrolment.
    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        let request = RenewalRequest::try_from(request.into_inner()).unwrap();
        if let Some(reason) = *self.no_renewal.lock().unwrap() {
            return Err(Refusal::new(reason, "because").into());
        }
        let wish = &request.certificate_request;
        let words = statement(&federation(), &request.client, request.client_time, wish);
        request.proof.verify(&words).unwrap();
        let certificate = self.authority.sign(wish, &request.client);
        let signed = PeerCertificate::parse(&certificate).unwrap();
        self.keys.lock().unwrap().push(signed.public_key_sha256);
        let lose = |left: usize| left.checked_sub(1);
        if self.losses.fetch_update(SeqCst, SeqCst, lose).is_ok() {
            return Err(Status::unavailable("the answer was lost"));
        }
        Ok(Response::new(v1::RenewResponse {
            certificate: certificate.to_vec().into(),
            change: None,
            authority: self.authority.certificate.to_vec().into(),
            server_time_ms: 0,
        }))
    }
}

struct Bench {
    root: tempfile::TempDir,
    authority: Arc<Authority>,
    losses: Arc<AtomicUsize>,
    keys: Arc<Mutex<Vec<[u8; 32]>>>,
    no_renewal: Arc<Mutex<Option<RefusalReason>>>,
    served: Served,
}

impl Bench {
    async fn new(refusal: Option<RefusalReason>, spoil: fn(&mut v1::EnrolResponse)) -> Self {
        let authority = Arc::new(Authority::new());
        let (losses, keys, no_renewal) = (Arc::default(), Arc::default(), Arc::default());
        let registrar = Registrar {
            authority: Arc::clone(&authority),
            losses: Arc::clone(&losses),
            keys: Arc::clone(&keys),
            refusal,
            no_renewal: Arc::clone(&no_renewal),
            spoil,
        };
        let served = serve(&authority, Routes::new(EnrolmentServer::new(registrar))).await;
        Self {
            root: tempfile::tempdir().unwrap(),
            authority,
            losses,
            keys,
            no_renewal,
            served,
        }
    }

    fn directory(&self) -> ClientDirectory {
        ClientDirectory::new(self.root.path().join("ward-3"))
    }

    fn settings(&self) -> Settings {
        Settings::read(&self.directory()).unwrap()
    }

    fn wish(&self) -> Wish {
        Wish {
            server: self.served.address.clone(),
            join: JoinString {
                authority_pin: self.authority.pin(),
                token: "t1".parse().unwrap(),
                secret: Secret::new("s3cret"),
            },
            client: client_id(),
            wait: Millis::new(0),
        }
    }

    async fn enrol(&self, wish: &Wish) -> Result<Settings, Failure> {
        let quiet = Output {
            quiet: true,
            ..Output::default()
        };
        enrol(&self.directory(), wish, &quiet).await
    }
}

async fn refused(reason: RefusalReason) -> Failure {
    let bench = Bench::new(Some(reason), |_| {}).await;
    let failure = bench.enrol(&bench.wish()).await.unwrap_err();
    assert!(!bench.directory().settings().exists());
    failure
}

#[tokio::test]
async fn a_client_whose_certificate_has_expired_comes_back_with_its_key() {
    let bench = Bench::new(None, |_| {}).await;
    let directory = bench.directory();
    bench.enrol(&bench.wish()).await.unwrap();
    let again = bench.enrol(&bench.wish()).await.unwrap_err();
    assert_eq!(again.exit, ExitCode::Usage, "{again}");

    let key = identity::key(&directory).unwrap();
    let request = identity::certificate_request(&key).unwrap();
    let expired = bench.authority.sign_expired(&request, &client_id());
    identity::store(&directory, &expired, &bench.authority.certificate).unwrap();
    identity::load(&directory, &bench.settings(), &Clock::system()).unwrap_err();
    let other = Wish {
        client: "ward-4".parse().unwrap(),
        ..bench.wish()
    };
    assert_eq!(bench.enrol(&other).await.unwrap_err().exit, ExitCode::Usage);

    bench.enrol(&bench.wish()).await.unwrap();
    identity::load(&directory, &bench.settings(), &Clock::system()).unwrap();
    let keys = bench.keys.lock().unwrap();
    assert_eq!(keys[0], keys[1]);
}

#[tokio::test]
async fn a_join_string_becomes_a_directory_that_can_connect() {
    let bench = Bench::new(None, |_| {}).await;
    let settings = bench.enrol(&bench.wish()).await.unwrap();
    let directory = bench.directory();
    assert_eq!(settings.client, client_id());
    assert_eq!(Settings::read(&directory).unwrap(), settings);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory.key()), 0o600);
    assert_eq!(mode(&directory.identity()), 0o700);
    identity::load(&directory, &bench.settings(), &Clock::system()).unwrap();
}

#[tokio::test]
async fn an_enrolled_directory_is_never_overwritten() {
    let bench = Bench::new(None, |_| {}).await;
    bench.enrol(&bench.wish()).await.unwrap();
    let key = fs::read(bench.directory().key()).unwrap();
    let failure = bench.enrol(&bench.wish()).await.unwrap_err();
    assert_eq!(failure.exit, ExitCode::Usage);
    assert!(
        failure
            .message
            .ends_with("already the directory of client ward-3 of federation digits")
    );
    assert_eq!(fs::read(bench.directory().key()).unwrap(), key);
}

#[tokio::test]
async fn an_enrolment_that_was_cut_off_goes_on_with_its_key() {
    let bench = Bench::new(None, |_| {}).await;
    let key = identity::key(&bench.directory()).unwrap().serialize_pem();
    bench.enrol(&bench.wish()).await.unwrap();
    assert_eq!(fs::read_to_string(bench.directory().key()).unwrap(), key);
}

#[tokio::test]
async fn an_answer_that_was_lost_is_asked_for_again_with_the_same_key() {
    let bench = Bench::new(None, |_| {}).await;
    bench.losses.store(3, SeqCst);
    let failure = bench.enrol(&bench.wish()).await.unwrap_err();
    assert_eq!(failure.exit, ExitCode::Unavailable);
    assert!(!bench.directory().settings().exists());
    let patient = Wish {
        wait: Millis::from_secs(30),
        ..bench.wish()
    };
    bench.enrol(&patient).await.unwrap();
    let keys = bench.keys.lock().unwrap();
    assert_eq!(keys.len(), 4);
    assert!(keys.iter().all(|key| *key == keys[0]));
    identity::load(&bench.directory(), &bench.settings(), &Clock::system()).unwrap();
}

#[tokio::test]
async fn another_authority_than_the_pinned_one_is_refused_with_both_fingerprints() {
    let bench = Bench::new(None, |_| {}).await;
    let mut wish = bench.wish();
    wish.join.authority_pin = [0xaa; 32];
    let failure = bench.enrol(&wish).await.unwrap_err();
    assert_eq!(failure.exit, ExitCode::NotPermitted);
    let found = fedmerge_common::hex::encode(&bench.authority.pin());
    assert!(
        failure.message.contains(&"aa".repeat(32)) && failure.message.contains(&found),
        "{failure}"
    );
    assert!(
        failure
            .hint
            .unwrap()
            .contains("is not the one that made this token")
    );
}

#[tokio::test]
async fn a_token_that_is_wrong_used_up_or_expired_says_what_to_do() {
    let wrong = refused(RefusalReason::TokenUnknown).await;
    assert_eq!(wrong.exit, ExitCode::NotPermitted);
    assert!(wrong.hint.unwrap().contains("paste the whole join string"));
    for reason in [
        RefusalReason::TokenUsedUp,
        RefusalReason::TokenExpired,
        RefusalReason::TokenRevoked,
    ] {
        let failure = refused(reason).await;
        assert_eq!(failure.exit, ExitCode::NotPermitted);
        assert!(failure.hint.unwrap().contains("ask for a new token"));
    }
}

#[tokio::test]
async fn a_taken_name_and_a_skewed_clock_say_what_to_do() {
    let taken = refused(RefusalReason::NameTaken).await;
    assert!(taken.hint.unwrap().contains("--name"));
    let skewed = refused(RefusalReason::ClockSkew).await;
    assert_eq!(skewed.exit, ExitCode::BadConfiguration);
    assert!(skewed.hint.unwrap().contains("this machine's clock says"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let bench = Bench::new(None, |_| {}).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let wish = Wish {
        server: free.to_string().parse().unwrap(),
        ..bench.wish()
    };
    let failure = bench.enrol(&wish).await.unwrap_err();
    assert_eq!(failure.exit, ExitCode::Unavailable);
    assert_eq!(
        failure.message,
        format!("server at {free} is not reachable (connection refused)")
    );
}

#[tokio::test]
async fn an_answer_that_does_not_fit_the_wish_is_refused() {
    let spoilers: [fn(&mut v1::EnrolResponse); 4] = [
        |response| response.certificate = bytes::Bytes::from_static(b"not a certificate"),
        |response| response.authority = Authority::new().certificate.to_vec().into(),
        |response| response.federation = "other".to_owned(),
        |response| {
            let other = Authority::new();
            let key = rcgen::KeyPair::generate().unwrap();
            let request = identity::certificate_request(&key).unwrap();
            response.certificate = other.sign(&request, &client_id()).to_vec().into();
        },
    ];
    for spoil in spoilers {
        let bench = Bench::new(None, spoil).await;
        let failure = bench.enrol(&bench.wish()).await.unwrap_err();
        assert_eq!(failure.exit, ExitCode::BadData, "{failure}");
        assert!(!bench.directory().settings().exists());
    }
}

#[tokio::test]
async fn a_certificate_outside_its_life_asks_for_the_clock_or_a_new_enrolment() {
    let bench = Bench::new(None, |_| {}).await;
    bench.enrol(&bench.wish()).await.unwrap();
    for (offset_seconds, words) in [(86_400, "expired at"), (-86_400, "is not valid before")] {
        let clock = Clock::with_offset(offset_seconds);
        let failure = identity::load(&bench.directory(), &bench.settings(), &clock).unwrap_err();
        assert_eq!(failure.exit, ExitCode::NotPermitted);
        assert!(failure.message.contains(words), "{failure}");
        assert!(failure.hint.unwrap().contains("check the clock"));
    }
}

impl Bench {
    /// The directory of a client whose certificate has just ended, and what renews it.
    async fn expired(&self) -> Renewer {
        let settings = self.enrol(&self.wish()).await.unwrap();
        let directory = self.directory();
        let key = identity::key(&directory).unwrap();
        let request = identity::certificate_request(&key).unwrap();
        let expired = self.authority.sign_expired(&request, &client_id());
        identity::store(&directory, &expired, &self.authority.certificate).unwrap();
        let quiet = Output {
            quiet: true,
            ..Output::default()
        };
        Renewer::new(&directory, &settings, quiet).unwrap()
    }

    fn key_on_disk(&self) -> [u8; 32] {
        identity::public_key_of(&identity::key(&self.directory()).unwrap())
    }
}

#[tokio::test]
async fn a_certificate_that_has_ended_is_renewed_for_a_new_key_whatever_gets_lost() {
    let bench = Bench::new(None, |_| {}).await;
    let renewer = bench.expired().await;
    let old = bench.key_on_disk();
    bench.losses.store(2, SeqCst);
    renewer.revive().await.unwrap();
    identity::load(&bench.directory(), &bench.settings(), &Clock::system()).unwrap();
    let new = bench.key_on_disk();
    assert_ne!(new, old);
    // Each loss was asked for again with the same key.
    assert_eq!(bench.keys.lock().unwrap()[1..], [new; 3]);
    assert!(!bench.directory().next_key().exists());
    // What is not over is left as it is.
    renewer.revive().await.unwrap();
    assert_eq!(bench.key_on_disk(), new);
}

#[tokio::test]
async fn a_renewal_that_broke_off_between_its_files_is_ended_by_the_next_process() {
    let bench = Bench::new(None, |_| {}).await;
    let renewer = bench.expired().await;
    let directory = bench.directory();
    let old_key = fs::read(directory.key()).unwrap();
    let old_certificate = fs::read(directory.certificate()).unwrap();
    renewer.revive().await.unwrap();
    let (key, certificate) = (
        fs::read(directory.key()).unwrap(),
        fs::read(directory.certificate()).unwrap(),
    );
    for has_key_moved in [false, true] {
        // Both are beside their places, or the key is in its place already.
        fs::write(directory.certificate(), &old_certificate).unwrap();
        fs::write(directory.next_certificate(), &certificate).unwrap();
        if !has_key_moved {
            fs::write(directory.key(), &old_key).unwrap();
            fs::write(directory.next_key(), &key).unwrap();
        }
        identity::load(&directory, &bench.settings(), &Clock::system()).unwrap();
        assert_eq!(fs::read(directory.key()).unwrap(), key);
        assert_eq!(fs::read(directory.certificate()).unwrap(), certificate);
        assert!(!directory.next_key().exists() && !directory.next_certificate().exists());
    }
}

#[tokio::test]
async fn a_client_that_may_not_renew_any_more_says_why_and_what_to_do() {
    let bench = Bench::new(None, |_| {}).await;
    let renewer = bench.expired().await;
    for (reason, hint) in [
        (RefusalReason::ClientEvicted, "enrol again"),
        (RefusalReason::CertificateExpired, "enrol again"),
        (RefusalReason::ClientLocked, "clients approve"),
    ] {
        *bench.no_renewal.lock().unwrap() = Some(reason);
        let failure = renewer.revive().await.unwrap_err();
        assert_eq!(failure.exit, ExitCode::NotPermitted);
        assert!(failure.message.contains(reason.name()), "{failure}");
        assert!(failure.hint.unwrap().contains(hint));
    }
}
