//! The course of a measurement: the yardstick, then one round after the other, each with a server of its own.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fedmerge_common::clock::Clock;
use fedmerge_common::digest::Digest;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::units::{ByteSize, Millis};
use fedmerge_server::directory::ServerDirectory;
use fedmerge_server::enrolment::authority::Authority;
use serde::Serialize;
use tempfile::TempDir;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::hub::{Hub, Server, write_values};
use super::meter::Reading;
use super::settings::{Arguments, Round};
use super::site::{Payload, Site, Times};
use super::yardstick;

/// A directory in memory: clients have disks of their own, and here they would share the server's.
const MEMORY: &str = "/dev/shm";
/// Between two looks at how many clients are there.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const GIGABYTE: f64 = 1e9;

/// What a measurement found, one object a line.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Line {
    /// What a TLS stream carries.
    Yardstick { bytes: u64, rate: f64 },
    /// What a round took.
    Round(Measured),
}

/// What a round took. Rates are those of all clients together, in gigabytes a second.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Measured {
    clients: u16,
    model_bytes: u64,
    /// Until the bases are in the caches, checked and durable.
    download_rate: f64,
    /// Until the updates are durable on the server.
    upload_rate: f64,
    /// From the opening of the round to its end, on the server.
    wall_ms: u64,
    merge_ms: u64,
    server: Reading,
    yardstick_rate: f64,
}

fn unavailable(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::new(ExitCode::Unavailable, what).with_source(error)
}

/// Measures everything and tells each thing that it finds.
///
/// # Errors
/// When something fails, or a round does not count every update.
pub(crate) fn measure(arguments: &Arguments, tell: impl FnMut(&Line)) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| unavailable("the clients' threads cannot be started", &error))?;
    runtime.block_on(run(arguments, tell))
}

async fn run(arguments: &Arguments, mut tell: impl FnMut(&Line)) -> Result<(), Failure> {
    let yardstick_rate = yardstick(arguments).await?;
    tell(&Line::Yardstick {
        bytes: arguments.yardstick_bytes.get(),
        rate: yardstick_rate,
    });
    for round in &arguments.rounds {
        let measured = hold(arguments, *round, yardstick_rate).await?;
        tell(&Line::Round(measured));
    }
    Ok(())
}

/// A federation with its server and clients, and places for their files.
struct Setting {
    server_root: TempDir,
    client_root: TempDir,
    hub: Hub,
    server: Server,
    sites: Vec<Site>,
}

impl Setting {
    async fn make(arguments: &Arguments, round: Round) -> Result<Self, Failure> {
        let server_root = match &arguments.server_files {
            Some(directory) => tempfile::tempdir_in(directory),
            None => tempfile::tempdir(),
        };
        let client_root = match &arguments.client_files {
            Some(directory) => tempfile::tempdir_in(directory),
            None => tempfile::tempdir_in(MEMORY).or_else(|_| tempfile::tempdir()),
        };
        let made = |root: std::io::Result<TempDir>| {
            root.map_err(|error| unavailable("no temporary directory", &error))
        };
        let (server_root, client_root) = (made(server_root)?, made(client_root)?);
        let hub = Hub::set_up(server_root.path(), &arguments.wish(round)?).await?;
        let join = hub.token(round.clients.into()).await?;
        let server = hub.serve().await?;
        let mut sites = Vec::new();
        for number in 0..round.clients {
            let root = client_root.path();
            sites.push(Site::enrol(root, &server.address, &join, number).await?);
        }
        Ok(Self {
            server_root,
            client_root,
            hub,
            server,
            sites,
        })
    }
}

/// Gigabytes a second.
async fn yardstick(arguments: &Arguments) -> Result<f64, Failure> {
    let one = Round {
        clients: 1,
        values: 1,
    };
    let setting = Setting::make(arguments, one).await?;
    let directory = ServerDirectory::new(setting.server_root.path().join("hub"));
    let failed = |error: &dyn std::error::Error| unavailable("the yardstick failed", error);
    let clock = Clock::system();
    let authority = Authority::load(&directory, clock.now()).map_err(|error| failed(&error))?;
    let server = authority.server_tls(&directory, None, clock);
    let server = server.map_err(|error| failed(&error))?.config;
    let client = setting.sites[0].tls()?;
    let bytes = arguments.yardstick_bytes.get();
    let took = yardstick::time(server, client, bytes).await;
    let took = took.map_err(|error| failed(&error))?;
    setting.server.stop().await?;
    Ok(rate(bytes, took))
}

