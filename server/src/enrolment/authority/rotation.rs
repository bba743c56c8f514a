//! Rotation: a new authority takes the place of the old one, and for a while whoever trusts either is served.
//!
//! The old authority certifies the key of the new one once, for the time of the overlap (RFC 4210 §4.4 calls that certificate "new
//! with old"), and its own key is destroyed. Until the overlap ends the server shows both certificates, so that clients and join
//! strings that know the old authority find a way to the new one, and takes client certificates of either. Clients learn of the new
//! one when they renew.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fedmerge_common::identity::Labels;
use fedmerge_common::units::{Millis, Timestamp};
use rcgen::Issuer;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::create::{
    CreateAuthorityError, NewFile, PRIVATE, PUBLIC, new_key, sync, write_all, wrong,
};
use super::load::{LoadAuthorityError, Stored, damaged, read_certificate};
use super::sign::{SignError, Validity, public_key, sign_authority, sign_leaf, sign_successor};
use super::{Authority, LEAF_LIFE};
use crate::directory::ServerDirectory;

/// What those need who know the authority before this one.
#[derive(Debug)]
pub(super) struct Overlap {
    /// The certificate of the old authority.
    pub(super) old: CertificateDer<'static>,
    /// That of the new one's key by the old one.
    pub(super) successor: CertificateDer<'static>,
    /// When that ends.
    pub(super) until: Timestamp,
}

impl Overlap {
    /// The overlap of a server's directory, where one is under way.
    pub(super) fn read(
        directory: &ServerDirectory,
        now: Timestamp,
    ) -> Result<Option<Self>, LoadAuthorityError> {
        let path = directory.successor_certificate();
        let successor = match read_certificate(&path) {
            Err(LoadAuthorityError::Missing { .. }) => return Ok(None),
            read => read?,
        };
        let (_, parsed) =
            X509Certificate::from_der(&successor).map_err(|error| damaged(&path, error))?;
        let until = Timestamp::from_unix_seconds(parsed.validity().not_after.timestamp());
        if until <= now {
            return Ok(None);
        }
        let old = read_certificate(&directory.old_authority_certificate())?;
        Ok(Some(Self {
            old,
            successor,
            until,
        }))
    }
}

/// Puts a new authority into the place of `authority`, whose files are in the directory: all of it or nothing.
pub(super) fn rotate(
    directory: &ServerDirectory,
    authority: &Authority,
    now: Timestamp,
    overlap: Millis,
) -> Result<(), CreateAuthorityError> {
    if let Some(overlap) = &authority.overlap {
        let until = overlap.until;
        return Err(CreateAuthorityError::Overlapping { until });
    }
    let partial = directory.identity().with_extension("partial");
    let files = successors_files(directory, authority, now, overlap)?;
    write_all(&partial, &files)?;
    keep_others(directory, &partial).map_err(wrong(&partial))?;
    let exchanged = renameat_with(
        CWD,
        &partial,
        CWD,
        directory.identity(),
        RenameFlags::EXCHANGE,
    );
    exchanged
        .map_err(io::Error::from)
        .and_then(|()| sync(directory.root()))
        .map_err(wrong(&directory.identity()))?;
    // The key of the old authority goes with the rest.
    fs::remove_dir_all(&partial).map_err(wrong(&partial))
}

fn successors_files(
    directory: &ServerDirectory,
    authority: &Authority,
    now: Timestamp,
    overlap: Millis,
) -> Result<Vec<NewFile>, CreateAuthorityError> {
    let key = new_key()?;
    let sign = CreateAuthorityError::Sign;
    let federation = authority.federation();
    let life = super::create::AUTHORITY_LIFE;
    let new = sign_authority(federation, &key, Validity { now, life }).map_err(sign)?;
    let validity = Validity { now, life: overlap };
    let successor = sign_successor(&authority.issuer, federation, &key, validity).map_err(sign)?;
    let issuer = Issuer::from_ca_cert_der(new.der(), &key)
        .map_err(|error| sign(SignError::Certificate(error)))?;
    let old = fs::read_to_string(directory.authority_certificate());
    let old = old.map_err(wrong(&directory.authority_certificate()))?;
    let mut files = vec![
        (directory.authority_certificate(), new.pem(), PUBLIC),
        (directory.authority_key(), key.serialize_pem(), PRIVATE),
        (directory.old_authority_certificate(), old, PUBLIC),
        (directory.successor_certificate(), successor.pem(), PUBLIC),
    ];
    for path in [directory.certificate(), directory.admin_certificate()] {
        let stored = match Stored::read(path) {
            // An operator may keep the administrator's files elsewhere.
            Err(LoadAuthorityError::Missing { .. }) => continue,
            read => read.map_err(CreateAuthorityError::Load)?,
        };
        let certificate = resigned(&issuer, authority, &stored, now)?;
        files.push((stored.path, certificate, PUBLIC));
    }
    Ok(files)
}

/// The certificate of the same owner and key by the new authority, PEM.
fn resigned(
    issuer: &Issuer<'_, &rcgen::KeyPair>,
    authority: &Authority,
    stored: &Stored,
    now: Timestamp,
) -> Result<String, CreateAuthorityError> {
    let unreadable = |error| CreateAuthorityError::Load(damaged(&stored.path, error));
    let (_, parsed) = X509Certificate::from_der(&stored.certificate)
        .map_err(|error| CreateAuthorityError::Load(damaged(&stored.path, error)))?;
    let key = public_key(parsed.public_key().raw).map_err(unreadable)?;
    let validity = Validity {
        now,
        life: LEAF_LIFE,
    };
    let owner = (&stored.content.identity, &Labels::new());
    let certificate = sign_leaf(issuer, authority.federation(), owner, &key, validity)
        .map_err(CreateAuthorityError::Sign)?;
    Ok(certificate.pem())
}

/// Copies what is in the identity's directory and not in the new one: keys of server and administrator, and what an operator put there.
fn keep_others(directory: &ServerDirectory, partial: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory.identity())? {
        let entry = entry?;
        let place = partial.join(entry.file_name());
        if place.exists() || !entry.file_type()?.is_file() {
            continue;
        }
        let mode = entry.metadata()?.permissions().mode();
        super::create::write_new(&place, &fs::read(entry.path())?, mode)?;
    }
    sync(partial)
}
