//! The federation's certificate authority: who it is, whom it admits, and TLS for this machine.
//!
//! A client's request decides nothing but its public key; name, purpose and life of every certificate come from
//! here. The authority's key stays in this process and in `identity/ca.key`. Whether a client may be admitted
//! is not decided here.

mod create;
mod load;
mod rotation;
mod sign;

use std::path::Path;
use std::sync::Arc;

use fedmerge_common::clock::Clock;
use fedmerge_common::endorsement::{self, Endorsement};
use fedmerge_common::identity::{Identity, Labels, public_key_sha256};
use fedmerge_common::ids::{ClientId, FederationName, ModelVersion};
use fedmerge_common::proof::{self, Resource};
use fedmerge_common::rollback::{self, Rollback};
use fedmerge_common::tls::{self, ClientAuthorities};
use fedmerge_common::units::{Millis, Timestamp};
use fedmerge_common::update::ModelRef;
use fedmerge_proto::v1;
use rcgen::{Issuer, KeyPair, SigningKey};
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::directory::ServerDirectory;
use crate::enrolment::site::{PeerNames, SiteAuthority};

pub use create::CreateAuthorityError;
pub use load::LoadAuthorityError;
pub use sign::SignError;

use load::{Stored, damaged, read_certificate, read_key};
use rotation::Overlap;
use sign::{Validity, key_hash, key_of_request, public_key, sign_leaf};

/// Name of the administrator on the server's own machine.
const ADMIN: &str = "admin";
/// How long the certificates of server and administrator live: a year.
const LEAF_LIFE: Millis = Millis::from_secs(365 * 24 * 3600);

/// A federation's certificate authority.
#[derive(Debug)]
pub struct Authority {
    federation: FederationName,
    certificate: CertificateDer<'static>,
    pin: [u8; 32],
    issuer: Issuer<'static, KeyPair>,
    /// The server, which signs models.
    server: Signer,
    /// Where another authority was before this one.
    overlap: Option<Overlap>,
}

/// How a server shakes hands.
#[derive(Debug)]
pub struct ServerTls {
    /// What it shows, and whom it believes.
    pub config: Arc<ServerConfig>,
    /// Who those are.
    pub names: PeerNames,
}

/// A key with its certificate.
#[derive(Debug)]
struct Signer {
    key: KeyPair,
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// Makes the authority of a new federation, its server and its administrator, below `identity/`.
    ///
    /// # Errors
    /// When an identity is there already, or it cannot be made or written; then nothing is left in its place.
    pub fn create(
        directory: &ServerDirectory,
        federation: &FederationName,
        now: Timestamp,
    ) -> Result<Self, CreateAuthorityError> {
        create::create(directory, federation, now)?;
        Self::load(directory, now).map_err(CreateAuthorityError::Load)
    }

