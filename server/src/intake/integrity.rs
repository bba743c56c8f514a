//! Integrity: the bytes that arrived are those announced, by size and by digest.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use fedmerge_common::digest::{Digest, DigestWriter};
use fedmerge_common::reason::Rejection;
use fedmerge_common::update::UpdateHeader;

use crate::intake::{IntakeError, Stop, go_on_unless};

const BLOCK_BYTES: usize = 256 * 1024;

pub(super) fn check(
    path: &Path,
    header: &UpdateHeader,
    known: Option<Digest>,
    cancelled: &AtomicBool,
) -> Result<(), Stop> {
    let failed = |source| IntakeError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let found_bytes = file.metadata().map_err(failed)?.len();
    if found_bytes != header.payload_bytes {
        let announced_bytes = header.payload_bytes;
        return Err(Stop::Rejected(Rejection::malformed(format_args!(
            "the payload has {found_bytes} bytes, announced were {announced_bytes}"
        ))));
    }
    let found = match known {
        Some(known) => known,
        None => hash(file, cancelled, failed)?,
    };
    if found != header.payload {
        return Err(Rejection::digest_mismatch(&header.payload, &found).into());
    }
    Ok(())
}

fn hash(
    mut file: File,
    cancelled: &AtomicBool,
    failed: impl Fn(io::Error) -> IntakeError,
) -> Result<Digest, Stop> {
    let mut digest = DigestWriter::new();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        go_on_unless(cancelled)?;
        match file.read(&mut block) {
            Ok(0) => return Ok(digest.finish()),
            Ok(bytes) => digest.update(&block[..bytes]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error).into()),
        }
    }
}
