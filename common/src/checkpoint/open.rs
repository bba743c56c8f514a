//! Opening one file of a checkpoint: it must be a regular file, as long as its header says, to the byte.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::checkpoint::header::{
    self, Header, HeaderLimits, InvalidCheckpoint, LENGTH_BYTES, MAX_HEADER_BYTES,
};
use crate::checkpoint::read::ReadCheckpointError;

/// Opens a regular file and tells its size. Anything else could block or never end.
pub(super) fn open_file(path: &Path) -> Result<(File, u64), ReadCheckpointError> {
    let failed = |source| ReadCheckpointError::Io {
        path: path.to_owned(),
        source,
    };
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        )));
    }
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    Ok((file, bytes))
}

/// Opens a file, reads its header and checks that the file is as long as that says. Answers also where the
/// tensors begin.
pub(super) fn open_shard(
    path: &Path,
    limits: &HeaderLimits,
) -> Result<(File, Header, u64), ReadCheckpointError> {
    let failed = |source| ReadCheckpointError::Io {
        path: path.to_owned(),
        source,
    };
    let invalid = |source| ReadCheckpointError::Invalid {
        path: path.to_owned(),
        source,
    };
    let (file, found) = open_file(path)?;
    if found < LENGTH_BYTES {
        return Err(invalid(InvalidCheckpoint::Truncated {
            expected: LENGTH_BYTES,
            found,
        }));
    }
    let mut length = [0; size_of::<u64>()];
    file.read_exact_at(&mut length, 0).map_err(failed)?;
    let header_bytes = u64::from_le_bytes(length);
    let limit = limits.bytes.min(MAX_HEADER_BYTES);
    if header_bytes > limit {
        return Err(invalid(InvalidCheckpoint::HeaderTooLarge {
            bytes: header_bytes,
            limit,
        }));
    }
    let data_begin = LENGTH_BYTES + header_bytes;
    if found < data_begin {
        return Err(invalid(InvalidCheckpoint::Truncated {
            expected: data_begin,
            found,
        }));
    }
    let mut json = vec![0; usize::try_from(header_bytes).expect("the limit fits")];
    file.read_exact_at(&mut json, LENGTH_BYTES)
        .map_err(failed)?;
    let header = header::parse(&json, limits).map_err(invalid)?;
    let expected = data_begin.saturating_add(header.data_bytes);
    if found < expected {
        return Err(invalid(InvalidCheckpoint::Truncated { expected, found }));
    }
    if found > expected {
        return Err(invalid(InvalidCheckpoint::TrailingBytes {
            expected,
            found,
        }));
    }
    Ok((file, header, data_begin))
}
