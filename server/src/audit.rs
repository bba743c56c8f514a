//! The audit log: who was let in or shut out, what was published, and why, one line of JSON each, chained by digests.
//!
//! Each line names the digest of the line before it, so that nothing of it can be changed, removed or put in without all that
//! follows being written anew. It lies in the ledger and is written in the transaction of the deed that it tells of: there is no
//! deed without its line, and no line without its deed. A copy of it elsewhere (`server audit export`) shows whether the ledger's
//! was written anew, and the ledger shows whether a copy was cut off.

use std::collections::BTreeMap;

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, ModelVersion, RoundNumber, TokenId};
use fedmerge_common::update::ModelRef;
use serde::{Deserialize, Serialize};

/// What is written down. Its JSON is a contract: fields are added, never renamed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum AuditEvent {
    /// A token was made.
    TokenCreated {
        /// Its public part.
        token: TokenId,
        /// How many machines may use it.
        uses: u32,
        /// When its life is over.
        expires: String,
        /// Labels of its clients.
        labels: BTreeMap<String, String>,
    },
    /// A token was taken back.
    TokenRevoked {
        /// Its public part.
        token: TokenId,
    },
    /// A machine enrolled.
    ClientEnrolled {
        /// Its name.
        client: ClientId,
        /// The token that it showed; none where it came with a certificate of a site's own authority.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<TokenId>,
        /// SHA-256 of its public key, hexadecimal.
        key_sha256: String,
        /// `admitted`, or `waiting` for approval.
        state: String,
    },
    /// A person let a client take part that waited or was locked.
    ClientApproved {
        /// Its name.
        client: ClientId,
    },
    /// A newer key of a client took the place of an older one.
    ClientRenewed {
        /// Its name.
        client: ClientId,
        /// SHA-256 of the newer key, hexadecimal.
        key_sha256: String,
    },
    /// A client showed a key that a newer one had replaced.
    ClientLocked {
        /// Its name.
        client: ClientId,
        /// SHA-256 of the key that was shown, hexadecimal.
        key_sha256: String,
    },
    /// A client's updates were rejected in so many rounds in a row that it is shut out until a person has looked.
    ClientQuarantined {
        /// Its name.
        client: ClientId,
        /// How many.
        rejections: u32,
        /// The last rejection.
        last: String,
    },
    /// A person struck a client off.
    ClientEvicted {
        /// Its name.
        client: ClientId,
        /// Why.
        reason: String,
    },
    /// A key and a certificate were made for an administrator or observer.
    AccessCreated {
        /// `admin/NAME` or `observer/NAME`.
        identity: String,
        /// When the certificate ends.
        until: String,
    },
    /// Another certificate authority took the place of the one before it.
    AuthorityRotated {
        /// SHA-256 of the new authority's public key, hexadecimal.
        key_sha256: String,
        /// That of the old one's.
        before_sha256: String,
        /// Until when whoever knows the old one is served.
        overlap_until: String,
    },
    /// A round is over.
    RoundClosed {
        /// The round.
        round: RoundNumber,
        /// `published`, or why it was abandoned.
        outcome: String,
        /// The clients whose updates count.
        accepted: Vec<ClientId>,
        /// The others that were invited, and why theirs do not.
        others: BTreeMap<ClientId, String>,
    },
    /// A model became the base.
    ModelPublished {
        /// The model.
        model: ModelRef,
        /// Digest of the base that it came from, unless it is the first.
        parent: Option<Digest>,
    },
    /// An older model became the base again.
    ModelRolledBack {
        /// The model, under its new version.
        model: ModelRef,
        /// The older version.
        of: ModelVersion,
        /// Why.
        reason: String,
    },
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditLine {
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// When.
    pub time: String,
    /// Digest of the text of the line before; none for the first.
    pub previous: Option<Digest>,
    /// What happened.
    #[serde(flatten)]
    pub event: AuditEvent,
}

/// A log that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// How many lines it has.
    pub lines: u64,
    /// Digest of the last; none where there is none.
    pub digest: Option<Digest>,
}

/// Where a log is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditFault {
    /// A line is no line of a log.
    #[error("line {line} is not a line of an audit log")]
    Unreadable {
        /// Which, from 1.
        line: u64,
    },
    /// A line has another number than its place says.
    #[error("line {line} says that it is line {found}: lines were removed or put in before it")]
    Number {
        /// Which, from 1.
        line: u64,
        /// Its number.
        found: u64,
    },
    /// A line does not follow on the one before it.
    #[error("line {line} does not follow on the one before it: one of the two was changed")]
    Chain {
        /// Which, from 1.
        line: u64,
    },
    /// A copy differs from the ledger.
    #[error("line {line} is another one in the ledger")]
    Differs {
        /// Which, from 1.
        line: u64,
    },
    /// A copy has lines that the ledger does not have.
    #[error("the ledger ends after line {lines}: it was cut off, or set back by a backup")]
    Ahead {
        /// Lines in the ledger.
        lines: u64,
    },
}

impl AuditHead {
    /// Of a log without a line.
    pub const EMPTY: Self = Self {
        lines: 0,
        digest: None,
    };

    /// The line that follows, with its text.
    ///
    /// # Panics
    /// Never: every key is a string.
    #[must_use]
    pub fn next(self, time: String, event: AuditEvent) -> String {
        let line = AuditLine {
            seq: self.lines + 1,
            time,
            previous: self.digest,
            event,
        };
        serde_json::to_string(&line).expect("every key is a string")
    }

    /// The head with one line more.
    ///
    /// # Errors
    /// When the line does not follow.
    pub fn follow(self, text: &str) -> Result<Self, AuditFault> {
        let line = self.lines + 1;
        let read: AuditLine =
            serde_json::from_str(text).map_err(|_| AuditFault::Unreadable { line })?;
        if read.seq != line {
            return Err(AuditFault::Number {
                line,
                found: read.seq,
            });
        }
        if read.previous != self.digest {
            return Err(AuditFault::Chain { line });
        }
        Ok(Self {
            lines: line,
            digest: Some(Digest::of(text.as_bytes())),
        })
    }
}

#[cfg(test)]
mod tests;
