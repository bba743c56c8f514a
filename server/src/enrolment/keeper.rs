//! The server's identity while it serves: renewed when its time has come, and read again where an operator has changed it, without a
//! restart.
//!
//! Connections that are open stay as they began. An identity that cannot be used is told, and the one before it stays.

use std::sync::Arc;
use std::time::Duration;

use fedmerge_common::clock::Clock;
use fedmerge_common::failure::explain;
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::compute;
use crate::directory::ServerDirectory;
use crate::enrolment::authority::{Authority, LoadAuthorityError};

/// Between two looks at the files.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The newest of something that changes while others use it.
pub type Newest<T> = watch::Receiver<Arc<T>>;

/// Keeps the identity of a server's directory.
#[derive(Debug)]
pub struct Keeper {
    directory: ServerDirectory,
    clock: Clock,
    authority: watch::Sender<Arc<Authority>>,
    tls: watch::Sender<Arc<ServerConfig>>,
}

fn load(
    directory: &ServerDirectory,
    clock: Clock,
) -> Result<(Authority, ServerConfig), LoadAuthorityError> {
    let authority = Authority::load(directory, clock.now())?;
    let tls = authority.server_tls(directory, clock)?;
    Ok((authority, tls))
}

impl Keeper {
    /// Reads the identity for the first time.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn new(directory: ServerDirectory, clock: Clock) -> Result<Self, LoadAuthorityError> {
        let (authority, tls) = load(&directory, clock)?;
        Ok(Self {
            directory,
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
    pub fn tls(&self) -> Newest<ServerConfig> {
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
            match compute::blocking(move || load(&directory, clock)).await {
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

    fn show(&self, authority: Authority, tls: ServerConfig) {
        if authority.pin() != self.authority.borrow().pin() {
            tracing::info!("the certificate authority was rotated");
        }
        self.authority.send_replace(Arc::new(authority));
        self.tls.send_replace(Arc::new(tls));
    }
}
