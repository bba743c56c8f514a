//! What clients and server say to each other.

use fedmerge_client::agent::Answer;
use fedmerge_common::ids::RoundNumber;
use fedmerge_common::reason::{Decline, Rejection};
use fedmerge_common::update::UpdateHeader;
use fedmerge_proto::convert::evaluation::EvaluationReport;
use fedmerge_proto::v1;

/// A request. Every one may come twice, late, or from a process that is dead by now.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    /// Opens the stream of notices; `instance` tells one process from another.
    Attend { instance: u64 },
    /// A sign of life.
    Progress { round: RoundNumber },
    /// A complete upload, as intake sees it.
    Commit {
        header: UpdateHeader,
        /// What intake says, where the bytes are not sound.
        fault: Option<Rejection>,
    },
    /// What came of evaluating a candidate.
    Report(EvaluationReport),
    /// Gives an invitation back.
    Decline {
        round: RoundNumber,
        decline: Decline,
    },
}

/// A response.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// The place is taken; notices come in the stream of that session.
    Seated { session: u64 },
    /// Another process attends as this client.
    Refused,
    /// An upload is decided.
    Answered { round: RoundNumber, answer: Answer },
    /// It was heard.
    Done,
}

/// A notice as it is on the wire, and the session in whose stream it comes.
#[derive(Clone, Debug)]
pub(crate) struct Streamed {
    pub(crate) session: u64,
    pub(crate) notice: v1::Notice,
}
