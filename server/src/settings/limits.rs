//! `[limits]` of `server.toml`: what others may use of a server.

use fedmerge_common::checkpoint::{HeaderLimits, MAX_HEADER_BYTES, MAX_NAME_BYTES};
use fedmerge_common::units::ByteSize;
use serde::Deserialize;

use super::{Check, check};

const MIB: u64 = 1024 * 1024;

/// What clients may use: each limit keeps a hostile or broken client from harming the others.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Enrolled clients; 10,000. Bounds the ledger and the tables of rounds.
    pub clients: usize,
    /// Open connections; 2,000. Each costs a file descriptor and its windows.
    pub connections: usize,
    /// Peers that have shown no certificate, those in a handshake among them; 256. They are open to anyone: over the limit, the oldest of
    /// the address that has the most of them makes room.
    pub strangers: usize,
    /// Calls that a client makes in a second, in the long run, and an address from which machines enrol; 200. Five times as many are taken at once; more are told when to come
    /// back. A round takes a client about ten.
    pub calls: u32,
    /// TLS handshakes that an address begins in a second, in the long run; 200. Five times as many are begun at once; more are not
    /// answered at all.
    pub handshakes: u32,
    /// Connections of a client; 16. The oldest makes room.
    pub connections_of_client: usize,
    /// Calls that are under way on a connection; 32.
    pub streams: u32,
    /// Largest message; 8 MiB. Chunks of models and updates have 1 MiB at most.
    pub message_bytes: ByteSize,
    /// All headers of a call together; 16 KiB.
    pub call_header_bytes: ByteSize,
    /// Header of an update's file, which names its tensors; 16 MiB. It is held in memory.
    pub header_bytes: ByteSize,
    /// Tensors in an update's file; 1,000,000. Some encodings need several for one of the base's.
    pub tensors: usize,
    /// Length of a tensor's name, bytes; 1,024.
    pub name_bytes: usize,
    /// Size of the ledger; 4 GiB. A server whose ledger is full waits, as it does when the disk is.
    pub ledger_bytes: ByteSize,
    /// Size of the log; 64 MiB. One more of that size, the one before, is kept beside it.
    pub log_bytes: ByteSize,
    /// Bytes of all incomplete uploads together; 16 GiB. Bounds the disk that clients can fill.
    pub staged_bytes: ByteSize,
    /// Uploads that are sent at the same time; 16. Each takes memory for what is on its way to the disk; whoever else wants to send is
    /// told when to come back.
    pub uploads: usize,
    /// Downloads that run at the same time; 64. Each takes memory for what is on its way to the wire; others wait their turn.
    pub downloads: usize,
    /// Rounds in a row in which a client's update may be rejected; 5. After that it is in quarantine until a person approves it.
    pub rejections: u32,
    /// Examples that an update may claim; 1,000,000,000. Bounds the weight that a claim can buy.
    pub examples: u64,
    /// Largest absolute value in a task vector; 1,000,000. Far above any training, and far from overflow.
    pub magnitude: f32,
    /// How many times as long as the median of the last merge an update may be; 100. What is more is no training any more.
    pub length: f64,
    /// Largest share of the base's weights that an update may put others in the place of, 0 to 1; 0.1. With 1 nothing is looked for.
    pub replaced: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 10_000,
            connections: 2_000,
            strangers: 256,
            calls: 200,
            handshakes: 200,
            connections_of_client: 16,
            streams: 32,
            message_bytes: ByteSize::from_mebibytes(8),
            call_header_bytes: ByteSize::new(16 * 1024),
            header_bytes: ByteSize::from_mebibytes(16),
            tensors: 1_000_000,
            name_bytes: MAX_NAME_BYTES,
            ledger_bytes: ByteSize::from_mebibytes(4 * 1024),
            log_bytes: ByteSize::from_mebibytes(64),
            rejections: 5,
            staged_bytes: ByteSize::from_mebibytes(16 * 1024),
            uploads: 16,
            downloads: 64,
            examples: 1_000_000_000,
            magnitude: 1e6,
            length: 100.0,
            replaced: 0.1,
        }
    }
}

impl Limits {
    /// Upper ends are far above any use; they keep absurd numbers from overflowing where they are used.
    pub(super) fn checks(&self) -> Vec<Check> {
        let is_magnitude = self.magnitude > 0.0 && self.magnitude.is_finite();
        let is_examples = (1..=1_000_000_000_000).contains(&self.examples);
        let count = |key, number: usize| {
            let holds = (1..=1_000_000).contains(&number);
            check(key, number, holds, "from 1 to 1000000")
        };
        let mut checks = self.sizes();
        checks.extend([
            count("limits.clients", self.clients),
            count("limits.connections", self.connections),
            count("limits.strangers", self.strangers),
            count("limits.calls", self.calls as usize),
            count("limits.handshakes", self.handshakes as usize),
            count("limits.connections_of_client", self.connections_of_client),
            count("limits.streams", self.streams as usize),
            check(
                "limits.tensors",
                self.tensors,
                (1..=100_000_000).contains(&self.tensors),
                "from 1 to 100000000",
            ),
            check(
                "limits.name_bytes",
                self.name_bytes,
                (1..=MAX_NAME_BYTES).contains(&self.name_bytes),
                "from 1 to 1024",
            ),
            count("limits.rejections", self.rejections as usize),
            count("limits.uploads", self.uploads),
            count("limits.downloads", self.downloads),
            check(
                "limits.staged_bytes",
                self.staged_bytes,
                self.staged_bytes.get() > 0,
                "at least 1 byte",
            ),
            check(
                "limits.examples",
                self.examples,
                is_examples,
                "from 1 to 1000000000000",
            ),
            check(
                "limits.magnitude",
                self.magnitude,
                is_magnitude,
                "over 0 and finite",
            ),
            check(
                "limits.length",
                self.length,
                self.length >= 1.0,
                "at least 1; inf is no limit",
            ),
            check(
                "limits.replaced",
                self.replaced,
                (0.0..=1.0).contains(&self.replaced),
                "a share, from 0 to 1",
            ),
        ]);
        checks
    }

    fn sizes(&self) -> Vec<Check> {
        let size = |key, size: ByteSize, from: u64, to: u64, expected| {
            check(key, size, (from..=to).contains(&size.get()), expected)
        };
        vec![
            size(
                "limits.message_bytes",
                self.message_bytes,
                2 * MIB,
                64 * MIB,
                "from 2MiB to 64MiB: a chunk has to fit",
            ),
            size(
                "limits.call_header_bytes",
                self.call_header_bytes,
                4 * 1024,
                MIB,
                "from 4KiB to 1MiB",
            ),
            size(
                "limits.header_bytes",
                self.header_bytes,
                4 * 1024,
                MAX_HEADER_BYTES,
                "from 4KiB to 100MB",
            ),
            size(
                "limits.ledger_bytes",
                self.ledger_bytes,
                MIB,
                u64::MAX,
                "at least 1MiB",
            ),
            size(
                "limits.log_bytes",
                self.log_bytes,
                64 * 1024,
                u64::MAX,
                "at least 64KiB",
            ),
        ]
    }

    /// What is accepted of an update's header.
    #[must_use]
    pub fn header(&self) -> HeaderLimits {
        HeaderLimits {
            bytes: self.header_bytes.get(),
            tensors: self.tensors,
            name_bytes: self.name_bytes,
        }
    }
}
