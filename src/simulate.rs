//! `fedmerge simulate`: a server and many clients as processes of this very binary, on this machine.
//!
//! Nothing is mocked: loopback, TLS, join tokens, real training. Invariant: when it ends, however it ends, no process
//! it started is left, and its directory holds what a real deployment would leave: ledger, models, reports, logs.
//!
//! Read `settings.rs` (what to run), `stage.rs` (directories, data, plan), `federation.rs` (the processes and rounds),
//! `scoreboard.rs` (what the user sees). `attack.rs` says what hostile clients do, `red_team.rs` tries it all out.

mod attack;
mod attacker;
mod chart;
mod federation;
mod link;
mod partition;
mod processes;
mod red_team;
mod scoreboard;
mod server_event;
mod settings;
mod stage;
mod summary;

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::output::Output;

pub(crate) use attacker::{AttackArguments, PraiseArguments, lie, praise};
pub(crate) use settings::SimulateArguments;

use scoreboard::Scoreboard;
use settings::Settings;
use stage::Stage;

/// Runs a simulation to its end, to the first failure, or until it is interrupted.
///
/// # Errors
/// When the settings make no sense, a process fails, no round succeeds, or the user stops it.
pub(crate) fn run(arguments: SimulateArguments, output: &Output) -> Result<(), Failure> {
    if arguments.red_team {
        return red_team::run(arguments, output);
    }
    let settings = Settings::resolve(arguments)?;
    let stage = Stage::set_up(&settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(ExitCode::Unavailable, "cannot start the simulation").with_source(&error)
        })?;
    let mut scoreboard = Scoreboard::new(output, &settings, &stage);
    let outcome = runtime.block_on(federation::simulate(&settings, &stage, &mut scoreboard));
    scoreboard.finish(outcome)
}
