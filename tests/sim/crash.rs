//! A ledger's files, and what a crash leaves of them.
//!
//! Rests on what SQLite promises of a write-ahead log that is synced at each commit, which is how the ledger is opened: of a transaction
//! that nobody was told of, any part of the log may be there; everything before it is on disk; and the database takes in nothing but
//! what the log has synced. Reading these files drops this process's locks on them, which nobody else asks for.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::random::Random;

const NAME: &str = "ledger.sqlite";
/// The log's header: magic number, version, page size, sequence number, two salts, two checksums.
const HEADER_BYTES: usize = 32;
/// Before each page: its number, the database's pages where it ends a transaction, the header's salts, two checksums.
const FRAME_HEADER_BYTES: usize = 24;
/// What SQLite calls a page unless told otherwise.
const PAGE_BYTES: usize = 4096;
const FRAME_BYTES: usize = FRAME_HEADER_BYTES + PAGE_BYTES;
/// What a disk writes at once.
const SECTOR_BYTES: usize = 512;

/// The ledger in a directory.
pub(crate) fn ledger_in(directory: &Path) -> PathBuf {
    directory.join(NAME)
}

/// What stands in the log after the byte at which a crash cut it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rest {
    /// What stood there before, if the log was that long.
    Old,
    /// The file had grown, and its new blocks were never written.
    Zeros,
    Garbage,
    /// Everything but a sector: they are written in any order.
    New,
}

impl Rest {
    pub(crate) const ALL: [Self; 4] = [Self::Old, Self::Zeros, Self::Garbage, Self::New];
}

/// What becomes of the index of the log, which no disk has to keep.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Index {
    Kept,
    Missing,
    Garbage,
}

impl Index {
    pub(crate) const ALL: [Self; 3] = [Self::Kept, Self::Missing, Self::Garbage];
}

/// A ledger's files at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) database: Vec<u8>,
    pub(crate) log: Vec<u8>,
    index: Vec<u8>,
}

impl Files {
    pub(crate) fn read(directory: &Path) -> Self {
        let read = |suffix| fs::read(directory.join(format!("{NAME}{suffix}"))).unwrap_or_default();
        Self {
            database: read(""),
            log: read("-wal"),
            index: read("-shm"),
        }
    }

    pub(crate) fn write(&self, directory: &Path, index: Index) {
        let write = |suffix, bytes: &[u8]| {
            fs::write(directory.join(format!("{NAME}{suffix}")), bytes).unwrap();
        };
        write("", &self.database);
        write("-wal", &self.log);
        match index {
            Index::Kept => write("-shm", &self.index),
            Index::Missing => {}
            Index::Garbage => write("-shm", &vec![0xa5; self.index.len()]),
        }
    }

    /// Where the log's last transaction ends: frames of an earlier log, which this one has not yet overwritten, have other salts.
    fn log_end(&self) -> usize {
        let Some(header) = self.log.get(..HEADER_BYTES) else {
            return 0;
        };
        let frames = self.log[HEADER_BYTES..].chunks_exact(FRAME_BYTES);
        let ours = frames.take_while(|frame| frame[8..16] == header[16..24]);
        let ends = ours.zip(1..).filter(|(frame, _)| frame[4..8] != [0; 4]);
        let frames = ends.last().map_or(0, |(_, frames)| frames);
        HEADER_BYTES + frames * FRAME_BYTES
    }
}

/// A write in the middle of which a crash comes, by the files before and after it.
#[derive(Debug)]
pub(crate) struct Tear {
    before: Files,
    after: Files,
}

impl Tear {
    pub(crate) fn new(before: Files, after: Files) -> Self {
        Self { before, after }
    }

    /// Whether the write began the log anew, over the one before: that one is in the database.
    pub(crate) fn begins_a_log(&self) -> bool {
        let header = |files: &Files| files.log.get(..HEADER_BYTES).map(<[u8]>::to_vec);
        header(&self.before) != header(&self.after)
    }

    /// Whether the write was followed by taking the log into the database.
    pub(crate) fn is_taken_in(&self) -> bool {
        self.before.database != self.after.database
    }

    /// The bytes of the log that the write changes.
    pub(crate) fn bytes(&self) -> Range<usize> {
        let begin = if self.begins_a_log() {
            0
        } else {
            self.before.log_end()
        };
        begin..self.after.log_end()
    }

    /// Where the parts of what is written begin: the log's header, and each frame's header and page.
    pub(crate) fn seams(&self) -> Vec<usize> {
        let bytes = self.bytes();
        let first = bytes.start.max(HEADER_BYTES);
        let frames = (first..bytes.end).step_by(FRAME_BYTES);
        let parts = frames.flat_map(|frame| [frame, frame + FRAME_HEADER_BYTES]);
        [bytes.start].into_iter().chain(parts).collect()
    }

    /// What is there when the bytes before `cut` are on disk, and whether that is the whole write.
    pub(crate) fn at(&self, cut: usize, rest: Rest) -> (Files, bool) {
        let whole = &self.after.log[..self.bytes().end];
        let mut log = whole[..cut].to_vec();
        match rest {
            Rest::Old => log.extend(self.before.log.iter().skip(cut)),
            Rest::Zeros => log.resize(whole.len(), 0),
            Rest::Garbage => log.extend(whole[cut..].iter().map(|byte| byte ^ 0xa5)),
            Rest::New => {
                log.extend(&whole[cut..]);
                let sector = cut..whole.len().min(cut + SECTOR_BYTES);
                log[sector].fill(0);
            }
        }
        // What is left of a page may be what the cut took: zeros.
        let is_whole = log.starts_with(whole);
        let files = Files {
            log,
            ..self.before.clone()
        };
        (files, is_whole)
    }

    /// What is there when the write was whole, and the crash came while the database took in some of its pages.
    pub(crate) fn taking_in(&self, random: &mut Random) -> Files {
        let mut database = self.before.database.clone();
        database.resize(self.after.database.len(), 0);
        let new = self.after.database.chunks(PAGE_BYTES);
        let pages = database.chunks_mut(PAGE_BYTES).zip(new);
        for (page, new) in pages {
            if random.chance(500) {
                page.copy_from_slice(new);
            }
        }
        Files {
            database,
            ..self.after.clone()
        }
    }
}
