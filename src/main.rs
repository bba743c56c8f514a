//! The one binary: `fedmerge simulate`, `fedmerge server`, `fedmerge client`.
//!
//! Nothing happens here but the dispatch; `cli.rs` reads the command line, the crates do the work.

mod cli;
mod inspect;
mod simulate;
mod verify;

fn main() -> std::process::ExitCode {
    cli::main()
}
