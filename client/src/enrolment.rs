//! Enrolment: a join string becomes a certificate.
//!
//! The join string pins the authority, so the first connection is as safe as every later one; the key is made here and
//! never leaves. The settings are written last: a directory is enrolled or it is not, and an enrolment that was cut off
//! is repeated with the same key.

pub mod identity;
pub mod own;
pub mod renewal;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use fedmerge_common::authority::{AuthorityClaim, is_signed_by};
use fedmerge_common::clock::Clock;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::identity::{Identity, PeerCertificate};
use fedmerge_common::ids::{ClientId, FederationName};
use fedmerge_common::join::JoinString;
use fedmerge_common::lock::DirectoryLock;
use fedmerge_common::output::Output;
use fedmerge_common::tls;
use fedmerge_common::units::{Millis, Timestamp};
use fedmerge_proto::v1;
use fedmerge_proto::v1::enrolment_client::EnrolmentClient;

use crate::link::address::ServerAddress;
use crate::link::trouble::Trouble;
use crate::link::{Greeting, Link};

use self::own::Follower;
use self::renewal::Renewer;
use crate::policy::Policy;
use crate::settings::{ClientDirectory, Settings};

/// What a machine asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Where the server is.
    pub server: ServerAddress,
    /// The permission.
    pub join: JoinString,
    /// The name.
    pub client: ClientId,
    /// How long to wait for a server that is not there.
    pub wait: Millis,
}

