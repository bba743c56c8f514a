//! Builds the server: reads its files, opens its ledger, restores the round protocol, binds its port.
//!
//! Each fault is told with the file it is in. Nothing runs yet when this returns.

use std::collections::BTreeSet;
use std::num::NonZero;

use fedmerge_common::checkpoint::Checkpoint;
use fedmerge_common::clock::Clock;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::ids::{RoundNumber, UploadId};
use fedmerge_common::lock::DirectoryLock;
use fedmerge_common::output::Output;
use fedmerge_common::units::ByteSize;
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::Coordinator;
use fedmerge_merge::{MergePlan, Resources};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::App;
use crate::compute::Compute;
use crate::console::Console;
use crate::directory::ServerDirectory;
use crate::driver::{Driver, Equipment, Federation, Stay, Workshop};
use crate::enrolment::authority::Authority;
use crate::files;
use crate::listener::{ListenLimits, Listener};
use crate::merging;
use crate::notice::Offer;
use crate::plan::FederationPlan;
use crate::publish::{import_base, open_base};
use crate::rpc::{Desk, routes};
use crate::settings::Settings;
use crate::store::ledger::Ledger;
use crate::store::staging::Staging;
use crate::uploads::{Turns, Uploads};

/// What the command line adds to the directory's files.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen, instead of where the settings say.
    pub listen: Option<String>,
    /// When to end.
    pub stay: Stay,
}

/// Everything that was read and found right.
#[derive(Debug)]
pub struct Checked {
    /// `server.toml`.
    pub settings: Settings,
    /// `federation.toml`.
    pub plan: FederationPlan,
    /// The largest merge, of a whole cohort's updates: its memory is bounded and known.
    pub merge: MergePlan,
    authority: Authority,
    resources: Resources,
}

/// Reads and checks a server's files; `base` is the plan's, or the newest model's where rounds were held.
fn checked(
    directory: &ServerDirectory,
    settings: Settings,
    threads: usize,
    base: impl FnOnce(&FederationPlan) -> Result<Checkpoint, Failure>,
) -> Result<Checked, Failure> {
    let authority = Authority::load(directory)?;
    let plan = FederationPlan::read(&directory.plan())?;
    if plan.name != *authority.federation() {
        let message = format!(
            "the plan is for federation `{}`, but the certificates are for `{}`",
            plan.name,
            authority.federation()
        );
        let hint = "a name is for life: set it back in federation.toml, or make a new server with `fedmerge server init`";
        return Err(Failure::new(ExitCode::BadConfiguration, message).with_hint(hint));
    }
    let base = base(&plan)?;
    let resources = Resources {
        threads,
        memory_bytes: settings.merge.memory.get(),
    };
    let most = plan.round.cohort.target;
    let merge = merging::check(&plan, &base, most, resources).map_err(|error| {
        Failure::new(ExitCode::BadConfiguration, "the plan's merge cannot be run")
            .with_source(&error)
            .with_hint("change [merge] or [round] of federation.toml, or `memory` of server.toml")
    })?;
    Ok(Checked {
        settings,
        plan,
        merge,
        authority,
        resources,
    })
}

/// Reads and checks a server's files and changes nothing.
///
/// # Errors
/// The first fault, with its file.
pub fn check(directory: &ServerDirectory) -> Result<Checked, Failure> {
    let settings = Settings::read(directory)?;
    let threads = match settings.merge.threads {
        0 => std::thread::available_parallelism().map_or(1, NonZero::get),
        threads => threads,
    };
    checked(directory, settings, threads, |plan| {
        Ok(open_base(&plan.base)?)
    })
}

impl App {
    /// Opens and binds everything, and runs nothing.
    ///
    /// # Errors
    /// The first thing that is wrong with the directory or the machine.
    pub async fn build(
        directory: ServerDirectory,
        options: &Options,
        output: Output,
    ) -> Result<Self, Failure> {
        let lock = DirectoryLock::take(directory.root(), &directory.lock())?;
        let clock = Clock::system();
        let ledger = Ledger::open(&directory.ledger()).await?;
        let newest = ledger.newest_model().await?.map(|stored| stored.model);
        let settings = Settings::read(&directory)?;
        let compute = Compute::start(settings.merge.threads)?;
        let checked = checked(
            &directory,
            settings,
            compute.threads(),
            |plan| match &newest {
                Some(model) => open_model(&directory, model),
                None => Ok(open_base(&plan.base)?),
            },
        )?;
        let listen = options.listen.as_ref().unwrap_or(&checked.settings.listen);
        let listener = Listener::bind(listen).await?;
        let tls = checked.authority.server_tls(&directory, clock)?;
        let name = checked.plan.name.clone();
        let base = match newest {
            Some(model) => model,
            None => {
                import_base(&directory, &ledger, &name, &checked.plan.base, clock.now()).await?
            }
        };
        let coordinator = restored(&ledger, &checked.plan, base).await?;
        tracing::info!(
            federation = %name,
            bytes = checked.merge.peak_bytes(),
            "a merge needs at most these bytes"
        );
        let parts = Parts {
            directory,
            clock,
            ledger,
            compute,
            checked,
        };
        parts
            .join(coordinator, (listener, tls, lock), options.stay, output)
            .await
    }
}

/// What the server is put together from.
struct Parts {
    directory: ServerDirectory,
    clock: Clock,
    ledger: Ledger,
    compute: Compute,
    checked: Checked,
}

