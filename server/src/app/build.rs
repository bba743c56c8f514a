//! Builds the server: reads its files, opens its ledger, restores the round protocol, binds its port.
//!
//! Each fault is told with the file it is in. Nothing runs yet when this returns.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::sync::Arc;

use fedmerge_common::checkpoint::Checkpoint;
use fedmerge_common::clock::Clock;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::ids::{ModelVersion, RoundNumber, UploadId};
use fedmerge_common::lock::DirectoryLock;
use fedmerge_common::output::Output;
use fedmerge_common::units::ByteSize;
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::{Coordinator, RoundPlan};
use fedmerge_merge::{MergePlan, Resources};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::plan_change::Planned;
use super::{App, CallLimits, Doors, News};
use crate::compute::Compute;
use crate::console::Console;
use crate::directory::ServerDirectory;
use crate::driver::{Driver, Equipment, Federation, MergeTerms, Quarantine, Stay, Workshop};
use crate::enrolment::authority::{Authority, LoadAuthorityError};
use crate::enrolment::keeper::{Keeper, Newest};
use crate::enrolment::site::SiteAuthority;
use crate::files;
use crate::listener::{Connections, Door, ListenLimits, Listener};
use crate::merging;
use crate::notice::Offer;
use crate::plan::{ByRound, FederationPlan};
use crate::privacy::Privacy;
use crate::publish::{import_base, open_base};
use crate::refusals::Refusals;
use crate::rpc::{Desk, LedgerMembers, routes};
use crate::settings::Settings;
use crate::store::ledger::{Ledger, RESTORE};
use crate::store::staging::{Staging, StagingLimits};
use crate::traffic::Traffic;
use crate::uploads::{Turns, Uploads, Yardstick};

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
    plan_text: String,
    /// SHA-256 of the public key of the federation's authority.
    pub authority_pin: [u8; 32],
    /// The largest merge, of a whole cohort's updates: its memory is bounded and known.
    pub merge: MergePlan,
    resources: Resources,
}

/// Reads and checks a server's files; `base` is the plan's, or the newest model's where rounds were held.
fn checked(
    directory: &ServerDirectory,
    settings: Settings,
    threads: usize,
    base: impl FnOnce(&FederationPlan) -> Result<Checkpoint, Failure>,
) -> Result<Checked, Failure> {
    let authority = Authority::load(directory, Clock::system().now())?;
    let (plan, plan_text) = FederationPlan::read_with_text(&directory.plan())?;
    if plan.name != *authority.federation() {
        let message = format!(
            "the plan is for federation `{}`, but the certificates are for `{}`",
            plan.name,
            authority.federation()
        );
        let hint = "a name is for life: set it back in federation.toml, or make a new server with `fedmerge server init`";
        return Err(Failure::new(ExitCode::BadConfiguration, message).with_hint(hint));
    }
    let _readable =
        SiteAuthority::read(directory, &settings.tls).map_err(LoadAuthorityError::Site)?;
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
        plan_text,
        authority_pin: authority.pin(),
        merge,
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
        let settings = Settings::read(&directory)?;
        let most = settings.limits.ledger_bytes;
        let ledger = Ledger::open_within(&directory.ledger(), most).await?;
        ledger.check().await?;
        let newest = ledger.newest_model().await?.map(|stored| stored.model);
        if newest.is_none() {
            refuse_forgotten_models(&directory)?;
        }
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
        let doors = Doors {
            clients: Listener::bind(listen, Door::Clients).await?,
            admins: Listener::bind(&checked.settings.admin.listen, Door::Admins).await?,
        };
        let keeper = Keeper::new(directory.clone(), checked.settings.tls.clone(), clock)?;
        let name = checked.plan.name.clone();
        let base = match newest {
            Some(model) => model,
            None => {
                let authority = Arc::clone(&keeper.authority().borrow());
                let place = (&directory, &ledger);
                import_base(place, &authority, &checked.plan.base, clock.now()).await?
            }
        };
        let rounds = within_budget(&ledger, &checked.plan).await?;
        let (coordinator, reopened) = restored(&ledger, &rounds, base).await?;
        let planned = Planned {
            directory: &directory,
            ledger: &ledger,
            plan: &checked.plan,
            text: &checked.plan_text,
        };
        let (plans, change) = planned.settle(&coordinator.view()).await?;
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
            plans,
            checked,
        };
        let mut app = parts
            .join(coordinator, (doors, keeper, lock), options.stay, output)
            .await?;
        app.news = News { change, reopened };
        Ok(app)
    }
}

/// What the server is put together from.
struct Parts {
    directory: ServerDirectory,
    clock: Clock,
    ledger: Ledger,
    compute: Compute,
    plans: ByRound<FederationPlan>,
    checked: Checked,
}

