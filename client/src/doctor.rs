//! A look at all that a client needs to take part, with what to mend: nothing is changed, and the server is only greeted.
//!
//! Each check stands by itself, so that one look finds all that is wrong. With a training command the present base is fetched and the
//! command tried on it, in a directory of its own; nothing of that is sent.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use fedmerge_common::clock::Clock;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::lock::DirectoryLock;
use fedmerge_common::output::Output;
use fedmerge_common::units::{ByteSize, Millis, Timestamp};
use fedmerge_common::update::ModelRef;
use fedmerge_proto::v1;
use serde::Serialize;
use tokio::process::Command;
use tokio::time::timeout;

use crate::enrolment::identity;
use crate::link::{Greeting, Link};
use crate::policy::Policy;
use crate::rehearsal::{self, Rehearsal};
use crate::settings::{ClientDirectory, Settings};
use crate::trainer::command::TrainerCommand;

/// Clocks that differ by more are refused by servers at enrolment and renewal.
const CLOCK_SKEW: Millis = Millis::from_secs(5 * 60);
/// How often a base has to fit on the disk: itself, what is trained from it, the update, and the next base.
const COPIES: u64 = 4;
/// Longest wait for an interpreter.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is to be looked at.
#[derive(Clone, Debug)]
pub struct Checkup {
    /// The client's directory.
    pub directory: ClientDirectory,
    /// A command to be tried.
    pub trainer: Option<TrainerCommand>,
}

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// The client takes part as it is; a person may want to know.
    Remark,
    /// To be mended.
    Bad,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "ok",
            Self::Remark => "note",
            Self::Bad => "MEND",
        })
    }
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found, one line.
    pub detail: String,
    /// What to do.
    pub hint: Option<String>,
    #[serde(skip)]
    exit: ExitCode,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, detail: impl fmt::Display) -> Self {
        Self {
            check,
            verdict,
            detail: detail.to_string(),
            hint: None,
            exit: ExitCode::Unavailable,
        }
    }

    fn good(check: &'static str, detail: impl fmt::Display) -> Self {
        Self::new(check, Verdict::Good, detail)
    }

    fn with_hint(self, hint: impl fmt::Display) -> Self {
        Self {
            hint: Some(hint.to_string()),
            ..self
        }
    }

    fn bad(check: &'static str, failure: Failure) -> Self {
        let mut detail = failure.message;
        for cause in failure.causes {
            detail = format!("{detail}: {cause}");
        }
        Self {
            hint: failure.hint,
            exit: failure.exit,
            ..Self::new(check, Verdict::Bad, detail)
        }
    }

    /// What a command ends with whose worst finding this is.
    #[must_use]
    pub fn exit(&self) -> ExitCode {
        self.exit
    }
}

/// Looks at everything, in the order in which things are needed; `tell` hears each finding.
///
/// # Errors
/// When there is no client in the directory, so that there is nothing to look at.
pub async fn examine(
    checkup: &Checkup,
    mut tell: impl FnMut(&Finding),
) -> Result<Vec<Finding>, Failure> {
    let directory = &checkup.directory;
    let settings = Settings::read(directory)?;
    let mut findings = Vec::new();
    let mut found = |finding: Finding| {
        tell(&finding);
        findings.push(finding);
    };
    found(Finding::good(
        "client",
        format_args!(
            "{} of federation {} at {}",
            settings.client, settings.federation, settings.server
        ),
    ));
    let running = DirectoryLock::holder_of(&directory.lock());
    found(process(running.as_deref()));
    found(private_key(directory, &settings));
    let clock = Clock::system();
    let shown = certificate(directory, &settings, clock.now());
    let may_greet = shown.verdict == Verdict::Good;
    found(shown);
    found(policy(directory, &settings));
    let greeting = if may_greet {
        Some(greet(directory, &settings).await)
    } else {
        None
    };
    let base = match greeting {
        None => {
            let why = "not greeted: there is no certificate to show";
            found(Finding::new("server", Verdict::Remark, why));
            None
        }
        Some(Ok((answer, link))) => {
            found(Finding::good(
                "server",
                format_args!("answers, version {}", answer.software_version),
            ));
            found(clocks(Timestamp::new(answer.server_time_ms), clock.now()));
            answer
                .base
                .and_then(|base| ModelRef::try_from(base).ok())
                .map(|base| (base, link))
        }
        Some(Err(failure)) => {
            found(Finding::bad("server", failure));
            None
        }
    };
    found(disk(directory, base.as_ref().map(|(base, _)| base)));
    found(python(checkup.trainer.as_ref()).await);
    let Some(trainer) = &checkup.trainer else {
        return Ok(findings);
    };
    found(match (base, running) {
        (_, Some(pid)) => occupied(&pid),
        (None, None) => Finding::new(
            "training",
            Verdict::Remark,
            "not tried: there is no base without the server",
        ),
        (Some((base, link)), None) => tried(checkup, trainer, &settings, &base, &link).await,
    });
    Ok(findings)
}