impl Parts {
    async fn join(
        self,
        coordinator: Coordinator,
        (listener, tls, lock): (Listener, rustls::ServerConfig, DirectoryLock),
        stay: Stay,
        output: Output,
    ) -> Result<App, Failure> {
        let staging = self.staging()?;
        remove_unknown(&staging, &self.ledger).await?;
        let base = *coordinator.base();
        let equipment = Equipment {
            coordinator,
            clock: self.clock,
            ledger: self.ledger.clone(),
            workshop: self.workshop(&staging),
            offer: self.offer(),
            console: Console::new(output, self.directory.clone(), self.last_told().await?),
            stay,
        };
        let (driver, federation) = Driver::new(equipment);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let limits = &self.checked.settings.limits;
        let limits = ListenLimits {
            connections: limits.connections,
            handshakes: limits.handshakes,
        };
        let (directory, ledger) = (self.directory.clone(), self.ledger.clone());
        let federation_name = self.checked.plan.name.clone();
        let desk = self.desk(federation, staging, stop.clone(), tasks.clone());
        Ok(App {
            _lock: lock,
            directory,
            ledger,
            listener,
            tls,
            limits,
            routes: routes(desk).await,
            driver,
            federation: federation_name,
            base,
            output,
            stop,
            tasks,
        })
    }

    fn staging(&self) -> Result<Staging, Failure> {
        let path = self.directory.staging();
        Staging::open(path.clone(), self.checked.settings.limits.staged_bytes).map_err(|error| {
            let message = format!("`{}` cannot be made", path.display());
            Failure::new(ExitCode::Unavailable, message).with_source(&error)
        })
    }

    fn offer(&self) -> Offer {
        Offer {
            encodings: self.checked.plan.encodings.clone(),
            max_update: self.checked.plan.max_update,
        }
    }

    fn workshop(&self, staging: &Staging) -> Workshop {
        let plan = &self.checked.plan;
        Workshop {
            directory: self.directory.clone(),
            ledger: self.ledger.clone(),
            staging: staging.clone(),
            compute: self.compute.clone(),
            clock: self.clock,
            federation: plan.name.clone(),
            recipe: plan.recipe.clone(),
            weight: plan.weight,
            trusted: plan.trusted.clone(),
            freeze: plan.freeze.clone(),
            seed: plan.round.seed,
            resources: self.checked.resources,
            keep_updates: self.checked.settings.merge.keep_updates,
        }
    }

    /// The last round that an earlier run told of: the ledger had it before anyone was told.
    async fn last_told(&self) -> Result<Option<RoundNumber>, Failure> {
        Ok(self.ledger.last_round().await?)
    }

    fn desk(
        self,
        federation: Federation,
        staging: Staging,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Desk {
        let offer = self.offer();
        let Checked {
            settings,
            plan,
            authority,
            ..
        } = self.checked;
        let uploads = Uploads {
            directory: self.directory,
            ledger: self.ledger.clone(),
            staging,
            compute: self.compute,
            federation: federation.clone(),
            clock: self.clock,
            offer,
            max_examples: settings.limits.examples,
            max_magnitude: settings.limits.magnitude,
            turns: Turns::default(),
        };
        Desk {
            name: plan.name,
            federation,
            ledger: self.ledger,
            authority,
            uploads,
            clock: self.clock,
            certificate_life: settings.enrolment.certificate_life,
            clock_skew: settings.enrolment.clock_skew,
            max_clients: settings.limits.clients,
            stop,
            tasks,
        }
    }
}

/// Removes what a crash left in staging between the ledger's word and the deed: it would take space for ever.
async fn remove_unknown(staging: &Staging, ledger: &Ledger) -> Result<(), Failure> {
    let known = ledger.uploads().await?;
    let known: BTreeSet<UploadId> = known.into_iter().map(|row| row.id).collect();
    for unknown in staging.uploads() {
        if !known.contains(&unknown)
            && let Err(error) = staging.remove(&unknown)
        {
            tracing::warn!(upload = %unknown, %error, "staged upload not removed");
        }
    }
    Ok(())
}

fn open_model(directory: &ServerDirectory, model: &ModelRef) -> Result<Checkpoint, Failure> {
    let path = directory.model(model.version).join(files::MODEL);
    Checkpoint::open(&path).map_err(|error| {
        let message = format!(
            "model {} ({}) cannot be read",
            model.version,
            ByteSize::new(model.size_bytes)
        );
        Failure::new(ExitCode::BadData, message)
            .with_source(&error)
            .with_hint("restore the file from a backup; its digest is in fedmerge.json beside it")
    })
}

/// The round protocol as the ledger left it, or at its beginning.
async fn restored(
    ledger: &Ledger,
    plan: &FederationPlan,
    base: ModelRef,
) -> Result<Coordinator, Failure> {
    let Some(record) = ledger.record().await? else {
        return Ok(Coordinator::new(plan.round.clone(), base));
    };
    Coordinator::restore(plan.round.clone(), record).map_err(|error| {
        Failure::new(ExitCode::BadData, "the ledger's record of the rounds cannot be used")
            .with_source(&error)
            .with_hint("run the version of fedmerge that wrote it, or restore state/ledger.sqlite from a backup")
    })
}

#[cfg(test)]
mod tests;
