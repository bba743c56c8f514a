//! What can be wrong between client and server, cut by what the client can do about it: wait, or tell its user.
//!
//! The one place that reads gRPC statuses and TLS errors, and the one that words a hint for each refusal.

use std::error::Error;
use std::io;

use fedmerge_common::clock::Clock;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::tls::{self, TlsFailure};
use fedmerge_common::units::{Millis, Timestamp};
use fedmerge_proto::status::{Refusal, RefusalReason};
use tonic::{Code, Status};

use super::address::ServerAddress;
use super::watched::Reason;

/// Trouble with the server.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// No connection can be made.
    #[error("not reachable ({0})")]
    Unreachable(String),
    /// A connection broke off.
    #[error("the link broke off ({0})")]
    Cut(String),
    /// This client's certificate has ended, and is being renewed.
    #[error("this client's certificate ended at {0}")]
    Stale(Timestamp),
    /// The server answered that it does not do it.
    #[error("{reason}: {detail}", reason = .0.reason, detail = .0.detail)]
    Refused(Refusal),
    /// The server or this client is not who the other expects.
    #[error("{0}")]
    Untrusted(TlsFailure),
    /// The server answered what cannot be.
    #[error("the server's answer makes no sense: {0}")]
    Nonsense(String),
}

impl Trouble {
    /// Reads the status of a call that failed.
    #[must_use]
    pub fn from_status(status: &Status) -> Self {
        if let Some(refusal) = Refusal::from_status(status) {
            return Self::Refused(refusal);
        }
        if let Some(failure) = tls::failure_of(status) {
            return Self::Untrusted(failure);
        }
        let words = innermost(status.source()).unwrap_or_else(|| status.message().to_owned());
        let is_nonsense = matches!(
            status.code(),
            Code::Unimplemented
                | Code::InvalidArgument
                | Code::OutOfRange
                | Code::FailedPrecondition
        );
        if is_nonsense {
            return Self::Nonsense(format!("{:?}: {}", status.code(), status.message()));
        }
        Self::Cut(words)
    }

    /// The same, where a connection was cut, with the reason that the server gave below HTTP/2.
    #[must_use]
    pub(super) fn because(self, reason: &Reason) -> Self {
        match (self, reason.get()) {
            (Self::Cut(_), Some(failure)) => Self::Untrusted(failure),
            (trouble, _) => trouble,
        }
    }

    /// Reads what went wrong below HTTP/2 while a connection was made.
    pub(super) fn from_connecting(error: &(dyn Error + 'static)) -> Self {
        match tls::failure_of(error) {
            Some(failure) => Self::Untrusted(failure),
            None => Self::Unreachable(innermost(Some(error)).unwrap_or_else(|| error.to_string())),
        }
    }

    /// Whether waiting can help.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Cut(_) | Self::Stale(_) => true,
            Self::Refused(refusal) => refusal.reason.is_retryable(),
            Self::Untrusted(_) | Self::Nonsense(_) => false,
        }
    }

    /// When the server wants to be asked again, where it said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Millis> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            Self::Unreachable(_)
            | Self::Cut(_)
            | Self::Stale(_)
            | Self::Untrusted(_)
            | Self::Nonsense(_) => None,
        }
    }

    /// What is waited for, without the time.
    #[must_use]
    pub fn waiting_line(&self, address: &ServerAddress) -> String {
        let server = address.authority();
        match self {
            Self::Unreachable(why) => format!("server at {server} is not reachable ({why})"),
            Self::Cut(why) => format!("the link to the server at {server} broke off ({why})"),
            Self::Refused(refusal) => {
                format!(
                    "server at {server} cannot do it now ({}: {})",
                    refusal.reason, refusal.detail
                )
            }
            Self::Stale(ended) => {
                format!(
                    "this client's certificate ended at {ended}, and is renewed by the server at {server}"
                )
            }
            Self::Untrusted(_) | Self::Nonsense(_) => {
                format!("server at {server}: {self}")
            }
        }
    }

    /// The end of a command, with what to do next.
    #[must_use]
    pub fn into_failure(self, address: &ServerAddress, clock: &Clock) -> Failure {
        let server = address.authority();
        match self {
            Self::Unreachable(_) | Self::Cut(_) | Self::Stale(_) => {
                Failure::new(ExitCode::Unavailable, self.waiting_line(address))
                    .with_hint("start the server, or check the address and the network between")
            }
            Self::Refused(refusal) => of_refusal(&refusal, &server, clock),
            Self::Untrusted(failure) => of_tls(&failure, &server, clock),
            Self::Nonsense(why) => Failure::new(
                ExitCode::BadData,
                format!(
                    "the server at {server} answered what this client does not understand: {why}"
                ),
            )
            .with_hint(COMPARE_VERSIONS),
        }
    }
}

const ENROL_AGAIN: &str = "enrol again, into a new directory and under a new name, with a new token (`fedmerge server token create` on the server); a client with a certificate of its site's own asks the server's administrator";

const COMPARE_VERSIONS: &str =
    "client and server may be of different versions: compare `fedmerge --version` on both";

