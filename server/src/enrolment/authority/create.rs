//! The making of an identity directory: all of it or nothing.
//!
//! Files are written beside their place and take it with one rename, so that a crash leaves no half of an
//! identity, and an identity that is there is never overwritten. Keys are readable by their owner alone from
//! the moment they exist.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::identity::{Identity, Labels};
use fedmerge_common::ids::FederationName;
use fedmerge_common::units::{Millis, Timestamp};
use rcgen::{Certificate, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};

use crate::directory::ServerDirectory;
use crate::enrolment::authority::load::LoadAuthorityError;
use crate::enrolment::authority::sign::{SignError, Validity, sign_authority, sign_leaf};
use crate::enrolment::authority::{ADMIN, LEAF_LIFE};

/// How long an authority's certificate lives: ten years.
pub(super) const AUTHORITY_LIFE: Millis = Millis::from_secs(10 * 365 * 24 * 3600);
/// Mode of a private key.
pub(super) const PRIVATE: u32 = 0o600;
/// Mode of a certificate.
pub(super) const PUBLIC: u32 = 0o644;

/// Why a federation has no authority now.
#[derive(Debug, thiserror::Error)]
pub enum CreateAuthorityError {
    /// An identity is there already.
    #[error("{} is there already", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// An authority was rotated, and whoever knows the one before it is still served.
    #[error(
        "the authority was rotated before, and whoever knows the old one is served until {until}"
    )]
    Overlapping {
        /// When that ends.
        until: Timestamp,
    },
    /// A file cannot be written.
    #[error("{} cannot be written", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A private key cannot be made.
    #[error("no private key can be made")]
    Key(#[source] rcgen::Error),
    /// A certificate cannot be made.
    #[error("no certificate can be made")]
    Sign(#[source] SignError),
    /// What was written cannot be read back.
    #[error("the new identity cannot be read back")]
    Load(#[source] LoadAuthorityError),
}

impl From<CreateAuthorityError> for Failure {
    fn from(error: CreateAuthorityError) -> Self {
        match &error {
            CreateAuthorityError::Exists { .. } => {
                Self::from_error(ExitCode::BadConfiguration, &error)
                    .with_hint("serve the federation that is there, or choose another directory")
            }
            CreateAuthorityError::Overlapping { .. } => {
                Self::from_error(ExitCode::Temporary, &error).with_hint("rotate again after that")
            }
            CreateAuthorityError::File { .. } | CreateAuthorityError::Key(_) => {
                Self::from_error(ExitCode::Unavailable, &error)
            }
            CreateAuthorityError::Sign(_) | CreateAuthorityError::Load(_) => {
                Self::from_error(ExitCode::Bug, &error)
            }
        }
    }
}

/// A file of the identity directory: its place, its content, its mode.
pub(super) type NewFile = (PathBuf, String, u32);

/// Makes the identity directory of a new federation.
pub(super) fn create(
    directory: &ServerDirectory,
    federation: &FederationName,
    now: Timestamp,
) -> Result<(), CreateAuthorityError> {
    let place = directory.identity();
    if fs::read_dir(&place).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(CreateAuthorityError::Exists { path: place });
    }
    let files = new_identity(directory, federation, now)?;
    let partial = place.with_extension("partial");
    write_all(&partial, &files)?;
    match fs::rename(&partial, &place).and_then(|()| sync(directory.root())) {
        Ok(()) => Ok(()),
        Err(source) if source.kind() == io::ErrorKind::DirectoryNotEmpty => {
            Err(CreateAuthorityError::Exists { path: place })
        }
        Err(source) => Err(wrong(&place)(source)),
    }
}

fn new_identity(
    directory: &ServerDirectory,
    federation: &FederationName,
    now: Timestamp,
) -> Result<Vec<NewFile>, CreateAuthorityError> {
    let key = new_key()?;
    let life = AUTHORITY_LIFE;
    let authority = sign_authority(federation, &key, Validity { now, life })
        .map_err(CreateAuthorityError::Sign)?;
    let issuer = Issuer::from_ca_cert_der(authority.der(), &key)
        .map_err(|error| CreateAuthorityError::Sign(SignError::Certificate(error)))?;
    let mut files = vec![
        (directory.authority_certificate(), authority.pem(), PUBLIC),
        (directory.authority_key(), key.serialize_pem(), PRIVATE),
    ];
    let admin = Identity::Admin(ADMIN.parse().expect("a constant name is valid"));
    for (identity, certificate_place, key_place) in [
        (Identity::Server, directory.certificate(), directory.key()),
        (admin, directory.admin_certificate(), directory.admin_key()),
    ] {
        let key = new_key()?;
        let life = LEAF_LIFE;
        let certificate = sign_leaf(
            &issuer,
            federation,
            (&identity, &Labels::new()),
            &key,
            Validity { now, life },
        )
        .map_err(CreateAuthorityError::Sign)?;
        files.push((certificate_place, certificate.pem(), PUBLIC));
        files.push((key_place, key.serialize_pem(), PRIVATE));
    }
    Ok(files)
}

/// Writes the key and certificate of somebody who is no client, beside the authority's certificate.
pub(super) fn certify(
    directory: &ServerDirectory,
    (issuer, federation): (&Issuer<'_, KeyPair>, &FederationName),
    identity: &Identity,
    validity: Validity,
    place: &Path,
) -> Result<(), CreateAuthorityError> {
    let name = match identity {
        Identity::Admin(name) | Identity::Observer(name) => name.as_str(),
        Identity::Client(client) => client.as_str(),
        Identity::Server => "server",
    };
    let key = new_key()?;
    let certificate = sign_leaf(
        issuer,
        federation,
        (identity, &Labels::new()),
        &key,
        validity,
    )
    .map_err(CreateAuthorityError::Sign)?;
    let authority = directory.authority_certificate();
    let authority = fs::read_to_string(&authority).map_err(wrong(&authority))?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(place)
        .map_err(wrong(place))?;
    for (file, content, mode) in [
        (format!("{name}.key"), key.serialize_pem(), PRIVATE),
        (format!("{name}.pem"), certificate.pem(), PUBLIC),
        ("ca.pem".to_owned(), authority, PUBLIC),
    ] {
        let path = place.join(file);
        write_new(&path, &content, mode).map_err(wrong(&path))?;
    }
    sync(place).map_err(wrong(place))
}

pub(super) fn new_key() -> Result<KeyPair, CreateAuthorityError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CreateAuthorityError::Key)
}

