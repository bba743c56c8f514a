//! The client's key and certificates on disk.
//!
//! Keys are ECDSA P-256, made here, readable by their owner alone, and never printed. A renewed certificate and its key take the
//! place of the old ones in two renames; a process that finds only the first of them done does the second.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use fedmerge_common::clock::Clock;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::identity::{PeerCertificate, life_of};
use fedmerge_common::tls;
use fedmerge_common::units::Timestamp;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use ring::digest::{SHA256, digest};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::journal::write_durably;
use crate::settings::{ClientDirectory, OwnCertificate, Settings};

/// The key of a directory: the one an enrolment that was cut off left there, or a new one.
///
/// # Errors
/// When it can be neither read nor made.
pub(super) fn key(directory: &ClientDirectory) -> Result<KeyPair, Failure> {
    key_at(directory, directory.key())
}

/// The key of the next certificate: the one that was asked for before, or a new one.
///
/// # Errors
/// When it can be neither read nor made.
pub(super) fn next_key(directory: &ClientDirectory) -> Result<KeyPair, Failure> {
    key_at(directory, directory.next_key())
}

fn key_at(directory: &ClientDirectory, path: PathBuf) -> Result<KeyPair, Failure> {
    match fs::read_to_string(&path) {
        Ok(text) => KeyPair::from_pem(&text).map_err(|error| {
            Failure::new(
                ExitCode::BadData,
                format!("{} is not a private key", path.display()),
            )
            .with_source(&error)
            .with_hint("remove it and enrol again")
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| {
                Failure::new(ExitCode::Unavailable, "no private key can be made")
                    .with_source(&error)
            })?;
            write_key(directory, &path, &key).map_err(|error| unwritable(&path, &error))?;
            Ok(key)
        }
        Err(error) => Err(unreadable(&path, &error)),
    }
}

fn write_key(directory: &ClientDirectory, path: &Path, key: &KeyPair) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory.identity())?;
    let mut file = fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(key.serialize_pem().as_bytes())?;
    file.sync_all()?;
    fs::File::open(directory.identity())?.sync_all()
}

/// A PKCS #10 request for the key, DER; everything but the key is the server's to decide.
pub(super) fn certificate_request(key: &KeyPair) -> Result<Vec<u8>, Failure> {
    let request = CertificateParams::default().serialize_request(key);
    let request = request.map_err(|error| {
        Failure::new(ExitCode::Bug, "the certificate request cannot be made").with_source(&error)
    })?;
    Ok(request.der().to_vec())
}

/// SHA-256 of the key's public half, as certificates carry it.
pub(super) fn public_key_of(key: &KeyPair) -> [u8; 32] {
    let hash = digest(&SHA256, &key.subject_public_key_info());
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Writes the certificate of the federation's authority, DER in, PEM out.
pub(super) fn store_authority(
    directory: &ClientDirectory,
    authority: &[u8],
) -> Result<(), Failure> {
    let path = directory.authority();
    let write = || {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory.identity())?;
        let text = pem::encode(&pem::Pem::new("CERTIFICATE", authority));
        write_durably(&path, text.as_bytes())
    };
    write().map_err(|error| unwritable(&path, &error))
}

/// Writes both certificates, DER in, PEM out.
pub(super) fn store(
    directory: &ClientDirectory,
    certificate: &[u8],
    authority: &[u8],
) -> Result<(), Failure> {
    for (path, der) in [
        (directory.certificate(), certificate),
        (directory.authority(), authority),
    ] {
        let text = pem::encode(&pem::Pem::new("CERTIFICATE", der));
        fs::write(&path, text).map_err(|error| unwritable(&path, &error))?;
    }
    Ok(())
}

/// Puts the next certificate and its key into the place of the present ones, with the authority's, all DER.
pub(super) fn replace(
    directory: &ClientDirectory,
    certificate: &[u8],
    authority: &[u8],
) -> Result<(), Failure> {
    let text = |der| pem::encode(&pem::Pem::new("CERTIFICATE", der));
    for (path, der) in [
        (directory.authority(), authority),
        (directory.next_certificate(), certificate),
    ] {
        write_durably(&path, text(der).as_bytes()).map_err(|error| unwritable(&path, &error))?;
    }
    settle(directory)
}

/// Ends a replacement that a crash has broken off; does nothing where there is none.
///
/// # Errors
/// When the file system refuses.
pub fn settle(directory: &ClientDirectory) -> Result<(), Failure> {
    let next = directory.next_certificate();
    if !next.exists() {
        return Ok(());
    }
    let settle = || {
        if directory.next_key().exists() {
            fs::rename(directory.next_key(), directory.key())?;
        }
        fs::rename(&next, directory.certificate())?;
        fs::File::open(directory.identity())?.sync_all()
    };
    settle().map_err(|error| unwritable(&directory.certificate(), &error))
}

/// The client's certificate.
///
/// # Errors
/// When it cannot be read.
pub fn certificate(directory: &ClientDirectory) -> Result<PeerCertificate, Failure> {
    Ok(read_certificate(&directory.certificate())?.1)
}

/// Last moment of the client's certificate.
///
/// # Errors
/// When the certificate cannot be read.
pub fn certificate_end(directory: &ClientDirectory) -> Result<Timestamp, Failure> {
    Ok(read_certificate(&directory.certificate())?.1.not_after)
}

