//! What people see of the program itself: help texts, and what it says to a command line that is wrong.
#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

#[path = "harness/command.rs"]
mod command;
#[path = "harness/process.rs"]
#[expect(dead_code, reason = "stories use more of it")]
mod process;
#[path = "harness/values.rs"]
mod values;

mod cli {
    mod errors;
    mod help;
    mod inspect;
    mod merge;
}
