//! The client's own log: warnings on stderr (`-v` for more), and everything from INFO up in `log/client.log`.
//!
//! Started once, by `client run`. Nothing here leaves the machine.

use std::io;
use std::sync::Mutex;

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::log_file::LogFile;
use fedmerge_common::output::Output;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::settings::ClientDirectory;

/// Size of the log, bytes; one more of that size, the one before, is kept beside it.
const MAX_LOG_BYTES: u64 = 16 * 1024 * 1024;

/// Begins to log.
///
/// # Errors
/// When the log file cannot be opened.
pub fn start(directory: &ClientDirectory, output: &Output) -> Result<(), Failure> {
    let path = directory.log().join("client.log");
    let file = LogFile::open(&path, MAX_LOG_BYTES).map_err(|error| {
        Failure::new(
            ExitCode::Unavailable,
            format!("{} cannot be opened", path.display()),
        )
        .with_source(&error)
    })?;
    let on_screen = match (output.quiet, output.verbosity) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    let screen = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_filter(on_screen);
    let file = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(Mutex::new(file))
        .with_filter(LevelFilter::INFO);
    // A subscriber that is there already was set by whoever runs this in a test: it stays.
    let _ = tracing_subscriber::registry()
        .with(screen)
        .with(file)
        .try_init();
    Ok(())
}
