//! The rules of the house, as tests: what each crate may import, how files look, which words they must not contain.
//!
//! Each rule is a pure function from text to offenders, with a test on the real repository and one on bad samples that shows
//! that it can fail. A failing rule prints every offender.
#![expect(
    clippy::unwrap_used,
    reason = "a repository that cannot be read should fail the test"
)]

mod tidy {
    mod dependencies;
    mod features;
    mod files;
    mod imports;
    mod repository;
    mod words;
}
