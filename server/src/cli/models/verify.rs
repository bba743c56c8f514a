//! `fedmerge server models verify`: whether a model is what the server signed, and whether its updates make it again.
//!
//! Nothing of the server is asked or changed: files and ledger are read, and the merge is repeated beside them.

use std::collections::BTreeMap;
use std::fs;

use clap::Args;
use fedmerge_common::clock::Clock;
use fedmerge_common::digest::Digest;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::ids::{ClientId, ModelVersion};
use fedmerge_common::output::Output;
use fedmerge_common::proof::{self, CheckModelError, SignedModel, VerifyProofError};
use fedmerge_common::units::ByteSize;
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::{Counted, UpdateRef};
use fedmerge_merge::Resources;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::kept;
use crate::cli::DirectoryArguments;
use crate::compute::Compute;
use crate::directory::ServerDirectory;
use crate::enrolment::authority::Authority;
use crate::files;
use crate::merging::manifest::{self, Manifest, MergeStory, MergedUpdate};
use crate::merging::{self, MergeJob, PrivateJob};
use crate::plan::FederationPlan;
use crate::privacy::NoiseKey;
use crate::settings::Settings;
use crate::store::ledger::{Ledger, StoredModel};

/// What `server models verify` takes.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// The version, from 0
    #[arg(value_name = "VERSION")]
    pub model: u64,
    /// Merge the updates again, and compare every byte
    #[arg(long)]
    pub recompute: bool,
    /// Where the server is.
    #[command(flatten)]
    pub directory: DirectoryArguments,
}

pub(super) async fn run(arguments: &VerifyArguments, output: &Output) -> Result<(), Failure> {
    let directory = arguments.directory.directory()?;
    let ledger = arguments.directory.ledger().await?;
    let stored = kept(&ledger, ModelVersion::new(arguments.model)).await?;
    let signed = signed(&directory, &stored)?;
    output.line(format_args!(
        "model {} is what the server of {} signed: {} files, {}",
        stored.model.version,
        signed.federation,
        signed.resources.len(),
        stored.model.digest
    ));
    let updates = if arguments.recompute {
        Some(recompute(&directory, &ledger, &stored).await?)
    } else {
        None
    };
    if let Some(updates) = updates {
        output.line(format_args!(
            "merged again from {updates} updates: the same {}, byte for byte",
            ByteSize::new(stored.model.size_bytes)
        ));
    }
    output.json(&serde_json::json!({
        "event": "verified",
        "model": stored.model.version,
        "digest": stored.model.digest,
        "files": signed.resources.len(),
        "recomputed_from": updates,
    }));
    ledger.close().await;
    Ok(())
}

/// What the server signed of a model, when the files and the ledger say the same.
fn signed(directory: &ServerDirectory, stored: &StoredModel) -> Result<SignedModel, Failure> {
    let model = directory.model(stored.model.version);
    let authority = Authority::load(directory, Clock::system().now())?;
    let checked = match proof::check(&model, authority.certificate()) {
        Err(CheckModelError::Proof {
            path,
            source: VerifyProofError::Chain,
        }) => match old_authority(directory) {
            // Models stay what they are when the authority is rotated.
            Some(old) => proof::check(&model, &old),
            None => Err(CheckModelError::Proof {
                path,
                source: VerifyProofError::Chain,
            }),
        },
        checked => checked,
    };
    let signed = checked.map_err(|error| unproven(stored.model.version, &error))?;
    let expected = authority.name_of(stored.model.version);
    let tensors = signed
        .resources
        .iter()
        .find(|file| file.name == files::MODEL);
    if signed.name != expected || tensors.is_none_or(|file| file.digest != stored.model.digest) {
        let message = format!(
            "model {} is signed as `{}`, and not with the digest that the ledger has",
            stored.model.version, signed.name
        );
        return Err(Failure::new(ExitCode::BadData, message)
            .with_hint("restore the model's directory from a backup"));
    }
    Ok(signed)
}

fn unproven(version: ModelVersion, error: &CheckModelError) -> Failure {
    let message = format!("model {version} is not what the server signed");
    let failure = Failure::new(ExitCode::BadData, message).with_source(error);
    if let CheckModelError::Unsigned { .. } = error {
        return failure.with_hint("models from before there were proofs have none");
    }
    failure.with_hint("restore the model's directory from a backup")
}

fn old_authority(directory: &ServerDirectory) -> Option<CertificateDer<'static>> {
    let pem = fs::read(directory.old_authority_certificate()).ok()?;
    CertificateDer::from_pem_slice(&pem).ok()
}

/// Merges a model's updates again, and answers how many there are.
async fn recompute(
    directory: &ServerDirectory,
    ledger: &Ledger,
    stored: &StoredModel,
) -> Result<usize, Failure> {
    let (origin, story) = story(directory, stored)?;
    let mut job = job(directory, ledger, origin, &story).await?;
    let updates = job.updates.len();
    let version = stored.model.version;
    // No round's: a running server leaves it alone.
    let place = directory.candidates().join(format!("{version}.recomputed"));
    let compute = Compute::start(job.resources.threads)?;
    job.resources.threads = compute.threads();
    let merged = compute.run(move |cancelled| {
        let merged = merging::merge_to(&job, &place, cancelled);
        let _left = fs::remove_dir_all(&place);
        merged.map(|merged| merged.candidate.digest)
    });
    let merged = merged
        .await
        .map_err(|error| Failure::new(ExitCode::Bug, "the merge broke off").with_source(&error))?;
    let merged = merged.map_err(|error| {
        Failure::new(ExitCode::BadData, "the updates cannot be merged again")
            .with_source(&error)
            .with_hint("`keep_updates` of [merge] in server.toml says for how many rounds updates are kept")
    })?;
    if merged == stored.model.digest {
        return Ok(updates);
    }
    let message = format!(
        "model {version} is {}, but its updates make {merged}",
        stored.model.digest
    );
    Err(Failure::new(ExitCode::BadData, message).with_hint(
        "the model, its base, an update or the plan was changed since; each has its digest in fedmerge.json",
    ))
}

