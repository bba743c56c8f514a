//! Renewal: a client gets its next certificate, for a new key, when two thirds of the life of the one that it has are over.
//!
//! The new key is on disk before it is asked about, and the same key is asked about again until it is answered, so that an answer
//! that was lost costs nothing. Clients that enrolled together do not come together: each waits a while of its own.

use std::sync::Arc;
use std::time::Duration;

use fedmerge_common::authority::is_signed_by;
use fedmerge_common::clock::Clock;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::identity::{Identity, PeerCertificate, public_key_sha256};
use fedmerge_common::output::Output;
use fedmerge_common::renewal::statement;
use fedmerge_common::tls;
use fedmerge_common::units::Timestamp;
use fedmerge_proto::status::RefusalReason;
use fedmerge_proto::v1;
use fedmerge_proto::v1::enrolment_client::EnrolmentClient;
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use serde_json::json;
use tokio::time::sleep;

use super::{follows, identity};
use crate::link::trouble::{Trouble, ends_the_client};
use crate::link::{Greeting, Link};
use crate::settings::{ClientDirectory, Settings};
use crate::transfer::download::blocking;

/// Longest sleep: a machine that was suspended notices after it that a certificate has aged.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// The part of what is left of a certificate's life by which clients spread their renewals.
const SPREAD: f64 = 0.25;

/// What renews the certificate of one client.
#[derive(Debug)]
pub struct Renewer {
    directory: ClientDirectory,
    settings: Settings,
    link: Link,
    clock: Clock,
    output: Output,
}

/// A certificate that cannot be renewed, or not now.
#[derive(Debug)]
enum RenewError {
    /// The server, or the way to it.
    Server(Trouble),
    /// This machine.
    Here(Failure),
}

impl From<Failure> for RenewError {
    fn from(failure: Failure) -> Self {
        Self::Here(failure)
    }
}

impl Renewer {
    /// For the client of a directory.
    ///
    /// # Errors
    /// When the directory's identity cannot be read.
    pub fn new(
        directory: &ClientDirectory,
        settings: &Settings,
        output: Output,
    ) -> Result<Self, Failure> {
        let clock = Clock::system();
        let tls = without_certificate(directory, clock)?;
        Ok(Self {
            directory: directory.clone(),
            settings: settings.clone(),
            link: Link::new(settings.server.clone(), tls, Greeting::None, output),
            clock,
            output,
        })
    }

    /// Renews a certificate that has ended, as long as that takes; leaves every other as it is.
    ///
    /// # Errors
    /// When the server does not renew it any more.
    pub async fn revive(&self) -> Result<(), Failure> {
        identity::settle(&self.directory)?;
        let until = identity::certificate(&self.directory)?.not_after;
        if self.clock.now() < until {
            return Ok(());
        }
        self.output.note(format_args!(
            "this client's certificate ended at {until}: renewing it"
        ));
        let mut retry = self.link.retry();
        loop {
            match self.renew().await {
                Ok(_) => return Ok(()),
                Err(RenewError::Here(failure)) => return Err(failure),
                Err(RenewError::Server(trouble)) => {
                    let waited = retry.wait(trouble).await;
                    waited.map_err(|trouble| self.failure(trouble))?;
                }
            }
        }
    }

    /// Renews the certificate again and again, and has `link` use each. Ends when the server has struck the client off.
    pub async fn keep_renewed(&self, link: Arc<Link>) -> Failure {
        if let Ok(until) = identity::certificate_end(&self.directory) {
            link.ends_at(until);
        }
        let mut retry = self.link.retry();
        loop {
            let renewed = match self.due().await {
                Ok(()) => self.renew().await,
                Err(failure) => return failure,
            };
            let rekeyed = renewed.and_then(|tls| {
                let until = identity::certificate_end(&self.directory)?;
                Ok((tls, until))
            });
            match rekeyed {
                Ok((tls, until)) => {
                    link.rekey(tls, Some(until)).await;
                    retry.progressed();
                    tracing::info!(%until, "certificate renewed");
                    let until = until.to_string();
                    self.output
                        .json(&json!({ "event": "certificate-renewed", "until": until }));
                }
                Err(RenewError::Server(trouble)) if self.is_final(&trouble) => {
                    return self.failure(trouble);
                }
                Err(RenewError::Server(trouble)) => retry.wait_for(&trouble).await,
                // A full disk may have room again.
                Err(RenewError::Here(failure)) => {
                    tracing::warn!(%failure, "certificate not renewed");
                    sleep(LONGEST_SLEEP).await;
                }
            }
        }
    }

