//! Certificates that a site's own authority gave a machine: nothing is asked for and nothing renewed here.
//!
//! Their files stay where the site's tools keep them. What those write anew is shown from then on, and where the federation's authority
//! is rotated, the server says so on the way.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fedmerge_common::clock::Clock;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::identity::public_key_sha256;
use fedmerge_common::lock::DirectoryLock;
use fedmerge_common::output::Output;
use fedmerge_common::tls;
use fedmerge_common::units::Millis;
use rustls_pki_types::CertificateDer;
use serde_json::json;
use tokio::time::sleep;

use super::{follows, identity, refuse_enrolled_at_all, write_settings};
use crate::link::address::ServerAddress;
use crate::link::trouble::Trouble;
use crate::link::{Greeting, Link};
use crate::policy::Policy;
use crate::settings::{ClientDirectory, OwnCertificate, Settings};
use crate::transfer::download::blocking;

/// Between two looks at the files.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// So many looks at the files for one at the federation's authority: every ten minutes.
const LOOKS: u32 = 120;

/// What a machine wants that has a certificate already.
#[derive(Clone, Debug)]
pub struct OwnWish {
    /// Where the server is.
    pub server: ServerAddress,
    /// SHA-256 of the public key of the federation's authority.
    pub authority_pin: [u8; 32],
    /// The certificate.
    pub certificate: OwnCertificate,
    /// How long to wait for a server that is not there, or for a person's approval.
    pub wait: Millis,
}

/// Makes `directory` the directory of a client that shows a certificate of its site's authority; the server says whom it names.
///
/// # Errors
/// When it is a client's directory already, the files cannot be used, or the server cannot be reached, is another one, or refuses.
pub async fn join(
    directory: &ClientDirectory,
    wish: &OwnWish,
    output: &Output,
) -> Result<Settings, Failure> {
    let _lock = DirectoryLock::take(directory.root(), &directory.lock())?;
    let clock = Clock::system();
    Policy::read(&directory.policy())?.check_server(&wish.server)?;
    refuse_enrolled_at_all(directory)?;
    let shown = identity::own(&wish.certificate)?;
    shown.check(clock.now())?;
    let tls = tls::client_config_pinned_with(wish.authority_pin, shown.chain, shown.key, clock);
    let tls = tls.map_err(|error| {
        let message = format!(
            "{} and {} do not belong together",
            wish.certificate.chain.display(),
            wish.certificate.key.display()
        );
        Failure::new(ExitCode::BadData, message)
            .with_source(&error)
            .with_hint("give the key that the certificate was made for: --key FILE")
    })?;
    let link = Link::new(wish.server.clone(), tls, Greeting::None, *output);
    let mut retry = link.retry_for(wish.wait);
    let answer = loop {
        match link.hello().await {
            Ok(answer) => break answer,
            Err(trouble) => {
                let waited = retry.wait(trouble).await;
                waited.map_err(|trouble| trouble.into_failure(&wish.server, &clock))?;
            }
        }
    };
    let unreadable = |what: &str| {
        Trouble::Nonsense(format!("the greeting names no {what}"))
            .into_failure(&wish.server, &clock)
    };
    let settings = Settings {
        server: wish.server.clone(),
        federation: answer
            .federation
            .parse()
            .map_err(|_| unreadable("federation"))?,
        client: answer.client_id.parse().map_err(|_| unreadable("client"))?,
        certificate: Some(wish.certificate.clone()),
    };
    if !follows(
        &answer.authority,
        answer.change.as_ref(),
        wish.authority_pin,
        clock.now(),
    ) {
        return Err(unreadable("authority that follows the known one"));
    }
    identity::store_authority(directory, &answer.authority)?;
    write_settings(directory, &settings)?;
    Ok(settings)
}

/// Follows what a site's tools do with a certificate of its own authority.
#[derive(Debug)]
pub struct Follower {
    directory: ClientDirectory,
    settings: Settings,
    clock: Clock,
    output: Output,
    /// The certificate that is shown.
    shown: Option<Vec<CertificateDer<'static>>>,
    /// Whether the authority was stored and is not believed yet.
    must: bool,
}

