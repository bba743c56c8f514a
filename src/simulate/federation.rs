//! The federation itself: starts the server and the clients as any operator would, and follows the rounds.
//!
//! Every step is a command a person could type; see them in the logs. Whatever happens, all processes are stopped
//! before this returns.

mod commands;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use fedmerge_client::trainer::builtin::mlp::Parameters;
use fedmerge_client::trainer::builtin::train::evaluate;
use fedmerge_common::failure::{ExitCode, Failure};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::signal::unix::{SignalKind, signal};

use super::link::Links;
use super::processes::{Processes, Task};
use super::scoreboard::Scoreboard;
use super::server_event::{RoundClosed, ServerEvent};
use super::settings::Settings;
use super::stage::Stage;
use super::summary::Judgement;
use commands::{client_task, create_token, enrol, set_up_server};

/// Time for the clients to leave after the federation has ended.
const FAREWELL: Duration = Duration::from_secs(10);
const SERVER: &str = "server";

/// Runs the whole federation and shows it; returns when every process is gone.
///
/// # Errors
/// When a process fails or the user interrupts.
pub(super) async fn simulate(
    settings: &Settings,
    stage: &Stage,
    board: &mut Scoreboard<'_>,
) -> Result<(), Failure> {
    let mut processes = Processes::new(&stage.program, stage.logs());
    let outcome = tokio::select! {
        outcome = play(settings, stage, &mut processes, board) => outcome,
        interrupted = interrupt() => Err(interrupted),
    };
    let outcome =
        outcome.map_err(|failure| told_when(failure, board.rounds_over(), settings.rounds));
    processes.stop().await;
    outcome
}

/// Ends when the user or the system asks to stop.
async fn interrupt() -> Failure {
    let failed = |error: std::io::Error| {
        Failure::new(ExitCode::Unavailable, "cannot listen for signals").with_source(&error)
    };
    let signals = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ]
    .map(signal);
    let [mut interrupt, mut terminate, mut hangup] = match signals {
        [Ok(interrupt), Ok(terminate), Ok(hangup)] => [interrupt, terminate, hangup],
        [Err(error), ..] | [_, Err(error), _] | [.., Err(error)] => return failed(error),
    };
    tokio::select! {
        _ = interrupt.recv() => (),
        _ = terminate.recv() => (),
        _ = hangup.recv() => (),
    }
    Failure::new(ExitCode::Temporary, "interrupted")
}

fn told_when(mut failure: Failure, over: u64, of: u64) -> Failure {
    if over > 0 {
        failure.message = format!("{} after round {over} of {of}", failure.message);
    }
    failure
}

async fn play(
    settings: &Settings,
    stage: &Stage,
    processes: &mut Processes,
    board: &mut Scoreboard<'_>,
) -> Result<(), Failure> {
    board.status("setting up the server");
    set_up_server(stage, processes).await?;
    board.status("starting the server");
    let mut server = start_server(stage, processes).await?;
    board.status("enrolling the clients");
    let token = create_token(settings, stage, processes).await?;
    let (_links, addresses) = addresses(settings, &server.address)?;
    enrol(settings, stage, processes, &addresses, &token).await?;
    board.status("starting the clients");
    for number in 1..=settings.clients {
        processes.start(&client_task(settings, stage, number), Stdio::null())?;
    }
    board.base(judge(&stage.base(), stage)?.evaluation);
    follow(settings, stage, processes, &mut server, board).await?;
    board.status("waiting for the clients to leave");
    farewell(processes).await
}

/// Where each client finds the server: at its link, where there are links.
fn addresses(settings: &Settings, server: &str) -> Result<(Links, Vec<String>), Failure> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Failure::new(ExitCode::Unavailable, "the clients' links cannot be laid").with_source(error)
    };
    let mut links = Links::default();
    let Some(link) = settings.link else {
        return Ok((links, vec![server.to_owned(); settings.clients]));
    };
    let to: SocketAddr = server.parse().map_err(|error| failed(&error))?;
    let mut addresses = Vec::new();
    for number in 0..settings.clients as u64 {
        // Two numbers each: one for each direction.
        let seed = settings
            .seed
            .wrapping_mul(1_000_000)
            .wrapping_add(2 * number);
        let laid = links.lay(link, to, seed);
        addresses.push(laid.map_err(|error| failed(&error))?.to_string());
    }
    Ok((links, addresses))
}

/// A server that accepts connections.
struct Server {
    pid: u32,
    address: String,
    lines: Lines<BufReader<ChildStdout>>,
}

