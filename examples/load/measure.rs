//! The course of a run: let the clients in, watch the server while they wait, hold rounds, and tell what it took.

use std::fmt;
use std::time::Duration;

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::units::{ByteSize, Millis};
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::crowd::Crowd;
use super::hub::{Hub, Server};
use super::meter::{Meter, Reading};
use super::settings::{Arguments, Load};

/// Threads for the disk: that of all clients is one, and each thread takes memory.
const DISK_THREADS: usize = 32;
/// Between two looks at how many clients are there.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What a run found, one object a line.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Line {
    /// All clients have certificates.
    Enrolled { clients: usize, elapsed_ms: u64 },
    /// All clients but the last attend.
    Connected { clients: usize, elapsed_ms: u64 },
    /// They waited.
    Idle {
        clients: usize,
        seconds: u64,
        server: Usage,
        generator: Usage,
    },
    /// All held a round.
    Round {
        round: u64,
        outcome: String,
        accepted: u64,
        wall_ms: u64,
        merge_ms: u64,
        server: Usage,
        generator: Usage,
    },
    /// The federation is over and all have left.
    Left { elapsed_ms: u64, server: Reading },
}

/// What a process took during a while.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Usage {
    #[serde(flatten)]
    reading: Reading,
    processor_ms: u64,
    /// Of one core.
    processor_percent: f64,
}

/// The readings at the beginning of a while.
struct While {
    begun: Instant,
    server: (Meter, Reading),
    generator: (Meter, Reading),
}

impl While {
    fn begin(server: &Server) -> Result<Self, Failure> {
        let generator = Meter::of(std::process::id());
        Ok(Self {
            begun: Instant::now(),
            server: (server.meter, server.meter.read()?),
            generator: (generator, generator.read()?),
        })
    }

    /// What the server and this process took since.
    fn end(&self) -> Result<(Usage, Usage), Failure> {
        let elapsed = self.begun.elapsed();
        let usage = |(meter, before): &(Meter, Reading)| {
            let reading = meter.read()?;
            let took = reading.processor.saturating_sub(before.processor);
            let share = 100.0 * took.as_secs_f64() / elapsed.as_secs_f64();
            Ok::<_, Failure>(Usage {
                reading,
                processor_ms: milliseconds(took),
                processor_percent: (share * 100.0).round() / 100.0,
            })
        };
        Ok((usage(&self.server)?, usage(&self.generator)?))
    }
}

fn milliseconds(time: Duration) -> u64 {
    Millis::from(time).get()
}

/// Runs from the first file to the end of the server, and tells each thing that it finds.
///
/// # Errors
/// When something fails, or a round does not publish what all clients sent.
pub(crate) fn measure(arguments: Arguments, tell: impl FnMut(&Line)) -> Result<(), Failure> {
    fedmerge_server::open_files::allow_all();
    let load = arguments.load()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(DISK_THREADS)
        .build()
        .map_err(|error| {
            let message = "the clients' threads cannot be started";
            Failure::new(ExitCode::Temporary, message).with_source(&error)
        })?;
    runtime.block_on(run(&load, tell))
}

async fn run(load: &Load, mut tell: impl FnMut(&Line)) -> Result<(), Failure> {
    let root = tempfile::tempdir().map_err(|error| {
        Failure::new(ExitCode::Unavailable, "no temporary directory").with_source(&error)
    })?;
    let hub = Hub::set_up(root.path(), &load.wish()).await?;
    let token = hub.token(load.all()).await?;
    let mut server = hub.serve().await?;
    let mut crowd = Crowd::new(&server.address, load.training)?;

    let begun = Instant::now();
    crowd.enrol(load.all(), &token).await?;
    tell(&Line::Enrolled {
        clients: load.all(),
        elapsed_ms: milliseconds(begun.elapsed()),
    });
    let begun = Instant::now();
    crowd.arrive(0..load.clients)?;
    tokio::select! {
        failure = crowd.failure() => return Err(failure),
        all_there = all_there(&hub, load.clients) => all_there?,
    }
    tell(&Line::Connected {
        clients: load.clients,
        elapsed_ms: milliseconds(begun.elapsed()),
    });
    tell(&idle(&server, &mut crowd, load).await?);
    if load.rounds == 0 {
        crowd.send_home().await?;
        return server.stop().await;
    }
    hold_rounds(&mut server, &mut crowd, load, &mut tell).await?;
    let begun = Instant::now();
    crowd.left().await?;
    tell(&Line::Left {
        elapsed_ms: milliseconds(begun.elapsed()),
        server: server.meter.read()?,
    });
    server.stop().await
}