#[expect(clippy::cast_precision_loss, reason = "no size here has 53 bits")]
fn rate(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / GIGABYTE / took.as_secs_f64()
}

async fn hold(
    arguments: &Arguments,
    round: Round,
    yardstick_rate: f64,
) -> Result<Measured, Failure> {
    let setting = Setting::make(arguments, round).await?;
    let Setting {
        hub,
        mut server,
        mut sites,
        ..
    } = setting;
    let payload = payload(setting.client_root.path(), round)?;
    let gate = Arc::new(Barrier::new(round.clients.into()));
    let mut running = JoinSet::new();
    // All but one wait, as they would have since the round before.
    let last = sites.pop();
    for site in sites {
        running.spawn(site.take_part(payload.clone(), Arc::clone(&gate)));
    }
    while hub.attending().await? < running.len() {
        sleep(LOOK_AGAIN).await;
    }
    if let Some(last) = last {
        running.spawn(last.take_part(payload.clone(), gate));
    }
    let mut times = Vec::new();
    while let Some(ended) = running.join_next().await {
        let ended = ended.map_err(|error| unavailable("a client broke off", &error))?;
        times.push(ended?);
    }
    let closed = server.next_event("round-closed").await?;
    if closed["outcome"] != "published" || closed["accepted"] != round.clients {
        let message = format!("the round did not count every update: {closed}");
        return Err(Failure::new(ExitCode::Temporary, message));
    }
    let number = |name: &str| closed[name].as_u64().unwrap_or_default();
    let reading = server.meter.read()?;
    server.stop().await?;
    let all_bytes = payload.bytes * u64::from(round.clients);
    Ok(Measured {
        clients: round.clients,
        model_bytes: payload.bytes,
        download_rate: rate(
            all_bytes,
            span(&times, |times| (times.invited, times.downloaded)),
        ),
        upload_rate: rate(
            all_bytes,
            span(&times, |times| (times.announced, times.sent)),
        ),
        wall_ms: number("wall_ms"),
        merge_ms: number("merge_ms"),
        server: reading,
        yardstick_rate,
    })
}

/// From the first beginning to the last end.
fn span(times: &[Times], of: impl Fn(&Times) -> (Instant, Instant)) -> Duration {
    let begun = times.iter().map(|times| of(times).0).min();
    let ended = times.iter().map(|times| of(times).1).max();
    let span = begun.zip(ended).map(|(begun, ended)| ended - begun);
    span.unwrap_or_default()
}

/// An update of a model: one that changes every value by about a hundredth.
fn payload(root: &Path, round: Round) -> Result<Payload, Failure> {
    let path = root.join("update.safetensors");
    write_values(&path, round.values, 0.000_2)
        .map_err(|error| unavailable("no update can be made", &*error))?;
    let failed = |error: std::io::Error| unavailable("no update can be made", &error);
    Ok(Payload {
        digest: Digest::of_file(&path).map_err(failed)?,
        bytes: path.metadata().map_err(failed)?.len(),
        path,
    })
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yardstick { bytes, rate } => {
                let bytes = ByteSize::new(*bytes);
                write!(f, "a TLS stream of {bytes}: {rate:.2} GB/s")
            }
            Self::Round(measured) => measured.fmt(f),
        }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |rate: f64| rate / self.yardstick_rate;
        write!(
            f,
            "{} x {}: down {:.2} GB/s ({:.2} of a TLS stream), up {:.2} GB/s ({:.2}); the round took {}, its merge {}; \
             the server at most {}",
            self.clients,
            ByteSize::new(self.model_bytes),
            self.download_rate,
            share(self.download_rate),
            self.upload_rate,
            share(self.upload_rate),
            Millis::new(self.wall_ms),
            Millis::new(self.merge_ms),
            ByteSize::new(self.server.peak_bytes),
        )
    }
}