/// Whether a refusal of one transfer would meet every other call as well.
#[must_use]
pub fn ends_the_client(reason: RefusalReason) -> bool {
    matches!(
        reason,
        RefusalReason::NotAuthenticated
            | RefusalReason::ClientUnknown
            | RefusalReason::ClientEvicted
            | RefusalReason::ClientLocked
            | RefusalReason::ClientQuarantined
            | RefusalReason::CertificateExpired
            | RefusalReason::ClockSkew
    )
}

fn of_tls(failure: &TlsFailure, server: &str, clock: &Clock) -> Failure {
    let words = format!("the server at {server} cannot be trusted: {failure}");
    match failure {
        TlsFailure::AuthorityMismatch { .. } => Failure::new(ExitCode::NotPermitted, words).with_hint(format!(
            "the server at {server} is not the one that made this token, or whose --authority this is; check the address, then these"
        )),
        TlsFailure::NotValidYet { .. } | TlsFailure::Expired { .. } => {
            Failure::new(ExitCode::BadConfiguration, words).with_hint(check_clock(clock))
        }
        TlsFailure::OwnCertificateRefused { .. } => Failure::new(
            ExitCode::NotPermitted,
            format!("the server at {server} refused this client: {failure}"),
        )
        .with_hint(ENROL_AGAIN),
        TlsFailure::UnknownAuthority | TlsFailure::WrongName => Failure::new(ExitCode::NotPermitted, words)
            .with_hint("this client was enrolled by another server; check the address, or enrol again"),
        TlsFailure::NotTls => Failure::new(ExitCode::Unavailable, words)
            .with_hint("something else listens there; check the port"),
    }
}

fn check_clock(clock: &Clock) -> String {
    format!(
        "this machine's clock says {}; check it, for example with `timedatectl`",
        clock.now()
    )
}

fn of_refusal(refusal: &Refusal, server: &str, clock: &Clock) -> Failure {
    let (exit, hint) = match refusal.reason {
        RefusalReason::TokenUnknown => (
            ExitCode::NotPermitted,
            "paste the whole join string; the server knows only its own tokens: `fedmerge server token list`".to_owned(),
        ),
        RefusalReason::TokenUsedUp | RefusalReason::TokenExpired | RefusalReason::TokenRevoked => (
            ExitCode::NotPermitted,
            "ask for a new token: `fedmerge server token create` on the server".to_owned(),
        ),
        RefusalReason::NameTaken => (
            ExitCode::NotPermitted,
            "choose another name: --name ID; the name in a certificate of the site's own is for its authority to change".to_owned(),
        ),
        RefusalReason::ClockSkew => (ExitCode::BadConfiguration, check_clock(clock)),
        RefusalReason::NotAuthenticated
        | RefusalReason::NotPermitted
        | RefusalReason::ClientUnknown
        | RefusalReason::ClientEvicted
        | RefusalReason::CertificateExpired => (ExitCode::NotPermitted, ENROL_AGAIN.to_owned()),
        RefusalReason::ClientLocked => (
            ExitCode::NotPermitted,
            "an administrator lets this client in again with `fedmerge server clients approve`, or evicts it; each machine needs a \
             client of its own"
                .to_owned(),
        ),
        RefusalReason::ClientQuarantined => (
            ExitCode::NotPermitted,
            "the server's `rounds show` says why the updates were rejected; once that is mended, an administrator lets this client in again \
             with `fedmerge server clients approve`"
                .to_owned(),
        ),
        RefusalReason::NotSelected => (
            ExitCode::NotPermitted,
            "labels come with the token, or with the certificate of a site's own: ask for one that has them, `fedmerge server token create --label KEY=VALUE`, and enrol a \
             client with it"
                .to_owned(),
        ),
        RefusalReason::ApprovalPending => (
            ExitCode::Temporary,
            "once it is approved, run the same command again, or have it wait longer: --wait 1h".to_owned(),
        ),
        RefusalReason::IdentityInUse => (
            ExitCode::NotPermitted,
            "another process uses a copy of this client's certificate; enrol a client of its own for each machine"
                .to_owned(),
        ),
        RefusalReason::InvalidRequest => (
            ExitCode::BadData,
            COMPARE_VERSIONS.to_owned(),
        ),
        RefusalReason::StorageFull | RefusalReason::Busy | RefusalReason::ShuttingDown => {
            (ExitCode::Temporary, "try again in a while".to_owned())
        }
        RefusalReason::ModelUnknown
        | RefusalReason::UploadUnknown
        | RefusalReason::WrongOffset
        | RefusalReason::ChunkCorrupt
        | RefusalReason::TooLarge
        | RefusalReason::NotNow | RefusalReason::Internal => (ExitCode::Unavailable, "the server's log says more".to_owned()),
    };
    Failure::new(
        exit,
        format!(
            "the server at {server} refused ({}): {}",
            refusal.reason, refusal.detail
        ),
    )
    .with_hint(hint)
}

/// Walks to the errors that I/O errors wrap, too, which `source` passes over.
fn chain<'a>(first: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(
        Some(first),
        |&error: &&'a (dyn Error + 'static)| match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        },
    )
}

fn innermost(error: Option<&(dyn Error + 'static)>) -> Option<String> {
    chain(error?).last().map(ToString::to_string)
}

#[cfg(test)]
mod tests;