async fn all_there(hub: &Hub, clients: usize) -> Result<(), Failure> {
    while hub.attending().await? < clients {
        sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

async fn idle(server: &Server, crowd: &mut Crowd, load: &Load) -> Result<Line, Failure> {
    let waiting = While::begin(server)?;
    tokio::select! {
        failure = crowd.failure() => return Err(failure),
        () = sleep(load.idle) => {}
    }
    let (server, generator) = waiting.end()?;
    Ok(Line::Idle {
        clients: load.clients,
        seconds: load.idle.as_secs(),
        server,
        generator,
    })
}

async fn hold_rounds(
    server: &mut Server,
    crowd: &mut Crowd,
    load: &Load,
    tell: &mut impl FnMut(&Line),
) -> Result<(), Failure> {
    let mut round = While::begin(server)?;
    crowd.arrive([load.clients])?;
    for _ in 0..load.rounds {
        let closed = tokio::select! {
            failure = crowd.failure() => return Err(failure),
            closed = server.next_event("round-closed") => closed?,
        };
        let (used, generator) = round.end()?;
        round = While::begin(server)?;
        let number = |name: &str| closed[name].as_u64().unwrap_or_default();
        let outcome = closed["outcome"].as_str().unwrap_or_default();
        tell(&Line::Round {
            round: number("round"),
            outcome: outcome.to_owned(),
            accepted: number("accepted"),
            wall_ms: number("wall_ms"),
            merge_ms: number("merge_ms"),
            server: used,
            generator,
        });
        check(&closed, load)?;
    }
    Ok(())
}

/// A round that does not count everyone measures something else.
fn check(closed: &Value, load: &Load) -> Result<(), Failure> {
    let is_whole = closed["outcome"] == "published" && closed["accepted"] == load.all();
    if is_whole {
        return Ok(());
    }
    let message = format!(
        "round {} was {} with {} of {} updates",
        closed["round"],
        closed["outcome"],
        closed["accepted"],
        load.all()
    );
    Err(Failure::new(ExitCode::Temporary, message).with_hint("the server's log says more"))
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |milliseconds: u64| Duration::from_millis(milliseconds).as_secs_f64();
        match self {
            Self::Enrolled {
                clients,
                elapsed_ms,
            } => write!(
                f,
                "{clients} clients enrolled in {:.1} s",
                seconds(*elapsed_ms)
            ),
            Self::Connected {
                clients,
                elapsed_ms,
            } => write!(f, "{clients} attend after {:.1} s", seconds(*elapsed_ms)),
            Self::Idle {
                clients,
                seconds,
                server,
                generator,
            } => write!(
                f,
                "{clients} wait for {seconds} s\n  server    {}\n  generator {}",
                usage(server),
                usage(generator)
            ),
            Self::Round {
                round,
                outcome,
                accepted,
                wall_ms,
                merge_ms,
                server,
                generator,
            } => write!(
                f,
                "round {round} {outcome} with {accepted} updates in {:.1} s, of which the merge took {:.1} s\n  server    {}\n  \
             generator {}",
                seconds(*wall_ms),
                seconds(*merge_ms),
                usage(server),
                usage(generator)
            ),
            Self::Left { elapsed_ms, server } => write!(
                f,
                "all left after {:.1} s\n  server    {}",
                seconds(*elapsed_ms),
                memory(server)
            ),
        }
    }
}

fn usage(usage: &Usage) -> String {
    format!(
        "{}, {:.2} s of processor time ({:.1} % of one core)",
        memory(&usage.reading),
        Duration::from_millis(usage.processor_ms).as_secs_f64(),
        usage.processor_percent
    )
}

fn memory(reading: &Reading) -> String {
    let (now, peak) = (reading.memory_bytes, reading.peak_bytes);
    format!("{} (at most {})", ByteSize::new(now), ByteSize::new(peak))
}