fn occupied(pid: &str) -> Finding {
    let detail = format!("not tried: the client runs (pid {pid}), and has the directory");
    Finding::new("training", Verdict::Remark, detail)
        .with_hint("stop it first, or try the command in another enrolled directory")
}

fn process(running: Option<&str>) -> Finding {
    match running {
        Some(pid) => Finding::good("process", format_args!("runs (pid {pid})")),
        None => Finding::new("process", Verdict::Remark, "not running")
            .with_hint("fedmerge client run --dir DIR --train 'COMMAND'"),
    }
}

fn private_key(directory: &ClientDirectory, settings: &Settings) -> Finding {
    let path = match &settings.certificate {
        Some(own) => own.key.clone(),
        None => directory.key(),
    };
    match fs::metadata(&path) {
        Err(error) => {
            let message = format!("{} cannot be read", path.display());
            Finding::bad(
                "key",
                Failure::new(ExitCode::BadData, message).with_source(&error),
            )
        }
        Ok(found) if found.permissions().mode() & 0o077 != 0 => {
            let mode = found.permissions().mode() & 0o777;
            let detail = format!("{} can be read by others (mode {mode:o})", path.display());
            Finding::new("key", Verdict::Bad, detail)
                .with_hint(format_args!("chmod 600 {}", path.display()))
        }
        Ok(_) => Finding::good("key", "is its owner's alone"),
    }
}

fn certificate(directory: &ClientDirectory, settings: &Settings, now: Timestamp) -> Finding {
    let checked = identity::check(directory, settings, now);
    let life = identity::life(directory, settings);
    match (checked, life) {
        (Ok(()), Ok((_, end))) => {
            let left = (end - now).approximate();
            Finding::good("certificate", format_args!("is valid for {left}"))
        }
        // The federation's own are the client's to renew, also when they have ended.
        (Err(failure), Ok((_, end))) if end <= now && settings.certificate.is_none() => {
            Finding::new("certificate", Verdict::Remark, failure.message)
                .with_hint("`client run` renews it, if the server still does; else enrol again")
        }
        (Err(failure), _) | (_, Err(failure)) => Finding::bad("certificate", failure),
    }
}

fn policy(directory: &ClientDirectory, settings: &Settings) -> Finding {
    let checked = Policy::read(&directory.policy())
        .map_err(Failure::from)
        .and_then(|policy| policy.check_server(&settings.server));
    match checked {
        Ok(()) if directory.policy().exists() => {
            Finding::good("policy", "lets updates go to this server")
        }
        Ok(()) => Finding::good("policy", "none: all that the plan asks for may leave"),
        Err(failure) => Finding::bad("policy", failure),
    }
}

