//! Each trouble ends in the documented exit code, with words a person can act upon.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use fedmerge_common::units::Timestamp;

use super::*;

fn failure(trouble: Trouble) -> Failure {
    trouble.into_failure(&"fed.example:7600".parse().unwrap(), &Clock::with_offset(0))
}

fn refused(reason: RefusalReason) -> Trouble {
    let status = Status::from(Refusal::new(reason, "because"));
    Trouble::from_status(&status)
}

#[test]
fn every_refusal_of_a_token_says_how_to_get_another() {
    for reason in [
        RefusalReason::TokenUsedUp,
        RefusalReason::TokenExpired,
        RefusalReason::TokenRevoked,
    ] {
        let failure = failure(refused(reason));
        assert_eq!(failure.exit, ExitCode::NotPermitted);
        assert!(failure.message.contains(reason.name()), "{failure}");
        assert!(failure.hint.unwrap().contains("server token create"));
    }
}

#[test]
fn every_refusal_has_a_hint() {
    for &reason in RefusalReason::ALL {
        let failure = failure(refused(reason));
        assert!(failure.hint.is_some(), "{reason}");
        assert!(failure.message.contains("because"), "{reason}");
    }
}

#[test]
fn a_skewed_clock_shows_this_machines_time() {
    let failure = failure(refused(RefusalReason::ClockSkew));
    assert_eq!(failure.exit, ExitCode::BadConfiguration);
    assert!(
        failure
            .hint
            .unwrap()
            .starts_with("this machine's clock says 2")
    );
}

#[test]
fn another_authority_shows_both_fingerprints() {
    let failure = failure(Trouble::Untrusted(TlsFailure::AuthorityMismatch {
        expected: [0xaa; 32],
        found: Some([0xbb; 32]),
    }));
    assert_eq!(failure.exit, ExitCode::NotPermitted);
    assert!(
        failure.message.contains(&"aa".repeat(32)) && failure.message.contains(&"bb".repeat(32))
    );
    let hint = failure.hint.unwrap();
    assert!(
        hint.contains("the server at fed.example:7600 is not the one that made this token"),
        "{hint}"
    );
}

#[test]
fn a_server_certificate_outside_its_life_points_at_the_clock() {
    let (now, moment) = (Timestamp::new(1), Timestamp::new(2));
    for trouble in [
        TlsFailure::NotValidYet {
            now,
            not_before: moment,
        },
        TlsFailure::Expired {
            now: moment,
            not_after: now,
        },
    ] {
        let failure = failure(Trouble::Untrusted(trouble));
        assert_eq!(failure.exit, ExitCode::BadConfiguration);
        assert!(failure.hint.unwrap().contains("clock"));
    }
}

#[test]
fn a_refused_certificate_says_to_enrol_again() {
    let alert = "certificate revoked";
    let failure = failure(Trouble::Untrusted(TlsFailure::OwnCertificateRefused {
        alert,
    }));
    assert_eq!(failure.exit, ExitCode::NotPermitted);
    assert!(failure.hint.unwrap().starts_with("enrol again"));
}

#[test]
fn only_what_time_can_mend_is_waited_for() {
    assert!(Trouble::Unreachable("x".to_owned()).may_pass());
    assert!(Trouble::from_status(&Status::unavailable("x")).may_pass());
    assert!(refused(RefusalReason::Busy).may_pass());
    assert!(!refused(RefusalReason::TokenUsedUp).may_pass());
    assert!(!Trouble::from_status(&Status::unimplemented("x")).may_pass());
    assert!(!Trouble::Untrusted(TlsFailure::NotTls).may_pass());
}
