//! Sets the stage: the run's directory, the first base, each client's examples and the plan, before any process runs.
//!
//! Layout of the directory: `server/` and `clients/client-K/` as real deployments have them, `logs/` one file a
//! process, `base.safetensors`, `test.safetensors` (which nobody trains on), and at the end `summary.json`.

use std::fs;
use std::path::{Path, PathBuf};

use fedmerge_client::trainer::builtin::dataset::Dataset;
use fedmerge_client::trainer::builtin::digits;
use fedmerge_client::trainer::builtin::mlp::{Parameters, Sizes};
use fedmerge_client::trainer::builtin::source::DataSource;
use fedmerge_common::failure::{ExitCode, Failure};
use toml::Table;

use super::attack::poison::trap;
use super::settings::Settings;

/// The files of a simulation that is ready to run.
#[derive(Debug)]
pub(super) struct Stage {
    /// Everything lies below this directory.
    pub(super) dir: PathBuf,
    /// The program to run: this one.
    pub(super) program: PathBuf,
    /// The global test set.
    pub(super) test: Dataset,
    /// What a backdoor is tested with, where there is to be one.
    pub(super) trap: Option<Dataset>,
    /// The plan, complete.
    pub(super) plan: Table,
}

impl Stage {
    /// Writes everything that must be there before the first process starts.
    ///
    /// # Errors
    /// When the directory is in use or cannot be written, or the examples cannot be had or split.
    pub(super) fn set_up(settings: &Settings) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| {
            Failure::new(ExitCode::Unavailable, "cannot find this program's own file")
                .with_source(&error)
        })?;
        let (training, test) = examples(&settings.dataset)?;
        let parts = parts(settings, &training)?;
        let dir = match &settings.out {
            Some(dir) => claim(dir)?,
            None => fresh(settings.seed)?,
        };
        let stage = Self {
            dir,
            program,
            trap: trap_of(settings, &test),
            test,
            plan: with_base(settings),
        };
        create(&stage.logs())?;
        let classes = training.classes().max(stage.test.classes());
        let sizes = Sizes {
            inputs: training.inputs(),
            hidden: settings.hidden_units,
            classes,
        };
        Parameters::fresh(sizes, settings.seed)
            .write(&stage.base())
            .map_err(|error| unwritable(&error))?;
        stage
            .test
            .write(&stage.dir.join("test.safetensors"))
            .map_err(|error| unwritable(&error))?;
        for (number, part) in (1..).zip(parts) {
            create(&stage.client(number))?;
            let part = match settings.gate {
                Some(_) => stage.hold_out(number, &part)?,
                None => part,
            };
            part.write(&stage.examples(number))
                .map_err(|error| unwritable(&error))?;
        }
        Ok(stage)
    }

    /// Sets a fifth of a client's examples aside for its evaluations; answers with the others, which it trains on.
    fn hold_out(&self, number: usize, part: &Dataset) -> Result<Dataset, Failure> {
        if part.len() < 2 {
            let message = format!(
                "{} has one example and none to hold out",
                client_name(number)
            );
            return Err(Failure::new(ExitCode::Usage, message).with_hint("lower --clients"));
        }
        let (training, held_out) = part.split();
        held_out
            .write(&self.held_out(number))
            .map_err(|error| unwritable(&error))?;
        Ok(training)
    }

    /// The server's directory.
    pub(super) fn server(&self) -> PathBuf {
        self.dir.join("server")
    }

    /// A client's directory.
    pub(super) fn client(&self, number: usize) -> PathBuf {
        self.dir.join("clients").join(client_name(number))
    }

    /// A client's examples.
    pub(super) fn examples(&self, number: usize) -> PathBuf {
        self.client(number).join("data.safetensors")
    }

    /// What a client evaluates models on, where the plan has a gate.
    pub(super) fn held_out(&self, number: usize) -> PathBuf {
        self.client(number).join("held-out.safetensors")
    }

    /// The first base.
    pub(super) fn base(&self) -> PathBuf {
        self.dir.join("base.safetensors")
    }

    /// One log for each process.
    pub(super) fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// Puts the simulation's plan in the place of the one that `server init` wrote.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn install_plan(&self) -> Result<(), Failure> {
        let path = self.server().join("federation.toml");
        fs::write(path, self.plan.to_string()).map_err(|error| unwritable(&error))
    }
}

