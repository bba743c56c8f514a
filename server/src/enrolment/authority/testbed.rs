//! A federation's identity for tests, in a directory that goes away with it.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::sync::Arc;

use fedmerge_common::clock::Clock;
use fedmerge_common::identity::Labels;
use fedmerge_common::ids::ClientId;
use fedmerge_common::tls;
use fedmerge_common::units::Millis;
use rcgen::{CertificateParams, KeyPair};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::directory::ServerDirectory;
use crate::enrolment::authority::{Authority, ServerTls};
use crate::enrolment::keeper::Newest;
use crate::enrolment::site::SiteAuthority;

/// A federation named `digits`.
pub(crate) struct Federation {
    pub(crate) directory: ServerDirectory,
    pub(crate) authority: Authority,
    /// One that the site brought along.
    pub(crate) site: Option<SiteAuthority>,
    _root: TempDir,
}

/// A client as its own machine knows it.
pub(crate) struct Enrolled {
    pub(crate) tls: ClientConfig,
    pub(crate) key_sha256: [u8; 32],
}

impl Federation {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let directory = ServerDirectory::new(root.path().join("hub"));
        let name = "digits".parse().unwrap();
        let authority = Authority::create(&directory, &name, Clock::with_offset(0).now()).unwrap();
        Self {
            directory,
            authority,
            site: None,
            _root: root,
        }
    }

    pub(crate) fn server_tls(&self) -> Newest<ServerTls> {
        let clock = Clock::with_offset(0);
        let site = self.site.clone();
        let tls = self.authority.server_tls(&self.directory, site, clock);
        let tls = tls.unwrap();
        watch::channel(Arc::new(tls)).1
    }

    pub(crate) fn admin_tls(&self) -> ClientConfig {
        Authority::admin_tls(&self.directory, Clock::with_offset(0)).unwrap()
    }

    /// What a machine has that knows the join string alone.
    pub(crate) fn pinned_tls(&self, clock: Clock) -> ClientConfig {
        tls::client_config_pinned(self.authority.pin(), clock).unwrap()
    }

    pub(crate) fn enrol(&self, client: &ClientId) -> Enrolled {
        let key = KeyPair::generate().unwrap();
        let request = certificate_request(&key);
        let now = Clock::with_offset(0).now();
        let life = Millis::from_secs(3600);
        let certificate = self
            .authority
            .admit((client, &Labels::new()), &request, now, life)
            .unwrap();
        Enrolled {
            tls: self.client_tls(certificate, &key),
            key_sha256: Authority::request_key(&request).unwrap(),
        }
    }

    pub(crate) fn client_tls(
        &self,
        certificate: CertificateDer<'static>,
        key: &KeyPair,
    ) -> ClientConfig {
        let authority = self.authority.certificate().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        tls::client_config_mutual(authority, vec![certificate], key, Clock::with_offset(0)).unwrap()
    }
}

/// A request as a client makes it.
pub(crate) fn certificate_request(key: &KeyPair) -> Vec<u8> {
    let request = CertificateParams::default().serialize_request(key).unwrap();
    request.der().to_vec()
}