/// The certificate of the federation's authority.
///
/// # Errors
/// When it cannot be read.
pub fn authority(directory: &ClientDirectory) -> Result<CertificateDer<'static>, Failure> {
    let path = directory.authority();
    CertificateDer::from_pem_file(&path).map_err(|error| broken(&path, &error))
}

/// A certificate that a client shows, with its key.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    /// First and last moment of its life.
    life: (Timestamp, Timestamp),
    /// What to do when that is over.
    hint: String,
}

impl Shown {
    /// Refuses a certificate that is not valid now.
    pub(super) fn check(&self, now: Timestamp) -> Result<(), Failure> {
        let (begin, end) = self.life;
        let (word, moment) = if now < begin {
            ("is not valid before", begin)
        } else if now >= end {
            ("expired at", end)
        } else {
            return Ok(());
        };
        let message =
            format!("this client's certificate {word} {moment}; this machine's clock says {now}");
        Err(Failure::new(ExitCode::NotPermitted, message).with_hint(&self.hint))
    }
}

/// The certificate that a site's own authority gave this machine.
pub(super) fn own(certificate: &OwnCertificate) -> Result<Shown, Failure> {
    let (path, key_path) = (&certificate.chain, &certificate.key);
    let broken = |path: &Path, error: &dyn std::error::Error| {
        let message = format!("{} cannot be used", path.display());
        Failure::new(ExitCode::BadData, message)
            .with_source(error)
            .with_hint("it is this site's own certificate, which its own authority gives out")
    };
    let chain = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let chain: Vec<_> = chain.map_err(|error| broken(path, &error))?;
    let Some(first) = chain.first() else {
        return Err(broken(path, &rustls_pki_types::pem::Error::NoItemsFound));
    };
    Ok(Shown {
        life: life_of(first).map_err(|error| broken(path, &error))?,
        key: PrivateKeyDer::from_pem_file(key_path).map_err(|error| broken(key_path, &error))?,
        hint: format!(
            "check the clock; if it is right, have the site's authority write a new one to {}",
            path.display()
        ),
        chain,
    })
}

fn of_federation(directory: &ClientDirectory) -> Result<Shown, Failure> {
    let (certificate, parsed) = read_certificate(&directory.certificate())?;
    let key_path = directory.key();
    Ok(Shown {
        chain: vec![certificate],
        key: PrivateKeyDer::from_pem_file(&key_path).map_err(|error| broken(&key_path, &error))?,
        life: (parsed.not_before, parsed.not_after),
        hint: "check the clock; if it is right, enrol again into this directory, under this name, with a new token"
            .to_owned(),
    })
}

fn shown(directory: &ClientDirectory, settings: &Settings) -> Result<Shown, Failure> {
    match &settings.certificate {
        Some(certificate) => own(certificate),
        None => of_federation(directory),
    }
}

/// First and last moment of the life of the certificate that the client shows.
///
/// # Errors
/// When it cannot be read.
pub fn life(
    directory: &ClientDirectory,
    settings: &Settings,
) -> Result<(Timestamp, Timestamp), Failure> {
    Ok(shown(directory, settings)?.life)
}

/// Whether the certificate that the client shows is valid now.
///
/// # Errors
/// When it is not, or cannot be read.
pub fn check(
    directory: &ClientDirectory,
    settings: &Settings,
    now: Timestamp,
) -> Result<(), Failure> {
    shown(directory, settings)?.check(now)
}

/// The certificates that the client shows, and when they end.
pub(super) fn chain(
    directory: &ClientDirectory,
    settings: &Settings,
) -> Result<(Vec<CertificateDer<'static>>, Timestamp), Failure> {
    let shown = shown(directory, settings)?;
    Ok((shown.chain, shown.life.1))
}

/// TLS with the client's certificate, for one that is valid now.
///
/// # Errors
/// When key or certificates cannot be read, or the certificate is not valid at this moment.
pub fn load(
    directory: &ClientDirectory,
    settings: &Settings,
    clock: &Clock,
) -> Result<rustls::ClientConfig, Failure> {
    settle(directory)?;
    let shown = shown(directory, settings)?;
    shown.check(clock.now())?;
    let authority = authority(directory)?;
    tls::client_config_mutual(authority, shown.chain, shown.key, *clock).map_err(|error| {
        Failure::new(
            ExitCode::BadData,
            "key and certificate of this client do not fit",
        )
        .with_source(&error)
        .with_hint("enrol again into a new directory")
    })
}

fn read_certificate(path: &Path) -> Result<(CertificateDer<'static>, PeerCertificate), Failure> {
    let certificate = CertificateDer::from_pem_file(path).map_err(|error| broken(path, &error))?;
    let parsed = PeerCertificate::parse(&certificate).map_err(|error| broken(path, &error))?;
    Ok((certificate, parsed))
}

fn broken(path: &Path, error: &dyn std::error::Error) -> Failure {
    Failure::new(
        ExitCode::BadData,
        format!("{} cannot be used", path.display()),
    )
    .with_source(error)
    .with_hint("enrol again into a new directory")
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        ExitCode::Unavailable,
        format!("{} cannot be read", path.display()),
    )
    .with_source(error)
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        ExitCode::Unavailable,
        format!("{} cannot be written", path.display()),
    )
    .with_source(error)
}
