//! The server's identity while it serves: renewed when its time has come, and read again where an operator has changed it, without a
//! restart.
//!
//! Connections that are open stay as they began. An identity that cannot be used is told, and the one before it stays.

use std::sync::Arc;
use std::time::Duration;

use fedmerge_common::clock::Clock;
use fedmerge_common::failure::explain;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::compute;
use crate::directory::ServerDirectory;
use crate::enrolment::authority::{Authority, LoadAuthorityError, ServerTls};
use crate::enrolment::site::SiteAuthority;
use crate::settings::TlsSettings;

/// Between two looks at the files.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The newest of something that changes while others use it.
pub type Newest<T> = watch::Receiver<Arc<T>>;

/// Keeps the identity of a server's directory.
#[derive(Debug)]
pub struct Keeper {
    directory: ServerDirectory,
    settings: TlsSettings,
    clock: Clock,
    authority: watch::Sender<Arc<Authority>>,
    tls: watch::Sender<Arc<ServerTls>>,
}

fn load(
    directory: &ServerDirectory,
    settings: &TlsSettings,
    clock: Clock,
) -> Result<(Authority, ServerTls), LoadAuthorityError> {
    let authority = Authority::load(directory, clock.now())?;
    let site = SiteAuthority::read(directory, settings)?;
    let tls = authority.server_tls(directory, site, clock)?;
    Ok((authority, tls))
}

impl Keeper {
    /// Reads the identity for the first time.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn new(
        directory: ServerDirectory,
        settings: TlsSettings,
        clock: Clock,
    ) -> Result<Self, LoadAuthorityError> {
        let (authority, tls) = load(&directory, &settings, clock)?;
        Ok(Self {
            directory,
            settings,
            clock,
            authority: watch::Sender::new(Arc::new(authority)),
            tls: watch::Sender::new(Arc::new(tls)),
        })
    }

    /// The authority, always the newest.
    #[must_use]
    pub fn authority(&self) -> Newest<Authority> {
        self.authority.subscribe()
    }

    /// TLS of the server, always the newest.
    #[must_use]
    pub fn tls(&self) -> Newest<ServerTls> {
        self.tls.subscribe()
    }

    /// Looks at the files again and again, until `stop`.
    pub async fn keep(self, stop: CancellationToken) {
        let mut told = None;
        while stop
            .run_until_cancelled(tokio::time::sleep(LOOK_AGAIN))
            .await
            .is_some()
        {
            let (directory, clock) = (self.directory.clone(), self.clock);
            let settings = self.settings.clone();
            match compute::blocking(move || load(&directory, &settings, clock)).await {
                Ok((authority, tls)) => {
                    self.show(authority, tls);
                    told = None;
                }
                Err(error) => {
                    let error = Some(explain(&error));
                    if error != told {
                        tracing::warn!(
                            error,
                            "the identity on disk cannot be used: the one before it stays"
                        );
                    }
                    told = error;
                }
            }
        }
    }

    fn show(&self, authority: Authority, tls: ServerTls) {
        if authority.pin() != self.authority.borrow().pin() {
            tracing::info!("the certificate authority was rotated");
        }
        self.authority.send_replace(Arc::new(authority));
        self.tls.send_replace(Arc::new(tls));
    }
}