/// Writes the files into a directory of their own, in place of what an attempt that was cut off left there.
pub(super) fn write_all(partial: &Path, files: &[NewFile]) -> Result<(), CreateAuthorityError> {
    match fs::remove_dir_all(partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(wrong(partial)(error)),
        Ok(()) | Err(_) => {}
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(partial)
        .map_err(wrong(partial))?;
    for (place, content, mode) in files {
        let name = place.file_name().expect("the place of a file has a name");
        write_new(&partial.join(name), content, *mode).map_err(wrong(place))?;
    }
    sync(partial).map_err(wrong(partial))
}

pub(super) fn write_new(path: &Path, content: impl AsRef<[u8]>, mode: u32) -> io::Result<()> {
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(content.as_ref())?;
    file.sync_all()
}

pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Puts a renewed certificate in the place of the old one, whole or not at all.
pub(super) fn replace_certificate(place: &Path, certificate: &Certificate) -> io::Result<()> {
    let partial = place.with_extension("partial");
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    write_new(&partial, certificate.pem(), PUBLIC)?;
    fs::rename(&partial, place)?;
    place.parent().map_or(Ok(()), sync)
}

pub(super) fn wrong(path: &Path) -> impl Fn(io::Error) -> CreateAuthorityError + use<> {
    let path = path.to_owned();
    move |source| CreateAuthorityError::File {
        path: path.clone(),
        source,
    }
}