    /// Waits until the certificate is to be renewed.
    async fn due(&self) -> Result<(), Failure> {
        let certificate = identity::certificate(&self.directory)?;
        let due = certificate.renewal_due();
        let rest = (certificate.not_after - due).to_duration();
        let due = due + rest.mul_f64(SPREAD * rand::random::<f64>()).into();
        while let Some(left) = left(due, self.clock.now()) {
            sleep(left.min(LONGEST_SLEEP)).await;
        }
        Ok(())
    }

    /// Renews the certificate, once; answers with TLS that uses it.
    async fn renew(&self) -> Result<rustls::ClientConfig, RenewError> {
        let directory = self.directory.clone();
        let (key, next) = blocking(move || {
            identity::settle(&directory)?;
            Ok::<_, Failure>((identity::key(&directory)?, identity::next_key(&directory)?))
        })
        .await?;
        let request = self.request(&key, &next)?;
        let call = |channel| async move { EnrolmentClient::new(channel).renew(request).await };
        let response = self.link.attempt(call).await.map_err(RenewError::Server)?;
        self.check(&response, &next).map_err(RenewError::Server)?;
        let (directory, settings) = (self.directory.clone(), self.settings.clone());
        let clock = self.clock;
        let renewed = blocking(move || {
            identity::replace(&directory, &response.certificate, &response.authority)?;
            let without = without_certificate(&directory, clock)?;
            Ok::<_, Failure>((identity::load(&directory, &settings, &clock)?, without))
        });
        let (tls, without) = renewed.await?;
        // The authority may be a new one.
        self.link.rekey(without, None).await;
        Ok(tls)
    }

    fn request(&self, key: &KeyPair, next: &KeyPair) -> Result<v1::RenewRequest, Failure> {
        let wish = identity::certificate_request(next)?;
        let Settings {
            federation, client, ..
        } = &self.settings;
        let time = self.clock.now();
        let signature = key.sign(&statement(federation, client, time, &wish));
        let signature = signature.map_err(|error| {
            Failure::new(ExitCode::Bug, "the renewal cannot be signed").with_source(&error)
        })?;
        Ok(v1::RenewRequest {
            client_id: client.to_string(),
            certificate_request: wish.into(),
            client_time_ms: time.get(),
            key: key.subject_public_key_info().into(),
            signature: signature.into(),
        })
    }

    /// Refuses an answer that is not what was asked for.
    fn check(&self, response: &v1::RenewResponse, next: &KeyPair) -> Result<(), Trouble> {
        let nonsense = |what: &str| Err(Trouble::Nonsense(what.to_owned()));
        let certificate = PeerCertificate::parse(&response.certificate)
            .map_err(|error| Trouble::Nonsense(format!("the next certificate: {error}")))?;
        if certificate.identity != Identity::Client(self.settings.client.clone()) {
            return nonsense("the next certificate names someone else");
        }
        if certificate.federation != self.settings.federation {
            return nonsense("the next certificate is for another federation");
        }
        if certificate.public_key_sha256 != identity::public_key_of(next) {
            return nonsense("the next certificate is for another key");
        }
        if !is_signed_by(&response.certificate, &response.authority) {
            return nonsense("the authority in the answer has not signed the next certificate");
        }
        let known = identity::authority(&self.directory)
            .ok()
            .and_then(|known| public_key_sha256(&known).ok());
        let (authority, change) = (&response.authority, response.change.as_ref());
        if !known.is_some_and(|pin| follows(authority, change, pin, self.clock.now())) {
            return nonsense("the authority in the answer does not follow the known one");
        }
        Ok(())
    }

    /// Whether no other try can help, as opposed to a server that is of another version or a clock that is off for now.
    fn is_final(&self, trouble: &Trouble) -> bool {
        matches!(
            trouble,
            Trouble::Refused(refusal)
                if refusal.reason != RefusalReason::ClockSkew && ends_the_client(refusal.reason)
        )
    }

    fn failure(&self, trouble: Trouble) -> Failure {
        trouble.into_failure(self.link.address(), &self.clock)
    }
}

/// TLS that trusts the directory's authority and shows nothing: the certificate may have ended.
fn without_certificate(
    directory: &ClientDirectory,
    clock: Clock,
) -> Result<rustls::ClientConfig, Failure> {
    let authority = identity::authority(directory)?;
    let pin = public_key_sha256(&authority)
        .map_err(|error| Failure::from_error(ExitCode::BadData, &error))?;
    tls::client_config_pinned(pin, clock)
        .map_err(|error| Failure::from_error(ExitCode::Bug, &error))
}

fn left(due: Timestamp, now: Timestamp) -> Option<Duration> {
    (now < due).then(|| (due - now).to_duration())
}
