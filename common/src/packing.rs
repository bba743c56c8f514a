//! Runs of a file made smaller for the wire, without loss: for links on which bytes take longer than arithmetic.
//!
//! Floats hardly compress as they stand, because the bytes that resemble one another stand apart. So a run's words are split in planes: all
//! first bytes, then all second bytes, and so on; the plane of the exponents holds few different values. Where the receiver has an older
//! version of the file, each word becomes its distance from the older one at the same place: floats that are neighbours are neighbours as
//! integers, so the distances of a model from the one before are small, and their upper planes are empty. Each plane is compressed by
//! zstd, or stands as it is where that is shorter. How long the words are, and whether distances are shorter, is told by the bytes alone.
//!
//! The layout, with integers in little-endian order: one byte, whose bits 0 and 1 are the logarithm to the base 2 of a word's length
//! and whose bit 2 says that words are distances, zigzag coded; for each plane 4 bytes, of which bit 31 says that it is not compressed and the
//! others how long it is, and the plane; then the bytes that make no whole word, as they are.
//!
//! Nothing that is stored or has a digest depends on this form: it ends where it arrives, and the bytes' own hash decides.

mod gain;
mod outgoing;
mod pace;
mod planes;
mod slots;

use std::fs::File;
use std::os::unix::fs::FileExt;

use zstd::bulk::{Compressor, Decompressor};

pub use outgoing::{Batch, Outgoing, Run};
pub use pace::Pace;
use planes::{Form, join, split};

/// Fast, and for planes without repetitions as good as any.
const LEVEL: i32 = 1;
/// Bytes before a plane: its length and whether it is compressed.
const LENGTH_BYTES: usize = 4;
const STORED: u32 = 1 << 31;
/// What is packed to more than this part, of 16, stands as it is.
const WORTHWHILE_SIXTEENTHS: usize = 15;

/// Bytes that are not packed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// The first byte names no form.
    #[error("it has the form {0}, which is none")]
    Form(u8),
    /// The bytes end before the planes do.
    #[error("its {0} bytes end too early")]
    Truncated(usize),
    /// More bytes follow than belong to it.
    #[error("{0} bytes follow its end")]
    Trailing(usize),
    /// A plane does not have as many bytes as there are words.
    #[error("plane {plane} is not {words} bytes long")]
    Plane {
        /// Which, from 0.
        plane: usize,
        /// How long it should be.
        words: usize,
    },
    /// It is distances, and what they are measured from is not here.
    #[error("it needs an older version, which is not here")]
    NoOlder,
    /// No memory.
    #[error("zstd cannot begin")]
    NoMemory,
}

/// A file of which the receiver has an older version, or the older version at the receiver.
#[derive(Debug, Default)]
struct Older {
    file: Option<File>,
    run: Vec<u8>,
}

impl Older {
    /// As many bytes as are asked for at a place, where they are there.
    fn at(&mut self, offset: u64, bytes: usize) -> Option<&[u8]> {
        let file = self.file.as_ref()?;
        self.run.resize(bytes, 0);
        file.read_exact_at(&mut self.run, offset).ok()?;
        Some(&self.run)
    }
}

/// Packs runs, one after the other, in memory that it keeps.
pub struct Packer {
    compressor: Compressor<'static>,
    planes: Vec<u8>,
    older: Older,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Packer").finish_non_exhaustive()
    }
}

impl Packer {
    /// One for runs of a file of which the receiver may have an older version.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn beside(older: Option<File>) -> std::io::Result<Self> {
        Ok(Self {
            compressor: Compressor::new(LEVEL)?,
            planes: Vec::new(),
            older: Older {
                file: older,
                run: Vec::new(),
            },
        })
    }

    /// The run at `offset` of the file in fewer bytes, where that succeeds.
    #[must_use]
    pub fn pack(&mut self, offset: u64, run: &[u8]) -> Option<Vec<u8>> {
        let older = self.older.at(offset, run.len());
        let form = gain::best_form(run, older)?;
        let words = run.len() / form.width();
        let tail = &run[words * form.width()..];
        self.planes.resize(words * form.width(), 0);
        split(run, older, form, &mut self.planes);
        let most_bytes = run.len() / 16 * WORTHWHILE_SIXTEENTHS;
        let mut packed = Vec::with_capacity(most_bytes);
        packed.push(form.byte());
        for plane in self.planes.chunks_exact(words.max(1)) {
            append_plane(&mut self.compressor, plane, &mut packed);
            if packed.len() > most_bytes {
                return None;
            }
        }
        packed.extend_from_slice(tail);
        (packed.len() <= most_bytes).then_some(packed)
    }
}

