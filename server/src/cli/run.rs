//! `fedmerge server run` and `fedmerge server check-config`.

use clap::Args;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::hex;
use fedmerge_common::output::Output;
use fedmerge_common::units::ByteSize;
use tokio::signal::unix::{SignalKind, signal};

use super::DirectoryArguments;
use crate::app::{self, App, Options};
use crate::driver::Stay;
use crate::open_files;
use crate::privacy::Privacy;
use crate::settings::Settings;
use crate::telemetry;

pub(super) const EXAMPLES: &str = "\
Example:
  fedmerge server run --dir hub --listen 0.0.0.0:7600";

pub(super) const CHECK_EXAMPLES: &str = "\
Example:
  fedmerge server check-config --dir hub";

/// What `server run` takes.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Where the server is.
    #[command(flatten)]
    pub directory: DirectoryArguments,
    /// Where to listen, instead of `listen` in server.toml; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Exit when the federation is over and its clients have left
    #[arg(long)]
    pub exit_when_done: bool,
}

pub(super) fn run(arguments: RunArguments, output: Output) -> Result<(), Failure> {
    let directory = arguments.directory.directory()?;
    let settings = Settings::read(&directory)?;
    telemetry::start(&directory, settings.limits.log_bytes, &output)?;
    open_files::allow_all();
    let options = Options {
        listen: arguments.listen,
        stay: if arguments.exit_when_done {
            Stay::UntilDone
        } else {
            Stay::Always
        },
    };
    super::block_on(async move {
        let interrupted = interrupted()?;
        let app = App::build(directory, &options, output).await?;
        app.serve(interrupted).await
    })
}

/// Ends when a person or supervisor asks to stop.
pub(super) fn interrupted() -> Result<impl Future<Output = ()>, Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| {
            Failure::new(ExitCode::Unavailable, "signals cannot be listened to").with_source(&error)
        })
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

pub(super) fn check(arguments: &DirectoryArguments, output: &Output) -> Result<(), Failure> {
    let checked = app::check(&arguments.directory()?)?;
    let (plan, merge) = (&checked.plan, &checked.merge);
    let tensors: usize = merge.tensors().len();
    output.line(format_args!(
        "federation {}: {} with a cohort of {}, a quorum of {}",
        plan.name,
        plan.recipe.method_name(),
        plan.round.cohort.target,
        plan.round.quorum
    ));
    output.line(format_args!(
        "base {}: {tensors} tensors to merge",
        plan.base.display()
    ));
    output.line(format_args!(
        "a merge needs at most {} of memory",
        ByteSize::new(merge.peak_bytes())
    ));
    if let Some(privacy) = &plan.privacy {
        output.line(privacy_in_words(privacy, plan.round.rounds));
    }
    let authority = hex::encode(&checked.authority_pin);
    output.line(format_args!("authority {authority}"));
    if let Some(path) = &checked.settings.tls.client_ca {
        output.line(format_args!(
            "certificates of {} are taken: fedmerge client enrol --server URL --authority {authority} --certificate FILE --key FILE --dir DIR",
            path.display()
        ));
    }
    output.json(&serde_json::json!({
        "event": "checked",
        "federation": plan.name,
        "authority_sha256": authority,
        "private_rounds": plan.round.private_rounds,
        "method": plan.recipe.method_name(),
        "tensors": tensors,
        "merge_peak_bytes": merge.peak_bytes(),
    }));
    Ok(())
}

/// `each merge costs ε 1.2, all 10 rounds ε 4.1 at δ 1e-5; the budget of 8 would allow 31`
fn privacy_in_words(privacy: &Privacy, rounds: u64) -> String {
    let most = privacy.merges_left(0.0);
    let held = if rounds == 0 { most } else { rounds.min(most) };
    #[expect(clippy::cast_precision_loss, reason = "a number of rounds")]
    let all = privacy.epsilon_of(held as f64 * privacy.cost());
    format!(
        "privacy: one merge costs ε {:.3}, {held} cost ε {all:.3} at δ {:e}; the budget of {} allows {most}",
        privacy.epsilon_of(privacy.cost()),
        privacy.delta,
        privacy.epsilon
    )
}