    /// Reads the authority of a server's directory.
    ///
    /// # Errors
    /// When a file is missing or damaged, or key and certificate do not belong together.
    pub fn load(directory: &ServerDirectory, now: Timestamp) -> Result<Self, LoadAuthorityError> {
        let path = directory.authority_certificate();
        let certificate = read_certificate(&path)?;
        let pin = public_key_sha256(&certificate).map_err(|error| damaged(&path, error))?;
        let key_path = directory.authority_key();
        let key =
            KeyPair::try_from(&read_key(&key_path)?).map_err(|error| damaged(&key_path, error))?;
        if key_hash(&key) != pin {
            return Err(LoadAuthorityError::Mismatch {
                certificate: path,
                key: key_path,
            });
        }
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|error| damaged(&path, error))?;
        let server = Stored::read(directory.certificate())?;
        if server.content.identity != Identity::Server {
            return Err(server.owner_error("a server"));
        }
        let server_key = directory.key();
        let key = KeyPair::try_from(&read_key(&server_key)?)
            .map_err(|error| damaged(&server_key, error))?;
        Ok(Self {
            federation: server.content.federation,
            certificate,
            pin,
            issuer,
            server: Signer {
                key,
                certificate: server.certificate,
            },
            overlap: Overlap::read(directory, now)?,
        })
    }

    /// Puts a new authority into the place of this one; for the time of `overlap`, whoever trusts this one is served, too.
    ///
    /// # Errors
    /// When it overlaps with one before it, or files cannot be written; then everything is as it was.
    pub fn rotate(
        &self,
        directory: &ServerDirectory,
        now: Timestamp,
        overlap: Millis,
    ) -> Result<Self, CreateAuthorityError> {
        rotation::rotate(directory, self, now, overlap)?;
        Self::load(directory, now).map_err(CreateAuthorityError::Load)
    }

    /// The federation that this is the authority of.
    #[must_use]
    pub fn federation(&self) -> &FederationName {
        &self.federation
    }

    /// SHA-256 of the authority's public key: what a join string pins.
    #[must_use]
    pub fn pin(&self) -> [u8; 32] {
        self.pin
    }

    /// The authority's own certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Makes the certificate of a client, with its labels, from a PKCS #10 request, DER, of which only the public key is used.
    ///
    /// # Errors
    /// When it is no request that its own key signed, or the certificate cannot be made.
    pub fn admit(
        &self,
        (client, labels): (&ClientId, &Labels),
        request: &[u8],
        now: Timestamp,
        life: Millis,
    ) -> Result<CertificateDer<'static>, SignError> {
        let key = key_of_request(request)?;
        let owner = (&Identity::Client(client.clone()), labels);
        let validity = Validity { now, life };
        Ok(sign_leaf(&self.issuer, &self.federation, owner, &key, validity)?.into())
    }

    /// Makes a key and a certificate for an administrator or observer, and writes them with the authority's certificate into a new
    /// directory: `NAME.pem`, `NAME.key` and `ca.pem`.
    ///
    /// # Errors
    /// When there is such a file, or they cannot be made or written.
    pub fn certify(
        &self,
        directory: &ServerDirectory,
        identity: &Identity,
        (now, life): (Timestamp, Millis),
        place: &Path,
    ) -> Result<(), CreateAuthorityError> {
        let validity = Validity { now, life };
        let ours = (&self.issuer, &self.federation);
        create::certify(directory, ours, identity, validity, place)
    }

    /// Signs that `model` is the older version `of` again.
    ///
    /// # Errors
    /// When the key refuses.
    pub fn sign_rollback(
        &self,
        model: &ModelRef,
        of: ModelVersion,
        reason: &str,
    ) -> Result<Rollback, SignError> {
        let words = rollback::statement(&self.federation, model, of, reason);
        Ok(Rollback {
            of,
            reason: reason.to_owned(),
            signature: self
                .issuer
                .key()
                .sign(&words)
                .map_err(SignError::Rollback)?,
        })
    }

    /// Signs that `model` is the federation's base now.
    ///
    /// # Errors
    /// When the key refuses.
    pub fn endorse(&self, model: &ModelRef, now: Timestamp) -> Result<Endorsement, SignError> {
        let words = endorsement::statement(&self.federation, model, now);
        let signature = self.issuer.key().sign(&words);
        Ok(Endorsement {
            at: now,
            signature: signature.map_err(SignError::Endorsement)?,
            successor: self.successor().map(<[u8]>::to_vec),
        })
    }

    /// How this authority follows the one before it, while it is new.
    #[must_use]
    pub fn change(&self) -> Option<v1::AuthorityChange> {
        let overlap = self.overlap.as_ref()?;
        Some(v1::AuthorityChange {
            previous: overlap.old.to_vec().into(),
            successor: overlap.successor.to_vec().into(),
        })
    }

    /// While this authority is new: the certificate of its key by the one before it, DER.
    #[must_use]
    pub fn successor(&self) -> Option<&[u8]> {
        let overlap = self.overlap.as_ref()?;
        Some(&overlap.successor)
    }

    /// The name under which a model is signed.
    #[must_use]
    pub fn name_of(&self, version: ModelVersion) -> String {
        format!("{}/{version}", self.federation)
    }

    /// Signs that a published model has these files: the content of `model.sig`.
    ///
    /// # Errors
    /// When the key refuses.
    pub fn sign_model(
        &self,
        version: ModelVersion,
        resources: &[Resource],
    ) -> Result<Vec<u8>, SignError> {
        let payload = proof::statement(&self.name_of(version), resources);
        let words = proof::pre_authentication_encoding(&payload);
        let signature = self.server.key.sign(&words).map_err(SignError::Model)?;
        let mut chain = vec![self.server.certificate.as_ref()];
        chain.extend(self.successor());
        Ok(proof::seal(&payload, &signature, &chain))
    }

    /// SHA-256 of the public key in a signing request: the same as that of a certificate made from it.
    ///
    /// # Errors
    /// When it is no request that its own key signed.
    pub fn request_key(request: &[u8]) -> Result<[u8; 32], SignError> {
        Ok(key_hash(&key_of_request(request)?))
    }

    /// TLS of the server, which takes certificates of `site`, too, and whose they are. Renews the certificates of server and
    /// administrator, for the keys they have, when two thirds of their lives are over.
    ///
    /// # Errors
    /// When certificate or key cannot be read, renewed or used.
    pub fn server_tls(
        &self,
        directory: &ServerDirectory,
        site: Option<SiteAuthority>,
        clock: Clock,
    ) -> Result<ServerTls, LoadAuthorityError> {
        let now = clock.now();
        let path = directory.certificate();
        let server = self.renewed(Stored::read(path.clone())?, now)?;
        match Stored::read(directory.admin_certificate()) {
            Ok(admin) => drop(self.renewed(admin, now)?),
            // An operator may keep the administrator's files elsewhere.
            Err(LoadAuthorityError::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
        let key = read_key(&directory.key())?;
        let mut chain = vec![server, self.certificate.clone()];
        let mut authorities = vec![self.certificate.clone()];
        if let Some(overlap) = self.overlap.as_ref().filter(|overlap| now < overlap.until) {
            chain.extend([overlap.successor.clone(), overlap.old.clone()]);
            authorities.push(overlap.old.clone());
        }
        let mut clients = ClientAuthorities {
            authorities: authorities.clone(),
            revoked: Vec::new(),
        };
        if let Some(site) = &site {
            clients.authorities.extend(site.certificates.clone());
            clients.revoked = site.revocations(&authorities);
        }
        let config = tls::server_config(clients, chain, key, clock);
        let config = config.map_err(|source| LoadAuthorityError::Tls {
            certificate: path,
            source,
        })?;
        Ok(ServerTls {
            config: Arc::new(config),
            names: PeerNames::new(self.federation.clone(), authorities, site),
        })
    }

    /// TLS of the administrator on this machine.
    ///
    /// # Errors
    /// When certificate or key cannot be read or used, or the certificate is not valid now.
    pub fn admin_tls(
        directory: &ServerDirectory,
        clock: Clock,
    ) -> Result<rustls::ClientConfig, LoadAuthorityError> {
        let authority = read_certificate(&directory.authority_certificate())?;
        let admin = Stored::read(directory.admin_certificate())?;
        if !matches!(admin.content.identity, Identity::Admin(_)) {
            return Err(admin.owner_error("an administrator"));
        }
        let now = clock.now();
        if now < admin.content.not_before || now >= admin.content.not_after {
            return Err(LoadAuthorityError::NotValid {
                path: admin.path,
                not_before: admin.content.not_before,
                not_after: admin.content.not_after,
                now,
            });
        }
        let key = read_key(&directory.admin_key())?;
        tls::client_config_mutual(authority, vec![admin.certificate], key, clock).map_err(
            |source| LoadAuthorityError::Tls {
                certificate: admin.path,
                source,
            },
        )
    }

    /// The certificate, or a new one for the same key and owner where its time has come.
    fn renewed(
        &self,
        stored: Stored,
        now: Timestamp,
    ) -> Result<CertificateDer<'static>, LoadAuthorityError> {
        if !stored.is_due(now) {
            return Ok(stored.certificate);
        }
        let Stored {
            path,
            certificate,
            content,
        } = stored;
        let (_, parsed) =
            X509Certificate::from_der(&certificate).map_err(|error| damaged(&path, error))?;
        let key = public_key(parsed.public_key().raw).map_err(|error| damaged(&path, error))?;
        let validity = Validity {
            now,
            life: LEAF_LIFE,
        };
        let renewed = sign_leaf(
            &self.issuer,
            &self.federation,
            (&content.identity, &Labels::new()),
            &key,
            validity,
        )
        .map_err(|source| LoadAuthorityError::Renew {
            path: path.clone(),
            source,
        })?;
        create::replace_certificate(&path, &renewed).map_err(|source| {
            LoadAuthorityError::Unwritable {
                path: path.clone(),
                source,
            }
        })?;
        tracing::info!(certificate = %path.display(), "certificate renewed");
        Ok(renewed.into())
    }
}

#[cfg(test)]
pub(crate) mod testbed;
#[cfg(test)]
mod tests;
