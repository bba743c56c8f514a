//! Why something does not count: rejections, declines and abandoned rounds.
//!
//! Each is a closed set of codes for programs with one line of detail for people. A rejection is
//! made by the constructor of its code, so that the same fault always reads the same.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::{ModelVersion, RoundNumber};
use crate::schema::SchemaDifference;
use crate::task_vector::Encoding;
use crate::units::ByteSize;

/// Longest detail that is kept, bytes.
pub const MAX_DETAIL_BYTES: usize = 2000;

/// Text from another machine as it may stand in a terminal: whatever would steer it is spelt out, and it is cut to at most
/// [`MAX_DETAIL_BYTES`] without splitting a character.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len().min(MAX_DETAIL_BYTES));
    for character in text.chars() {
        if character.is_control() && !matches!(character, '\n' | '\t') {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
        if plain.len() > MAX_DETAIL_BYTES {
            break;
        }
    }
    plain.truncate(plain.floor_char_boundary(MAX_DETAIL_BYTES));
    plain
}

/// What stands for a reason that a person did not give.
pub const NO_REASON: &str = "no reason was given";

/// The reason that a person gives for a deed, as one plain line of at most [`MAX_DETAIL_BYTES`].
#[must_use]
pub fn one_line(text: &str) -> String {
    let line = plain(text);
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        NO_REASON.to_owned()
    } else {
        line
    }
}

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$variant_doc])* $variant),* }

        impl $name {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The code's stable name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(self.as_str())
            }
        }
    };
}

codes! {
    /// Why an update does not count.
    RejectionCode {
        /// The round is over or has not begun.
        RoundClosed = "round-closed",
        /// The client was not invited to the round.
        NotInvited = "not-invited",
        /// The client's update for the round was accepted before.
        Duplicate = "duplicate",
        /// Trained from another base.
        BaseMismatch = "base-mismatch",
        /// The bytes are not those announced.
        DigestMismatch = "digest-mismatch",
        /// Not readable as the announced encoding.
        Malformed = "malformed",
        /// Tensor names or shapes differ from the base.
        SchemaMismatch = "schema-mismatch",
        /// A value is NaN or infinite.
        NonFinite = "non-finite",
        /// A value's magnitude is over the limit.
        Magnitude = "magnitude",
        /// The update is much longer than those of the last merge.
        Length = "length",
        /// The update replaces the base's weights instead of fine-tuning them.
        Unrelated = "unrelated",
        /// The payload is larger than the plan allows.
        TooLarge = "too-large",
        /// The plan does not allow the encoding.
        EncodingNotAllowed = "encoding-not-allowed",
        /// The number of examples is 0 or over the limit.
        Examples = "examples",
    }
}

codes! {
    /// Kinds of reasons to give an invitation, or a request to evaluate, back.
    DeclineKind {
        /// The trainer ended with an error.
        TrainerFailed = "trainer-failed",
        /// The trainer ran past its limit.
        TrainerTimedOut = "trainer-timed-out",
        /// The trainer wrote no checkpoint or an unusable one.
        BadCheckpoint = "bad-checkpoint",
        /// The site's policy forbids the submission.
        Policy = "policy",
        /// A person stopped the client.
        Interrupted = "interrupted",
        /// The client could not store or read what it needed.
        Storage = "storage",
        /// The site has no command that evaluates models.
        NoEvaluator = "no-evaluator",
        /// The evaluator ended with an error, or did not measure what was asked for.
        EvaluatorFailed = "evaluator-failed",
        /// The evaluator ran past its limit.
        EvaluatorTimedOut = "evaluator-timed-out",
        /// The base is a step back that nobody signed, or another model under a version that the client knows.
        BaseRefused = "base-refused",
        /// A person evicted the client: the server gives the invitation back in its name.
        Evicted = "evicted",
    }
}

/// An update that does not count, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The reason for programs.
    pub code: RejectionCode,
    /// The reason for people: tensor, index, limits.
    pub detail: String,
}

impl Rejection {
    /// A rejection as it came over the wire; the detail is made plain and cut to [`MAX_DETAIL_BYTES`].
    #[must_use]
    pub fn new(code: RejectionCode, detail: impl AsRef<str>) -> Self {
        Self {
            code,
            detail: plain(detail.as_ref()),
        }
    }

    /// The round is over or has not begun.
    #[must_use]
    pub fn round_closed(round: RoundNumber) -> Self {
        Self::new(
            RejectionCode::RoundClosed,
            format!("round {round} does not take updates now"),
        )
    }

    /// The client was not invited to the round.
    #[must_use]
    pub fn not_invited(round: RoundNumber) -> Self {
        Self::new(
            RejectionCode::NotInvited,
            format!("the client is not invited to round {round}"),
        )
    }