async fn start_server(stage: &Stage, processes: &mut Processes) -> Result<Server, Failure> {
    let run: [OsString; 9] = [
        "server".into(),
        "run".into(),
        "--dir".into(),
        stage.server().into(),
        "--listen".into(),
        "127.0.0.1:0".into(),
        "--exit-when-done".into(),
        "--format".into(),
        "json".into(),
    ];
    let started = processes.start(&Task::new(SERVER, run), Stdio::piped())?;
    let stdout = started.stdout.expect("standard output is piped");
    let mut lines = BufReader::new(stdout).lines();
    loop {
        match next_event(&mut lines).await? {
            Some(ServerEvent::Listening { address }) => {
                return Ok(Server {
                    pid: started.pid,
                    address,
                    lines,
                });
            }
            Some(ServerEvent::RoundClosed(_) | ServerEvent::Ended { .. } | ServerEvent::Other) => {}
            None => return Err(first_death(processes).await),
        }
    }
}

/// The next line that is an event; `None` at the end.
async fn next_event(
    lines: &mut Lines<BufReader<ChildStdout>>,
) -> Result<Option<ServerEvent>, Failure> {
    let unreadable = |error: &dyn std::error::Error, what: String| {
        Failure::new(ExitCode::Bug, format!("cannot read the server's {what}")).with_source(error)
    };
    let line = lines
        .next_line()
        .await
        .map_err(|error| unreadable(&error, "output".to_owned()))?;
    let Some(line) = line else { return Ok(None) };
    serde_json::from_str(&line)
        .map(Some)
        .map_err(|error| unreadable(&error, format!("line {line:?}")))
}

/// The failure of the process whose end was the first.
async fn first_death(processes: &mut Processes) -> Failure {
    loop {
        let exit = processes.next_exit().await;
        if exit.name == SERVER || !exit.is_success() {
            return exit.failure();
        }
    }
}

/// Shows round after round until the server has ended.
async fn follow(
    settings: &Settings,
    stage: &Stage,
    processes: &mut Processes,
    server: &mut Server,
    board: &mut Scoreboard<'_>,
) -> Result<(), Failure> {
    let mut is_over = false;
    loop {
        let round = board.rounds_over() + 1;
        board.status(format!(
            "round {} of {}",
            round.min(settings.rounds),
            settings.rounds
        ));
        tokio::select! {
            biased;
            event = next_event(&mut server.lines) => match event? {
                Some(ServerEvent::RoundClosed(closed)) => show(&closed, stage, board)?,
                Some(ServerEvent::Ended { .. }) => is_over = true,
                Some(ServerEvent::Listening { .. } | ServerEvent::Other) => {}
                None if is_over => return Ok(()),
                None => return Err(first_death(processes).await),
            },
            exit = processes.next_exit() => {
                if !(exit.is_success() || is_over && exit.name != SERVER) {
                    return Err(exit.failure());
                }
            }
        }
        board.server_memory(peak_memory(server.pid));
    }
}

fn show(closed: &RoundClosed, stage: &Stage, board: &mut Scoreboard<'_>) -> Result<(), Failure> {
    let published = match &closed.model {
        Some(model) => Some((model, judge(&model.path, stage)?)),
        None => None,
    };
    board.round(closed, published);
    Ok(())
}

/// Evaluates a model on the global test set, and how well a backdoor works in it.
fn judge(model: &Path, stage: &Stage) -> Result<Judgement, Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::new(
            ExitCode::BadData,
            format!("cannot evaluate {}", model.display()),
        )
        .with_source(error)
    };
    let parameters = Parameters::read(model).map_err(|error| failed(&error))?;
    let on = |examples| evaluate(&parameters, examples).map_err(|error| failed(&error));
    let trapped = stage.trap.as_ref().map(on).transpose()?;
    Ok(Judgement {
        evaluation: on(&stage.test)?,
        backdoor: trapped.map(|trapped| trapped.accuracy),
    })
}

/// Peak resident memory of a process in bytes, where the system tells.
fn peak_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(
        kibibytes
            .trim()
            .trim_end_matches("kB")
            .trim()
            .parse::<u64>()
            .ok()?
            * 1024,
    )
}

/// Lets the server and the clients leave by themselves; those that do not are stopped by the caller.
async fn farewell(processes: &mut Processes) -> Result<(), Failure> {
    let leave = async {
        while processes.running() > 0 {
            let exit = processes.next_exit().await;
            if exit.name == SERVER && !exit.is_success() {
                return Err(exit.failure());
            }
        }
        Ok(())
    };
    // Who lingers is stopped with the rest: the results are complete.
    tokio::time::timeout(FAREWELL, leave)
        .await
        .unwrap_or(Ok(()))
}