/// Makes `directory` the directory of an enrolled client.
///
/// # Errors
/// When it is one already whose certificate is good, when the server cannot be reached, is another one, or refuses.
pub async fn enrol(
    directory: &ClientDirectory,
    wish: &Wish,
    output: &Output,
) -> Result<Settings, Failure> {
    let _lock = DirectoryLock::take(directory.root(), &directory.lock())?;
    let clock = Clock::system();
    Policy::read(&directory.policy())?.check_server(&wish.server)?;
    refuse_enrolled(directory, &wish.client, clock.now())?;
    let key = identity::key(directory)?;
    let tls = tls::client_config_pinned(wish.join.authority_pin, clock)
        .map_err(|error| Failure::from_error(ExitCode::Bug, &error))?;
    let link = Link::new(wish.server.clone(), tls, Greeting::None, *output);
    let request = v1::EnrolRequest {
        token_id: wish.join.token.to_string(),
        token_secret: wish.join.secret.expose().to_owned(),
        client_id: wish.client.to_string(),
        certificate_request: identity::certificate_request(&key)?.into(),
        client_time_ms: clock.now().get(),
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let admission = exchange(&link, &request, wish.wait)
        .await
        .and_then(|response| Admission::check(response, wish, &key, clock.now()))
        .map_err(|trouble| trouble.into_failure(&wish.server, &clock))?;
    let settings = Settings {
        server: wish.server.clone(),
        federation: admission.federation,
        client: wish.client.clone(),
        certificate: None,
    };
    identity::store(directory, &admission.certificate, &admission.authority)?;
    write_settings(directory, &settings)?;
    Ok(settings)
}

/// A client whose certificate has expired may come back under its name, with its key and a new token.
fn refuse_enrolled(
    directory: &ClientDirectory,
    client: &ClientId,
    now: Timestamp,
) -> Result<(), Failure> {
    if !directory.settings().exists() {
        return Ok(());
    }
    let settings = Settings::read(directory);
    let is_same = settings
        .as_ref()
        .is_ok_and(|settings| settings.client == *client);
    if is_same && identity::certificate_end(directory).is_ok_and(|end| end <= now) {
        return Ok(());
    }
    refuse_enrolled_at_all(directory)
}

fn refuse_enrolled_at_all(directory: &ClientDirectory) -> Result<(), Failure> {
    if !directory.settings().exists() {
        return Ok(());
    }
    let settings = Settings::read(directory);
    let who = settings.map_or_else(
        |_| "another client".to_owned(),
        |settings| {
            format!(
                "client {} of federation {}",
                settings.client, settings.federation
            )
        },
    );
    let message = format!(
        "{} is already the directory of {who}",
        directory.root().display()
    );
    Err(Failure::new(ExitCode::Usage, message)
        .with_hint("choose another --dir; nothing in this one was changed"))
}

async fn exchange(
    link: &Link,
    request: &v1::EnrolRequest,
    wait: Millis,
) -> Result<v1::EnrolResponse, Trouble> {
    let mut retry = link.retry_for(wait);
    loop {
        let call = |channel| {
            let request = request.clone();
            async move { EnrolmentClient::new(channel).enrol(request).await }
        };
        match link.attempt(call).await {
            Ok(response) => return Ok(response),
            Err(trouble) => retry.wait(trouble).await?,
        }
    }
}

/// Whether a server's word leads from the authority with the key of this SHA-256 to another one.
fn follows(
    authority: &[u8],
    change: Option<&v1::AuthorityChange>,
    pin: [u8; 32],
    now: Timestamp,
) -> bool {
    let change = change.map(|change| (&change.previous[..], &change.successor[..]));
    AuthorityClaim { authority, change }.follows(pin, now)
}

/// An answer that is what was asked for.
#[derive(Debug)]
struct Admission {
    federation: FederationName,
    certificate: Vec<u8>,
    authority: Vec<u8>,
}

impl Admission {
    fn check(
        response: v1::EnrolResponse,
        wish: &Wish,
        key: &rcgen::KeyPair,
        now: Timestamp,
    ) -> Result<Self, Trouble> {
        let nonsense = |what: &str| Trouble::Nonsense(what.to_owned());
        let certificate = PeerCertificate::parse(&response.certificate)
            .map_err(|error| Trouble::Nonsense(format!("the new certificate: {error}")))?;
        if certificate.identity != Identity::Client(wish.client.clone()) {
            return Err(nonsense("the new certificate names someone else"));
        }
        if certificate.public_key_sha256 != identity::public_key_of(key) {
            return Err(nonsense("the new certificate is for another key"));
        }
        if !is_signed_by(&response.certificate, &response.authority) {
            return Err(nonsense(
                "the authority in the answer has not signed the new certificate",
            ));
        }
        let pin = wish.join.authority_pin;
        if !follows(&response.authority, response.change.as_ref(), pin, now) {
            return Err(nonsense(
                "the authority in the answer is not the one that the join string pins, nor the one after it",
            ));
        }
        if response.federation != certificate.federation.as_str() {
            return Err(nonsense("the new certificate is for another federation"));
        }
        Ok(Self {
            federation: certificate.federation,
            certificate: response.certificate.into(),
            authority: response.authority.into(),
        })
    }
}

fn write_settings(directory: &ClientDirectory, settings: &Settings) -> Result<(), Failure> {
    let path = directory.settings();
    let text = toml::to_string(settings).expect("settings are plain strings");
    let write = |path: &Path| {
        let temporary = path.with_extension("toml.part");
        fs::write(&temporary, &text)?;
        fs::rename(&temporary, path)
    };
    write(&path).map_err(|error| {
        Failure::new(
            ExitCode::Unavailable,
            format!("{} cannot be written", path.display()),
        )
        .with_source(&error)
    })
}

/// What keeps the certificate of a client good while it runs.
#[derive(Debug)]
pub enum Keeper {
    /// The certificate is the federation's, which the client asks for the next one.
    Federation(Box<Renewer>),
    /// It is of a site's own authority, which writes the next one.
    Site(Follower),
}

impl Keeper {
    /// For the client of a directory.
    ///
    /// # Errors
    /// When the directory's identity cannot be read.
    pub fn new(
        directory: &ClientDirectory,
        settings: &Settings,
        output: Output,
    ) -> Result<Self, Failure> {
        Ok(match &settings.certificate {
            Some(_) => Self::Site(Follower::new(directory, settings, output)),
            None => Self::Federation(Box::new(Renewer::new(directory, settings, output)?)),
        })
    }

    /// Renews a certificate that has ended, where that is the client's to do.
    ///
    /// # Errors
    /// When the server does not renew it any more.
    pub async fn revive(&self) -> Result<(), Failure> {
        match self {
            Self::Federation(renewer) => renewer.revive().await,
            Self::Site(_) => Ok(()),
        }
    }

    /// Has `link` use each next certificate. Ends when the server has struck the client off.
    pub async fn keep_renewed(self, link: Arc<Link>) -> Failure {
        match self {
            Self::Federation(renewer) => renewer.keep_renewed(link).await,
            Self::Site(follower) => follower.keep_renewed(link).await,
        }
    }
}

#[cfg(test)]
mod tests;
