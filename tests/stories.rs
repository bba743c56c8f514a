//! The stories: whole federations of real processes with real TLS, and what their users see, also when things go wrong.
//!
//! Each is one situation from beginning to end. What can be tested beside the code is not told again here.
#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

mod harness;

mod stories {
    mod audit;
    mod bad_input;
    mod bad_trainers;
    mod breaks;
    mod byzfl;
    mod crashes;
    mod deploy;
    mod determinism;
    mod doctor;
    mod drama;
    mod encodings;
    mod enrolment;
    mod evaluation;
    mod federation;
    mod flood;
    mod frozen;
    mod full_disk;
    mod hostile;
    mod late;
    mod ledger;
    mod load;
    mod long_ledger;
    mod malice;
    mod members;
    mod merge;
    mod models;
    mod network;
    mod operator;
    mod plan_change;
    mod policy;
    mod privacy;
    mod proof;
    mod python;
    mod readme;
    mod recovery;
    mod simulate;
    mod site_pki;
    mod transfers;
}