impl Follower {
    /// For the client of a directory.
    #[must_use]
    pub fn new(directory: &ClientDirectory, settings: &Settings, output: Output) -> Self {
        Self {
            directory: directory.clone(),
            settings: settings.clone(),
            clock: Clock::system(),
            output,
            shown: None,
            must: false,
        }
    }

    /// Has `link` show each certificate that takes the place of the one before; never ends.
    pub(super) async fn keep_renewed(mut self, link: Arc<Link>) -> Failure {
        let mut looks = 0;
        loop {
            let followed = self.follow(&link, looks % LOOKS == 0).await;
            looks += 1;
            // The site's tools may be half done; the certificate in use is good until it ends.
            if let Err(failure) = followed {
                tracing::warn!(%failure, "the site's certificate cannot be used");
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn follow(&mut self, link: &Link, asks: bool) -> Result<(), Failure> {
        if asks && self.follow_authority(link).await? {
            self.must = true;
        }
        self.follow_certificate(link).await
    }

    /// Uses the certificate on disk, where it or the authority is another than before.
    async fn follow_certificate(&mut self, link: &Link) -> Result<(), Failure> {
        let (directory, settings, clock) =
            (self.directory.clone(), self.settings.clone(), self.clock);
        let loaded = blocking(move || {
            let (chain, until) = identity::chain(&directory, &settings)?;
            let tls = identity::load(&directory, &settings, &clock)?;
            Ok::<_, Failure>((chain, until, tls))
        });
        let (chain, until, tls) = loaded.await?;
        let is_first = self.shown.is_none();
        let is_new = self.shown.as_ref() != Some(&chain);
        if !is_new && !self.must {
            return Ok(());
        }
        link.rekey(tls, Some(until)).await;
        self.shown = Some(chain);
        self.must = false;
        if is_new && !is_first {
            let until = until.to_string();
            tracing::info!(until, "the site has renewed the certificate");
            self.output
                .json(&json!({ "event": "certificate-renewed", "until": until }));
        }
        Ok(())
    }

    /// Believes the authority after the one that is believed in, where the server shows that this one has certified it.
    async fn follow_authority(&self, link: &Link) -> Result<bool, Failure> {
        let (directory, now) = (self.directory.clone(), self.clock.now());
        // What keeps the server from answering is told by whoever needs it.
        let Ok(answer) = link.hello().await else {
            return Ok(false);
        };
        let adopt = move || -> Result<bool, Failure> {
            let known = identity::authority(&directory)?;
            let pin = public_key_sha256(&known);
            let pin = pin.map_err(|error| Failure::from_error(ExitCode::BadData, &error))?;
            let is_next = *known != *answer.authority
                && follows(&answer.authority, answer.change.as_ref(), pin, now);
            if is_next {
                identity::store_authority(&directory, &answer.authority)?;
            }
            Ok(is_next)
        };
        let is_new = blocking(adopt).await?;
        if is_new {
            tracing::info!("the federation's authority is another one now");
            self.output.json(&json!({ "event": "authority-renewed" }));
        }
        Ok(is_new)
    }
}

/// Absolute paths of a certificate's files: the client may be started elsewhere.
///
/// # Errors
/// When the working directory is gone, or a path is not UTF-8, which settings are.
pub fn absolute(chain: PathBuf, key: PathBuf) -> Result<OwnCertificate, Failure> {
    let absolute = |path: PathBuf| {
        if path.to_str().is_none() {
            let message = format!("{} is not a path in UTF-8", path.display());
            return Err(Failure::new(ExitCode::Usage, message));
        }
        std::path::absolute(&path).map_err(|error| {
            let message = format!("{} cannot be found", path.display());
            Failure::new(ExitCode::Usage, message).with_source(&error)
        })
    };
    Ok(OwnCertificate {
        chain: absolute(chain)?,
        key: absolute(key)?,
    })
}