    /// Another update of the client counts in the round already.
    #[must_use]
    pub fn duplicate(round: RoundNumber) -> Self {
        Self::new(
            RejectionCode::Duplicate,
            format!("another update for round {round} was accepted before"),
        )
    }

    /// Trained from another base.
    #[must_use]
    pub fn base_mismatch(expected: &Digest, found: &Digest) -> Self {
        Self::new(
            RejectionCode::BaseMismatch,
            format!(
                "trained from base {}, the round's base is {}",
                found.short(),
                expected.short()
            ),
        )
    }

    /// The bytes that arrived are not those announced.
    #[must_use]
    pub fn digest_mismatch(expected: &Digest, found: &Digest) -> Self {
        Self::new(
            RejectionCode::DigestMismatch,
            format!("the payload's digest is {found}, announced was {expected}"),
        )
    }

    /// Not readable as the announced encoding.
    #[must_use]
    pub fn malformed(problem: impl fmt::Display) -> Self {
        Self::new(RejectionCode::Malformed, problem.to_string())
    }

    /// Tensor names or shapes differ from the base.
    #[must_use]
    pub fn schema_mismatch(difference: &SchemaDifference) -> Self {
        Self::new(RejectionCode::SchemaMismatch, difference.to_string())
    }

    /// A value is NaN or infinite.
    #[must_use]
    pub fn non_finite(tensor: &str, index: usize, value: f32) -> Self {
        Self::new(
            RejectionCode::NonFinite,
            format!("tensor `{tensor}` has {value} at index {index}"),
        )
    }

    /// A value's magnitude is over the limit.
    #[must_use]
    pub fn magnitude(tensor: &str, index: usize, value: f32, limit: f32) -> Self {
        Self::new(
            RejectionCode::Magnitude,
            format!("tensor `{tensor}` has {value} at index {index}, the limit is ±{limit}"),
        )
    }

    /// The update is much longer than those of the last merge.
    #[must_use]
    pub fn length(found: f64, limit: f64, typical: f64) -> Self {
        Self::new(
            RejectionCode::Length,
            format!(
                "the update is {found:.6} long, the limit is {limit:.6}, from the {typical:.6} of a client in the last merge"
            ),
        )
    }

    /// The update replaces the base's weights instead of fine-tuning them.
    #[must_use]
    pub fn unrelated(tensor: &str, share: f64, limit: f64) -> Self {
        Self::new(
            RejectionCode::Unrelated,
            format!(
                "the update replaces {:.0} % of the base's weights, first those of tensor `{tensor}`, the limit is {:.0} %: it was made from \
                 another model, or from the base's weights in another order",
                100.0 * share,
                100.0 * limit
            ),
        )
    }

    /// The payload is larger than the plan allows.
    #[must_use]
    pub fn too_large(payload_bytes: u64, limit_bytes: u64) -> Self {
        Self::new(
            RejectionCode::TooLarge,
            format!(
                "the payload has {payload_bytes} bytes, the limit is {limit_bytes} bytes ({})",
                ByteSize::new(limit_bytes)
            ),
        )
    }

    /// The plan does not allow the encoding.
    #[must_use]
    pub fn encoding_not_allowed(encoding: Encoding, allowed: &[Encoding]) -> Self {
        let allowed: Vec<_> = allowed.iter().map(ToString::to_string).collect();
        Self::new(
            RejectionCode::EncodingNotAllowed,
            format!(
                "the plan does not allow {encoding}, only {}",
                allowed.join(", ")
            ),
        )
    }

    /// The number of examples is 0 or over the limit.
    #[must_use]
    pub fn examples(num_examples: u64, limit: u64) -> Self {
        Self::new(
            RejectionCode::Examples,
            format!("the update claims {num_examples} examples, allowed are 1 to {limit}"),
        )
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.detail)
    }
}

/// An invitation, or a request to evaluate, that was given back, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decline {
    /// The reason for programs.
    pub kind: DeclineKind,
    /// The reason for people, at most [`MAX_DETAIL_BYTES`].
    pub detail: String,
}

impl Decline {
    /// Gives a reason; the detail is made plain and cut to [`MAX_DETAIL_BYTES`].
    #[must_use]
    pub fn new(kind: DeclineKind, detail: impl AsRef<str>) -> Self {
        Self {
            kind,
            detail: plain(detail.as_ref()),
        }
    }
}

impl fmt::Display for Decline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.kind, self.detail)
    }
}