async fn greet(
    directory: &ClientDirectory,
    settings: &Settings,
) -> Result<(v1::HelloResponse, Link), Failure> {
    let clock = Clock::system();
    let tls = identity::load(directory, settings, &clock)?;
    let quiet = Output {
        quiet: true,
        ..Output::default()
    };
    let link = Link::new(settings.server.clone(), tls, Greeting::None, quiet);
    let answer = link.hello().await;
    let answer = answer.map_err(|trouble| trouble.into_failure(&settings.server, &clock))?;
    Ok((answer, link))
}

fn clocks(server: Timestamp, here: Timestamp) -> Finding {
    let skew = server.distance(here);
    if skew <= CLOCK_SKEW {
        return Finding::good(
            "clock",
            format_args!("differs from the server's by {}", skew.approximate()),
        );
    }
    let detail = format!("says {here}, and the server's {server}");
    Finding::new("clock", Verdict::Bad, detail)
        .with_hint("set it, for example with `timedatectl set-ntp true`")
}

fn disk(directory: &ClientDirectory, base: Option<&ModelRef>) -> Finding {
    let found = match rustix::fs::statvfs(directory.root()) {
        Ok(found) => found,
        Err(error) => {
            let message = format!("the room in {} is not known", directory.root().display());
            let failure = Failure::new(ExitCode::Unavailable, message);
            return Finding::bad("disk", failure.with_source(&std::io::Error::from(error)));
        }
    };
    let free = ByteSize::new(found.f_bavail.saturating_mul(found.f_frsize));
    let Some(base) = base else {
        return Finding::good("disk", format_args!("{free} free"));
    };
    let needed = ByteSize::new(base.size_bytes.saturating_mul(COPIES));
    if free.get() >= needed.get() {
        return Finding::good(
            "disk",
            format_args!("{free} free, a round takes up to {needed}"),
        );
    }
    let detail = format!("{free} free, and a round takes up to {needed}");
    Finding::new("disk", Verdict::Bad, detail).with_hint("make room, or move the directory")
}

/// The interpreter that a command names, or the usual one.
fn interpreter(trainer: Option<&TrainerCommand>) -> PathBuf {
    let words = trainer
        .map_or("", |trainer| &trainer.command)
        .split_whitespace();
    let named = words.into_iter().find(|word| {
        let name = word.rsplit('/').next().unwrap_or(word);
        name.starts_with("python")
    });
    named.unwrap_or("python3").into()
}

async fn python(trainer: Option<&TrainerCommand>) -> Finding {
    let interpreter = interpreter(trainer);
    let shown = interpreter.display();
    let asked = Command::new(&interpreter)
        .args(["-c", "import fedmerge; print(fedmerge.__version__)"])
        .kill_on_drop(true)
        .output();
    match timeout(PATIENCE, asked).await {
        Ok(Ok(answer)) if answer.status.success() => {
            let version = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
            let ours = env!("CARGO_PKG_VERSION");
            if version == ours {
                return Finding::good(
                    "python",
                    format_args!("{shown} has the package, version {version}"),
                );
            }
            let detail =
                format!("{shown} has the package in version {version}, and this is {ours}");
            Finding::new("python", Verdict::Remark, detail).with_hint("pip install ./client/python")
        }
        Ok(Ok(_)) => Finding::new(
            "python",
            Verdict::Remark,
            format_args!("{shown} has no package `fedmerge`"),
        )
        .with_hint("only scripts that import it need it: pip install ./client/python"),
        Ok(Err(_)) => Finding::new(
            "python",
            Verdict::Remark,
            format_args!("there is no {shown}"),
        ),
        Err(_) => Finding::new(
            "python",
            Verdict::Remark,
            format_args!("{shown} does not answer"),
        ),
    }
}

async fn tried(
    checkup: &Checkup,
    trainer: &TrainerCommand,
    settings: &Settings,
    base: &ModelRef,
    link: &Link,
) -> Finding {
    let rehearsal = Rehearsal {
        directory: &checkup.directory,
        settings,
        trainer,
        base,
    };
    match rehearsal::hold(&rehearsal, link).await {
        Ok(update) => Finding::good("training", update),
        Err(failure) => Finding::bad("training", failure),
    }
}
