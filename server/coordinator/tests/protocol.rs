//! The round protocol, rule by rule and at random.
//!
//! Each rule has a test named for it; `random` throws everything at the coordinator, crashes included. Invariants are checked
//! after every event of every test.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed test should panic"
)]

mod protocol {
    pub(crate) mod federation;

    mod closing;
    mod collecting;
    mod evaluating;
    mod gathering;
    mod late;
    mod random;
    mod recovery;
    mod rollback;
    mod status;
}