/// The merge that made a model's content, and the first version that had it.
fn story(
    directory: &ServerDirectory,
    stored: &StoredModel,
) -> Result<(ModelVersion, MergeStory), Failure> {
    let path = directory.model(stored.model.version);
    let manifest = manifest::read::<Manifest>(&path).map_err(|error| {
        let message = format!("`{}` cannot be read", path.join(files::MANIFEST).display());
        Failure::new(ExitCode::BadData, message).with_source(&error)
    })?;
    let origin = manifest.as_ref().map(Manifest::origin);
    match (origin, manifest.and_then(|manifest| manifest.merge)) {
        (Some(origin), Some(story)) => Ok((origin, story)),
        _ => {
            let message = format!(
                "model {} was not merged: the federation began with it",
                stored.model.version
            );
            Err(Failure::new(ExitCode::Usage, message).with_hint("leave out --recompute"))
        }
    }
}

async fn job(
    directory: &ServerDirectory,
    ledger: &Ledger,
    origin: ModelVersion,
    story: &MergeStory,
) -> Result<MergeJob, Failure> {
    let settings = Settings::read(directory)?.merge;
    let row = ledger.plan_of(story.round).await?;
    let plan = match row {
        Some(row) => FederationPlan::parse(&row.text, &directory.plan())?,
        None => FederationPlan::read(&directory.plan())?,
    };
    let base = base(ledger, origin, &story.parent).await?;
    let updates = story.updates.iter().map(|update| {
        unchanged(directory, story, update)?;
        let counted = Counted {
            update: UpdateRef {
                payload: update.digest,
                num_examples: update.num_examples,
                // No merge asks for it.
                bytes: 0,
            },
            round: update.task_round.unwrap_or(story.round),
            staleness: update.staleness,
        };
        Ok((update.client.clone(), counted))
    });
    let updates: BTreeMap<ClientId, Counted> = updates.collect::<Result<_, Failure>>()?;
    Ok(MergeJob {
        directory: directory.clone(),
        federation: plan.name.clone(),
        round: story.round,
        base,
        updates,
        recipe: plan.recipe.clone(),
        weight: plan.weight,
        max_weight: plan.max_weight,
        privacy: private(directory, ledger, &plan, story).await?,
        trusted: plan.trusted.clone(),
        freeze: plan.freeze.clone(),
        seed: plan.round.seed,
        resources: Resources {
            threads: settings.threads,
            memory_bytes: settings.memory.get(),
        },
        keep_updates: settings.keep_updates,
    })
}

/// The model that the updates started from: the version before, if it has the digest that the merge says.
async fn base(ledger: &Ledger, origin: ModelVersion, parent: &Digest) -> Result<ModelRef, Failure> {
    let before = ModelVersion::new(origin.get().saturating_sub(1));
    let base = kept(ledger, before).await?;
    if base.model.digest == *parent {
        return Ok(base.model);
    }
    let message = format!("model {before} is not the one that {parent} is the digest of");
    Err(Failure::new(ExitCode::BadData, message)
        .with_hint("restore the server's directory from a backup"))
}

/// The promise that the merge kept, with the secret of its noise.
async fn private(
    directory: &ServerDirectory,
    ledger: &Ledger,
    plan: &FederationPlan,
    story: &MergeStory,
) -> Result<Option<PrivateJob>, Failure> {
    let Some(promise) = plan.privacy else {
        return Ok(None);
    };
    let path = directory.noise_key();
    if !path.exists() {
        let message = format!(
            "{} is gone, and with it what the noise was drawn from",
            path.display()
        );
        return Err(Failure::new(ExitCode::BadData, message)
            .with_hint("restore it from a backup: without it no private merge can be repeated"));
    }
    let key = NoiseKey::of(&path).map_err(|error| {
        let message = format!("{} cannot be read", path.display());
        Failure::new(ExitCode::Unavailable, message).with_source(&error)
    })?;
    Ok(Some(PrivateJob {
        promise,
        key,
        spent: ledger.privacy_spent_before(story.round).await?,
    }))
}

/// Whether an update is still what was merged. A robust rule may make the same of another one.
fn unchanged(
    directory: &ServerDirectory,
    story: &MergeStory,
    update: &MergedUpdate,
) -> Result<(), Failure> {
    let MergedUpdate { client, digest, .. } = update;
    let round = update.task_round.unwrap_or(story.round);
    let path = files::update(directory, round, client, digest);
    let found = Digest::of_file(&path).map_err(|error| {
        let message = format!("the update of {client} for round {round} cannot be read");
        Failure::new(ExitCode::BadData, message)
            .with_source(&error)
            .with_hint("`keep_updates` of [merge] in server.toml says for how many rounds updates are kept")
    })?;
    if found == *digest {
        return Ok(());
    }
    let message =
        format!("the update of {client} for round {round} has {found}, merged was {digest}");
    Err(Failure::new(ExitCode::BadData, message)
        .with_hint("restore the server's directory from a backup"))
}
