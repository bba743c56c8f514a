//! The commands of a federation, as a person would type them: init, check, token, enrol, run.

use std::ffi::OsString;
use std::path::Path;

use fedmerge_common::failure::{ExitCode, Failure};
use tokio::task::JoinSet;

use crate::simulate::attack::Attack;
use crate::simulate::processes::{Processes, Task};
use crate::simulate::settings::Settings;
use crate::simulate::stage::{Stage, client_name};

/// Clients that enrol at the same time.
const ENROL_TOGETHER: usize = 8;
/// Time from one end of a client's training to the other that no built-in training needs.
const TRAIN_LIMIT: &str = "5m";

pub(super) async fn set_up_server(stage: &Stage, processes: &Processes) -> Result<(), Failure> {
    let dir = stage.server();
    let name = stage
        .plan
        .get("name")
        .and_then(toml::Value::as_str)
        .unwrap_or("simulation");
    let init: [OsString; 7] = [
        "server".into(),
        "init".into(),
        dir.clone().into(),
        "--name".into(),
        name.into(),
        "--base".into(),
        stage.base().into(),
    ];
    processes.complete(&Task::new("server-init", init)).await?;
    stage.install_plan()?;
    let check: [OsString; 4] = [
        "server".into(),
        "check-config".into(),
        "--dir".into(),
        dir.into(),
    ];
    processes
        .complete(&Task::new("server-check-config", check))
        .await?;
    Ok(())
}

pub(super) async fn create_token(
    settings: &Settings,
    stage: &Stage,
    processes: &Processes,
) -> Result<String, Failure> {
    let create: [OsString; 9] = [
        "server".into(),
        "token".into(),
        "create".into(),
        "--dir".into(),
        stage.server().into(),
        "--uses".into(),
        settings.clients.to_string().into(),
        "--ttl".into(),
        "1h".into(),
    ];
    let printed = processes
        .complete(&Task::new("server-token-create", create))
        .await?;
    let mut words = printed.split(|character: char| character.is_whitespace() || character == '"');
    words
        .find(|word| word.starts_with("fm1."))
        .map(str::to_owned)
        .ok_or_else(|| {
            Failure::new(
                ExitCode::Bug,
                format!("`server token create` printed no join string: {printed:?}"),
            )
        })
}

pub(super) async fn enrol(
    settings: &Settings,
    stage: &Stage,
    processes: &Processes,
    addresses: &[String],
    token: &str,
) -> Result<(), Failure> {
    let tasks = (1..=settings.clients)
        .zip(addresses)
        .map(|(number, address)| {
            let name = client_name(number);
            let arguments: [OsString; 10] = [
                "client".into(),
                "enrol".into(),
                "--server".into(),
                format!("https://{address}").into(),
                "--token".into(),
                token.into(),
                "--dir".into(),
                stage.client(number).into(),
                "--name".into(),
                name.clone().into(),
            ];
            Task::new(format!("{name}-enrol"), arguments)
        });
    let tasks: Vec<Task> = tasks.collect();
    for together in tasks.chunks(ENROL_TOGETHER) {
        let mut enrolling = JoinSet::new();
        for task in together {
            enrolling.spawn(processes.complete(task));
        }
        while let Some(result) = enrolling.join_next().await {
            result.map_err(|error| {
                Failure::new(ExitCode::Bug, "an enrolment broke off").with_source(&error)
            })??;
        }
    }
    Ok(())
}

pub(super) fn client_task(settings: &Settings, stage: &Stage, number: usize) -> Task {
    let mut arguments: Vec<OsString> = vec![
        "client".into(),
        "run".into(),
        "--dir".into(),
        stage.client(number).into(),
        "--train".into(),
        train_command(settings, stage, number).into(),
        "--train-timeout".into(),
        TRAIN_LIMIT.into(),
    ];
    if settings.gate.is_some() {
        arguments.push("--evaluate".into());
        arguments.push(evaluate_command(settings, stage, number).into());
    }
    Task::new(client_name(number), arguments).single_threaded()
}

/// The command of a client's trainer, for a shell.
fn train_command(settings: &Settings, stage: &Stage, number: usize) -> String {
    let program = quoted(&stage.program);
    let trainer = match settings.attack_of(number) {
        Some(attack) => format!("{program} {}", attack_trainer(settings, stage, attack)),
        None => format!("{program} client train"),
    };
    let seed = settings.client_seed(number);
    let examples = quoted(&stage.examples(number));
    format!(
        "{trainer} --data {examples} --local-steps {} --seed {seed}",
        settings.local_steps
    )
}

/// The lying trainer and what it knows of the others.
fn attack_trainer(settings: &Settings, stage: &Stage, attack: Attack) -> String {
    let attackers = settings.attackers.map_or(0, |attackers| attackers.count);
    let mut command = format!(
        "attack-trainer --attack {} --clients {} --attackers {attackers}",
        attack.name(),
        settings.clients
    );
    if attack.needs_crowd() {
        command += &format!(" --honest-seed {}", settings.client_seed(1));
        for number in 1..=settings.clients - attackers {
            command += &format!(" --honest {}", quoted(&stage.examples(number)));
        }
    }
    command
}

/// The command of a client's evaluator, for a shell: who lies about its update lies about the merge too.
fn evaluate_command(settings: &Settings, stage: &Stage, number: usize) -> String {
    let program = quoted(&stage.program);
    match settings.attack_of(number) {
        Some(_) => format!("{program} attack-evaluator"),
        None => format!(
            "{program} client evaluate --data {}",
            quoted(&stage.held_out(number))
        ),
    }
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
