//! The layout of a server's directory: where each file is. It opens nothing and decides nothing.
//!
//! `server.toml` and `federation.toml` are the operator's; `identity/` holds keys and never leaves the machine; `state/` is
//! the ledger's and what it points at; `models/` is what was published, one directory a version.

use std::path::{Path, PathBuf};

use fedmerge_common::ids::{ModelVersion, RoundNumber};

/// Paths in a server's directory.
#[derive(Clone, Debug)]
pub struct ServerDirectory {
    root: PathBuf,
}

macro_rules! places {
    ($($(#[$doc:meta])* $name:ident = $path:literal;)*) => {
        impl ServerDirectory {
            $($(#[$doc])*
            #[must_use]
            pub fn $name(&self) -> PathBuf {
                self.root.join($path)
            })*
        }
    };
}

places! {
    /// Settings of this server: addresses and limits.
    settings = "server.toml";
    /// The federation's plan.
    plan = "federation.toml";
    /// The directory of keys and certificates.
    identity = "identity";
    /// The certificate authority's certificate, PEM.
    authority_certificate = "identity/ca.pem";
    /// The certificate authority's private key, PEM.
    authority_key = "identity/ca.key";
    /// The certificate of the authority before this one, while they overlap, PEM.
    old_authority_certificate = "identity/old-ca.pem";
    /// The certificate of this authority's key by the one before it, PEM.
    successor_certificate = "identity/successor.pem";
    /// The server's certificate, PEM.
    certificate = "identity/server.pem";
    /// The server's private key, PEM.
    key = "identity/server.key";
    /// The administrator's certificate, PEM.
    admin_certificate = "identity/admin.pem";
    /// The administrator's private key, PEM.
    admin_key = "identity/admin.key";
    /// The secret from which noise is drawn, where a plan's privacy asks for some.
    noise_key = "identity/noise.key";
    /// The directory of everything that a restart needs.
    state = "state";
    /// The ledger.
    ledger = "state/ledger.sqlite";
    /// Uploads that are not complete.
    staging = "state/staging";
    /// Updates that passed intake, by round.
    updates = "state/updates";
    /// Merged models that are not published.
    candidates = "state/candidates";
    /// Where the running server listens: one line, `HOST:PORT`.
    address = "state/address";
    /// Where it listens for administrators: one line, `HOST:PORT`.
    admin_address = "state/admin-address";
    /// Held by the one process that serves the directory.
    lock = "state/lock";
    /// Published models, one directory a version.
    models = "models";
    /// Log files.
    log = "log";
}

impl ServerDirectory {
    /// The directory at `root`, whether it is there or not.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of a published model.
    #[must_use]
    pub fn model(&self, version: ModelVersion) -> PathBuf {
        self.models().join(version.to_string())
    }

    /// The directory of the model that a round's merge makes.
    #[must_use]
    pub fn candidate(&self, round: RoundNumber) -> PathBuf {
        self.candidates().join(round.to_string())
    }

    /// The directory of a round's updates.
    #[must_use]
    pub fn round_updates(&self, round: RoundNumber) -> PathBuf {
        self.updates().join(round.to_string())
    }
}