/// Why a round ended without a new base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum AbandonReason {
    /// Too few updates were accepted.
    QuorumNotReached {
        /// Updates accepted.
        accepted: usize,
        /// Updates needed.
        quorum: usize,
        /// Invited clients whose update was rejected.
        rejected: usize,
        /// Invited clients that declined.
        declined: usize,
        /// Invited clients that neither submitted nor declined.
        silent: usize,
    },
    /// The merge did not succeed.
    MergeFailed {
        /// What happened.
        detail: String,
    },
    /// The merged model could not be made the base.
    PublishFailed {
        /// What happened.
        detail: String,
    },
    /// Too few clients evaluated the merged model.
    NotEvaluated {
        /// Clients that reported.
        reports: usize,
        /// Reports needed.
        needed: usize,
        /// Asked clients that declined.
        declined: usize,
        /// Asked clients from which nothing came.
        silent: usize,
    },
    /// The merged model is worse than the plan accepts.
    Regression {
        /// By how much.
        detail: String,
    },
    /// A person made an older model the base again.
    RolledBack {
        /// The older model.
        to: ModelVersion,
    },
    /// A person stopped the server.
    Interrupted,
}

impl fmt::Display for AbandonReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QuorumNotReached {
                accepted,
                quorum,
                rejected,
                declined,
                silent,
            } => write!(
                formatter,
                "quorum not reached: {accepted} of {quorum} updates accepted ({rejected} rejected, {declined} declined, {silent} silent)"
            ),
            Self::MergeFailed { detail } => write!(formatter, "merge failed: {detail}"),
            Self::PublishFailed { detail } => write!(formatter, "publish failed: {detail}"),
            Self::NotEvaluated {
                reports,
                needed,
                declined,
                silent,
            } => write!(
                formatter,
                "not evaluated: {reports} of {needed} evaluations reported ({declined} declined, {silent} silent)"
            ),
            Self::Regression { detail } => write!(formatter, "regression: {detail}"),
            Self::RolledBack { to } => write!(formatter, "rolled back to model {to}"),
            Self::Interrupted => formatter.write_str("interrupted"),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    #[test]
    fn a_persons_reason_is_one_plain_line() {
        assert_eq!(
            one_line("worse\nthan\u{7} before "),
            r"worse than\u{7} before"
        );
        assert_eq!(one_line(" \n"), NO_REASON);
    }

    #[test]
    fn a_code_is_serialised_by_its_name() {
        for code in RejectionCode::ALL {
            assert_eq!(serde_json::to_string(code).unwrap(), format!("\"{code}\""));
        }
        for kind in DeclineKind::ALL {
            assert_eq!(serde_json::to_string(kind).unwrap(), format!("\"{kind}\""));
        }
    }

    #[test]
    fn a_rejection_names_what_is_wrong_and_where() {
        let rejection = Rejection::non_finite("fc1.weight", 17, f32::NAN);
        assert_eq!(
            rejection.to_string(),
            "non-finite: tensor `fc1.weight` has NaN at index 17"
        );
        let rejection = Rejection::too_large(3 << 30, 2 << 30);
        assert!(
            rejection
                .detail
                .ends_with("the limit is 2147483648 bytes (2 GiB)"),
            "{rejection}"
        );
        let rejection = Rejection::encoding_not_allowed(Encoding::F32, &[Encoding::Bf16]);
        assert_eq!(rejection.detail, "the plan does not allow f32, only bf16");
    }

    #[test]
    fn a_long_detail_is_cut_between_characters() {
        let decline = Decline::new(DeclineKind::TrainerFailed, "é".repeat(2000));
        assert_eq!(decline.detail.len(), MAX_DETAIL_BYTES);
        let decline = Decline::new(DeclineKind::TrainerFailed, format!("a{}", "é".repeat(2000)));
        assert_eq!(decline.detail.len(), MAX_DETAIL_BYTES - 1);
    }

    #[test]
    fn a_detail_does_not_steer_a_terminal() {
        let decline = Decline::new(DeclineKind::TrainerFailed, "a\u{1b}[2Jb\u{9b}1m\r\n\tc");
        assert_eq!(decline.detail, "a\\u{1b}[2Jb\\u{9b}1m\\r\n\tc");
        let rejection = Rejection::new(RejectionCode::Malformed, "\u{7}".repeat(2000));
        assert!(rejection.detail.starts_with("\\u{7}\\u{7}"));
        assert!(rejection.detail.len() <= MAX_DETAIL_BYTES);
    }

    #[test]
    fn an_abandoned_round_tells_the_arithmetic() {
        let reason = AbandonReason::QuorumNotReached {
            accepted: 3,
            quorum: 6,
            rejected: 2,
            declined: 1,
            silent: 4,
        };
        assert_eq!(
            reason.to_string(),
            "quorum not reached: 3 of 6 updates accepted (2 rejected, 1 declined, 4 silent)"
        );
        let json = serde_json::to_string(&reason).unwrap();
        assert!(
            json.starts_with("{\"reason\":\"quorum-not-reached\""),
            "{json}"
        );
        assert_eq!(
            serde_json::from_str::<AbandonReason>(&json).unwrap(),
            reason
        );
    }
}