/// The name of client `number`, from 1.
pub(super) fn client_name(number: usize) -> String {
    format!("client-{number}")
}

fn with_base(settings: &Settings) -> Table {
    let mut plan = settings.plan.clone();
    plan.insert("base".into(), "../base.safetensors".into());
    plan
}

/// Examples to train on, and those that nobody trains on.
pub(super) fn examples(source: &DataSource) -> Result<(Dataset, Dataset), Failure> {
    match source {
        DataSource::Digits => Ok((digits::training(), digits::test())),
        DataSource::File(path) => {
            let data = Dataset::read(path).map_err(|error| {
                Failure::new(ExitCode::BadData, "cannot load the examples").with_source(&error)
            })?;
            if data.len() < 2 {
                return Err(Failure::new(
                    ExitCode::BadData,
                    format!("{} has one example only", path.display()),
                ));
            }
            Ok(data.split())
        }
        DataSource::DigitsTest | DataSource::DigitsPart { .. } => Err(Failure::new(
            ExitCode::Usage,
            "--dataset takes `digits` as a whole, or a file",
        )
        .with_hint("`digits:K/N` is for `fedmerge client train --data`")),
    }
}

fn trap_of(settings: &Settings, test: &Dataset) -> Option<Dataset> {
    let attack = settings.attackers?.attack;
    if attack.is_targeted() {
        trap(test)
    } else {
        None
    }
}

/// Each client's examples.
pub(super) fn parts(settings: &Settings, training: &Dataset) -> Result<Vec<Dataset>, Failure> {
    let rows = settings
        .partition
        .split(training, settings.clients, settings.seed)
        .map_err(|error| {
            Failure::new(ExitCode::Usage, "cannot spread the examples")
                .with_source(&error)
                .with_hint("lower --clients")
        })?;
    let parts = rows.iter().map(|rows| {
        training
            .select(rows)
            .expect("a partition leaves nobody without examples")
    });
    Ok(parts.collect())
}

/// Takes a directory of the user's choice, which must be new or empty.
fn claim(dir: &Path) -> Result<PathBuf, Failure> {
    create(dir)?;
    let mut entries = fs::read_dir(dir).map_err(|error| unwritable(&error))?;
    if entries.next().is_some() {
        let message = format!("{} is not empty", dir.display());
        return Err(Failure::new(ExitCode::Usage, message).with_hint("give --out a new directory"));
    }
    dir.canonicalize().map_err(|error| unwritable(&error))
}

/// Makes a directory that no other simulation has.
fn fresh(seed: u64) -> Result<PathBuf, Failure> {
    let parent = std::env::temp_dir();
    for number in 1_u64.. {
        let dir = parent.join(format!("fedmerge-simulation-{seed}-{number}"));
        match fs::create_dir(&dir) {
            Ok(()) => return dir.canonicalize().map_err(|error| unwritable(&error)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(unwritable(&error)),
        }
    }
    Err(Failure::new(
        ExitCode::Unavailable,
        format!("{} has no room for another run", parent.display()),
    ))
}

fn create(dir: &Path) -> Result<(), Failure> {
    fs::create_dir_all(dir).map_err(|error| {
        Failure::new(
            ExitCode::Unavailable,
            format!("cannot create {}", dir.display()),
        )
        .with_source(&error)
    })
}

fn unwritable(error: &dyn std::error::Error) -> Failure {
    Failure::new(ExitCode::Unavailable, "cannot write the simulation's files")
        .with_source(error)
        .with_hint("give --out a directory with room")
}
