//! One enrolled client in its directory, from taking the lock to leaving: what `fedmerge client run` and the Python package both are.
//!
//! Whoever holds a [`Member`] is alone in the directory. Nothing is decided here: the directory says who the client is and what it lets
//! out, and the caller how it trains and when it stops.

use fedmerge_common::clock::Clock;
use fedmerge_common::failure::Failure;
use fedmerge_common::lock::DirectoryLock;
use fedmerge_common::output::Output;
use fedmerge_common::units::Millis;

use crate::agent::Stay;
use crate::driver::{Listener, Site, drive_heard};
use crate::enrolment::{Keeper, identity};
use crate::policy::Policy;
use crate::settings::{ClientDirectory, Settings};
use crate::trainer::{Evaluator, Trainer};

/// The part that a client takes: what its directory does not say.
#[derive(Debug)]
pub struct Part {
    /// How a base is fine-tuned.
    pub trainer: Trainer,
    /// How a model is measured, where the site does that.
    pub evaluator: Option<Evaluator>,
    /// When to leave.
    pub stay: Stay,
    /// How long to wait for another process with the same certificate.
    pub identity_wait: Millis,
}

/// A client that may take part.
#[derive(Debug)]
pub struct Member {
    // Fields are dropped in order: the directory is let go of last.
    keeper: Keeper,
    site: Site,
    output: Output,
    lock: DirectoryLock,
}

impl Member {
    /// Reads who the client is and what it lets out, and takes its directory.
    ///
    /// # Errors
    /// When the directory is not enrolled, in use or damaged, or the policy forbids its server.
    pub fn open(directory: &ClientDirectory, part: Part, output: Output) -> Result<Self, Failure> {
        let settings = Settings::read(directory)?;
        let lock = DirectoryLock::take(directory.root(), &directory.lock())?;
        let policy = Policy::read(&directory.policy())?;
        policy.check_server(&settings.server)?;
        let keeper = Keeper::new(directory, &settings, output)?;
        let site = Site {
            directory: directory.clone(),
            settings,
            trainer: part.trainer,
            evaluator: part.evaluator,
            policy,
            stay: part.stay,
            identity_wait: part.identity_wait,
            keeper: None,
        };
        Ok(Self {
            keeper,
            site,
            output,
            lock,
        })
    }

    /// Takes part until the agent leaves, or `stop` asks it to; `listener` hears what a user is told. The directory is free when this
    /// has ended.
    ///
    /// # Errors
    /// What neither waiting nor the next round mends.
    pub async fn take_part(
        self,
        stop: impl Future<Output = ()>,
        listener: Listener,
    ) -> Result<(), Failure> {
        let Self {
            keeper,
            site,
            output,
            lock: _lock,
        } = self;
        tokio::pin!(stop);
        tokio::select! {
            revived = keeper.revive() => revived?,
            () = &mut stop => return Ok(()),
        }
        let tls = identity::load(&site.directory, &site.settings, &Clock::system())?;
        let keeper = Some(keeper);
        Box::pin(drive_heard(
            stop,
            Site { keeper, ..site },
            tls,
            output,
            listener,
        ))
        .await
    }
}