impl Parts {
    async fn join(
        self,
        coordinator: Coordinator,
        (doors, keeper, lock): (Doors, Keeper, DirectoryLock),
        stay: Stay,
        output: Output,
    ) -> Result<App, Failure> {
        let staging = self.staging()?;
        remove_unknown(&staging, &self.ledger).await?;
        let base = *coordinator.base();
        let console = Console::new(output, self.directory.clone(), self.last_told().await?);
        let traffic = console.traffic();
        let equipment = Equipment {
            coordinator,
            clock: self.clock,
            ledger: self.ledger.clone(),
            workshop: self.workshop(&staging, keeper.authority()),
            offers: self.offers(),
            rollbacks: self.ledger.rollbacks().await?,
            console,
            stay,
            quarantine: Quarantine {
                rejections: self.checked.settings.limits.rejections,
                connections: doors.clients.connections(),
            },
        };
        let (driver, federation) = Driver::new(equipment);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let limits = &self.checked.settings.limits;
        let calls = CallLimits {
            per_second: limits.calls,
            streams: limits.streams,
            header_bytes: u32::try_from(limits.call_header_bytes.get()).unwrap_or(u32::MAX),
        };
        let members = LedgerMembers {
            ledger: self.ledger.clone(),
            clock: self.clock,
            max_clients: limits.clients,
            needs_approval: self.checked.settings.tls.require_approval,
        };
        let limits = ListenLimits {
            connections: limits.connections,
            strangers: limits.strangers,
            of_client: limits.connections_of_client,
            handshakes: limits.handshakes,
        };
        let (directory, ledger) = (self.directory.clone(), self.ledger.clone());
        let federation_name = self.checked.plan.name.clone();
        let ends = (stop.clone(), tasks.clone());
        let identity = (keeper.authority(), doors.clients.connections());
        let desk = self.desk(federation, staging, traffic, identity, ends);
        Ok(App {
            _lock: lock,
            directory,
            ledger,
            doors,
            keeper,
            limits,
            members,
            calls,
            refusals: desk.refusals.clone(),
            routes: routes(desk).await,
            driver,
            federation: federation_name,
            base,
            output,
            news: News::default(),
            stop,
            tasks,
        })
    }

    fn staging(&self) -> Result<Staging, Failure> {
        let path = self.directory.staging();
        let limits = &self.checked.settings.limits;
        let limits = StagingLimits {
            bytes: limits.staged_bytes,
            uploads: limits.uploads,
        };
        Staging::open(path.clone(), limits).map_err(|error| {
            let message = format!("`{}` cannot be made", path.display());
            Failure::new(ExitCode::Unavailable, message).with_source(&error)
        })
    }

    fn offers(&self) -> ByRound<Offer> {
        self.plans.map(|plan| Offer {
            encodings: plan.encodings.clone(),
            density: plan.density,
            max_update: plan.max_update,
            noise: plan.privacy.as_ref().and_then(Privacy::of_clients),
        })
    }

    fn workshop(&self, staging: &Staging, authority: Newest<Authority>) -> Workshop {
        let plan = &self.checked.plan;
        Workshop {
            directory: self.directory.clone(),
            ledger: self.ledger.clone(),
            staging: staging.clone(),
            compute: self.compute.clone(),
            clock: self.clock,
            federation: plan.name.clone(),
            authority,
            keep: plan.keep,
            terms: self.plans.map(MergeTerms::of),
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
        traffic: Traffic,
        (authority, connections): (Newest<Authority>, Connections),
        (stop, tasks): (CancellationToken, TaskTracker),
    ) -> Desk {
        let offers = self.offers();
        let Checked { settings, plan, .. } = self.checked;
        let uploads = Uploads {
            directory: self.directory,
            ledger: self.ledger.clone(),
            staging,
            compute: self.compute,
            federation: federation.clone(),
            clock: self.clock,
            offers,
            max_examples: settings.limits.examples,
            header: settings.limits.header(),
            max_magnitude: settings.limits.magnitude,
            max_length: settings.limits.length,
            max_replaced: settings.limits.replaced,
            yardstick: Yardstick::default(),
            turns: Turns::default(),
        };
        Desk {
            name: plan.name,
            federation,
            ledger: self.ledger,
            authority,
            uploads,
            clock: self.clock,
            selector: plan.selector,
            enrolment: settings.enrolment,
            connections,
            max_clients: settings.limits.clients,
            max_downloads: settings.limits.downloads,
            message_bytes: settings.limits.message_bytes,
            refusals: Refusals::default(),
            traffic,
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

/// A ledger that was emptied or lost must not begin the federation anew over its models.
fn refuse_forgotten_models(directory: &ServerDirectory) -> Result<(), Failure> {
    let entries = std::fs::read_dir(directory.models()).into_iter().flatten();
    let versions = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    // The base is there before the ledger has it, where a first start broke off.
    let Some(newest) = versions.filter(|version| *version > 0).max() else {
        return Ok(());
    };
    let message = format!(
        "the ledger {} is empty, but `{}` is there",
        directory.ledger().display(),
        directory.model(ModelVersion::new(newest)).display()
    );
    Err(Failure::new(ExitCode::BadData, message).with_hint(RESTORE))
}

/// The plan's rounds, with as many as its privacy budget allows beside those that were held.
async fn within_budget(ledger: &Ledger, plan: &FederationPlan) -> Result<RoundPlan, Failure> {
    let Some(privacy) = &plan.privacy else {
        return Ok(plan.round.clone());
    };
    let held = ledger.last_round().await?.map_or(0, RoundNumber::get);
    let spent = ledger
        .privacy_spent_before(RoundNumber::new(held).next())
        .await?;
    Ok(RoundPlan {
        private_rounds: Some(held.saturating_add(privacy.merges_left(spent))),
        ..plan.round.clone()
    })
}

/// The round protocol as the ledger left it, or at its beginning; and whether the plan's count lets it go on after its end.
pub(crate) async fn restored(
    ledger: &Ledger,
    plan: &RoundPlan,
    base: ModelRef,
) -> Result<(Coordinator, bool), Failure> {
    let Some(record) = ledger.record().await? else {
        return Ok((Coordinator::new(plan.clone(), base), false));
    };
    let had_ended = record.ended().is_some();
    let coordinator = Coordinator::restore(plan.clone(), record).map_err(|error| {
        let message = "the ledger's record of the rounds cannot be used";
        Failure::new(ExitCode::BadData, message)
            .with_source(&error)
            .with_hint(format_args!(
                "run the version of fedmerge that wrote it, or {RESTORE}"
            ))
    })?;
    let reopened = had_ended && coordinator.ended().is_none();
    Ok((coordinator, reopened))
}

#[cfg(test)]
mod tests;