fn append_plane(compressor: &mut Compressor<'_>, plane: &[u8], packed: &mut Vec<u8>) {
    let begin = packed.len() + LENGTH_BYTES;
    packed.resize(begin + plane.len(), 0);
    let is_chance = gain::is_chance(plane);
    // A plane that does not become shorter does not fit.
    let compressed =
        (!is_chance).then(|| compressor.compress_to_buffer(plane, &mut packed[begin..]));
    let length = match compressed {
        Some(Ok(length)) if length < plane.len() => {
            packed.truncate(begin + length);
            u32::try_from(length).unwrap_or(STORED)
        }
        Some(Ok(_) | Err(_)) | None => {
            packed[begin..].copy_from_slice(plane);
            STORED | u32::try_from(plane.len()).unwrap_or(0)
        }
    };
    packed[begin - LENGTH_BYTES..begin].copy_from_slice(&length.to_le_bytes());
}

/// Unpacks runs, one after the other, in memory that it takes when it is first needed.
#[derive(Default)]
pub struct Unpacker {
    decompressor: Option<Decompressor<'static>>,
    planes: Vec<u8>,
    older: Older,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Unpacker").finish_non_exhaustive()
    }
}

impl Unpacker {
    /// One for a file of which an older version is here.
    #[must_use]
    pub fn beside(older: File) -> Self {
        Self {
            older: Older {
                file: Some(older),
                run: Vec::new(),
            },
            ..Self::default()
        }
    }

    /// Whether it has an older version.
    #[must_use]
    pub fn has_older(&self) -> bool {
        self.older.file.is_some()
    }

    /// The run at `offset` that is packed. It has so many bytes, which the caller has found to be few enough.
    ///
    /// # Errors
    /// When it is no run of that length that was packed.
    pub fn unpack(
        &mut self,
        offset: u64,
        packed: &[u8],
        bytes: usize,
    ) -> Result<Vec<u8>, UnpackError> {
        let truncated = || UnpackError::Truncated(packed.len());
        let (&form, mut rest) = packed.split_first().ok_or_else(truncated)?;
        let form = Form::from_byte(form).ok_or(UnpackError::Form(form))?;
        let older = if form.is_distance {
            Some(self.older.at(offset, bytes).ok_or(UnpackError::NoOlder)?)
        } else {
            None
        };
        let words = bytes / form.width();
        self.planes.resize(words * form.width(), 0);
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(Decompressor::new().map_err(|_| UnpackError::NoMemory)?),
        };
        for (number, plane) in self.planes.chunks_exact_mut(words.max(1)).enumerate() {
            let (length, following) = rest.split_first_chunk().ok_or_else(truncated)?;
            let length = u32::from_le_bytes(*length);
            let is_stored = length & STORED != 0;
            let length = usize::try_from(length & !STORED).unwrap_or(usize::MAX);
            let found = following.get(..length).ok_or_else(truncated)?;
            rest = &following[length..];
            let is_whole = if is_stored {
                let is_whole = found.len() == words;
                plane[..found.len().min(words)].copy_from_slice(&found[..found.len().min(words)]);
                is_whole
            } else {
                // It stops at the plane's end, whatever the bytes claim.
                let length = decompressor.decompress_to_buffer(found, &mut *plane);
                length.is_ok_and(|length| length == words)
            };
            if !is_whole {
                let plane = number;
                return Err(UnpackError::Plane { plane, words });
            }
        }
        let tail = bytes - words * form.width();
        if rest.len() < tail {
            return Err(truncated());
        }
        if rest.len() > tail {
            return Err(UnpackError::Trailing(rest.len() - tail));
        }
        let mut run = vec![0; bytes];
        join(&self.planes, older, form, &mut run);
        run[words * form.width()..].copy_from_slice(rest);
        Ok(run)
    }
}

#[cfg(test)]
mod tests;
