//! The file of a download, which grows from its end, and the digest of what is in it.
//!
//! A chunk that is out of place, corrupt or beyond the whole is never written. Everything here blocks.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use fedmerge_common::digest::tree::TreeDigest;
use fedmerge_common::packing::Unpacker;
use fedmerge_common::pieces::read_piece;
use fedmerge_proto::convert::transfer::verified_chunk;
use fedmerge_proto::limits::CHUNK_BYTES;
use fedmerge_proto::v1;

use super::Interruption;
use crate::link::trouble::Trouble;

/// A part of a model.
pub(super) struct Part {
    file: File,
    pub(super) written_bytes: u64,
    whole_bytes: u64,
    /// A base that is here.
    older: Option<File>,
    unpacker: Unpacker,
    /// Of the bytes that are written; boxed, because it is large, and a part goes from hand to hand.
    pub(super) digest: Box<TreeDigest>,
}

impl Part {
    /// Goes on with what is there, unless that is longer than the whole. `older` is a base that is here.
    pub(super) fn open(path: &Path, whole_bytes: u64, older: Option<&Path>) -> io::Result<Self> {
        let mut options = File::options();
        options.create(true).read(true).write(true).truncate(false);
        let file = options.open(path)?;
        if file.metadata()?.len() > whole_bytes {
            file.set_len(0)?;
        }
        let (mut digest, mut written_bytes) = (Box::new(TreeDigest::new()), 0);
        loop {
            let piece = read_piece(&file, CHUNK_BYTES)?;
            if piece.is_empty() {
                break;
            }
            digest.update(&piece);
            written_bytes += piece.len() as u64;
        }
        let older = older.map(File::open).transpose()?;
        let unpacker = match &older {
            Some(older) => Unpacker::beside(older.try_clone()?),
            None => Unpacker::default(),
        };
        Ok(Self {
            file,
            written_bytes,
            whole_bytes,
            older,
            unpacker,
            digest,
        })
    }

    /// Whether a chunk may come as distances from the base that is here.
    pub(super) fn has_older(&self) -> bool {
        self.unpacker.has_older()
    }

    /// Writes at the end what the base that is here has at the same place, up to a byte.
    pub(super) fn copy(&mut self, end: u64) -> io::Result<()> {
        let mut from = self.older.as_ref().ok_or(io::ErrorKind::NotFound)?;
        from.seek(SeekFrom::Start(self.written_bytes))?;
        while self.written_bytes < end {
            let missing = usize::try_from(end - self.written_bytes).unwrap_or(usize::MAX);
            let piece = read_piece(from, missing.min(CHUNK_BYTES))?;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.file.write_all_at(&piece, self.written_bytes)?;
            self.digest.update(&piece);
            self.written_bytes += piece.len() as u64;
        }
        Ok(())
    }

    /// Writes a chunk at the end, where it must begin.
    pub(super) fn append(&mut self, chunk: Option<v1::Chunk>) -> Result<(), Interruption> {
        let chunk = verified_chunk(chunk, &mut self.unpacker).map_err(|error| {
            // It may be that the base that is here is not what it was.
            self.unpacker = Unpacker::default();
            Trouble::Cut(error.to_string())
        })?;
        if chunk.offset != self.written_bytes || chunk.end() > self.whole_bytes {
            let words = format!(
                "a chunk at bytes {} to {} came where {} of {} was due",
                chunk.offset,
                chunk.end(),
                self.written_bytes,
                self.whole_bytes
            );
            return Err(Trouble::Cut(words).into());
        }
        self.file
            .write_all_at(&chunk.data, chunk.offset)
            .map_err(Interruption::Disk)?;
        self.digest.update_hashed(&chunk.data, chunk.hash);
        self.written_bytes = chunk.end();
        Ok(())
    }
}
