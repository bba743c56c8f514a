//! Measures transfers: how fast models go down and updates go up, and what the server takes for it.
//!
//! `cargo build && cargo run --example transfers` first sends bytes through a TLS stream of this machine, which is the yardstick. Then it
//! starts the program that was built as a server, once for each of `--rounds`, and real transfer code in this process takes the base from
//! it and gives it an update of the same size, with mutual TLS over loopback. Nothing is trained. The server, the clients and the
//! yardstick share this machine's cores.

#[path = "../load/hub.rs"]
mod hub;
mod measure;
#[path = "../load/meter.rs"]
mod meter;
mod settings;
mod site;
mod yardstick;

use std::process::ExitCode;

use clap::Parser;
use fedmerge_common::failure;

use settings::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = arguments.output();
    let measured = measure::measure(&arguments, |line| {
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
