//! Puts a real server under load: many real clients in this process, each with its own certificate, connection and agent.
//!
//! `cargo build && cargo run --example load -- --clients 1000` makes a federation in a temporary directory, starts the program that was
//! built as its server, lets the clients in, and tells what the server takes while they wait and while they hold rounds. Only their
//! training costs nothing: it adds a number to every value of the base. The server, the clients and this machine's cores are shared.

mod crowd;
mod hub;
mod measure;
mod meter;
mod settings;

use std::process::ExitCode;

use clap::Parser;
use fedmerge_common::failure;

use settings::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = arguments.output();
    let measured = measure::measure(arguments, |line| {
        output.json(line);
        output.line(line);
    });
    match measured {
        Ok(()) => failure::ExitCode::Ok.into(),
        Err(failure) => {
            output.note(&failure);
            failure.exit.into()
        }
    }
}
