//! Uploads, from the announcement to the decision: what bytes are wanted, where they are, and when intake sees them.
//!
//! Invariants: bytes are taken only from a client that the collecting round waits for, and only when nothing in the header
//! speaks against them; what need not be looked at is decided without a byte. A client has one upload and one commit at a time,
//! so what it can leave here is bounded.
//! Announced again, after any loss, the same update is the same upload.

mod turns;
mod yardstick;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use fedmerge_common::checkpoint::{Checkpoint, HeaderLimits, ReadCheckpointError};
use fedmerge_common::clock::Clock;
use fedmerge_common::failure::explain;
use fedmerge_common::ids::{ClientId, RoundNumber, UploadId};
use fedmerge_common::reason::Rejection;
use fedmerge_common::task_vector::encoding::Sparsity;
use fedmerge_common::update::{ModelRef, UpdateHeader};
use fedmerge_coordinator::UpdateRef;
use fedmerge_proto::convert::transfer::UpdateOutcome;
use fedmerge_proto::status::{Refusal, RefusalReason};

use crate::compute::{self, Compute};
use crate::directory::ServerDirectory;
use crate::driver::Federation;
use crate::files;
use crate::intake::{self, IntakeError, LengthLimit, Terms};
use crate::notice::Offer;
use crate::plan::ByRound;
use crate::store::ledger::{Ledger, UploadRow};
use crate::store::staging::{Staging, StagingWriter, upload_id};

pub use turns::{Turn, Turns};
pub use yardstick::Yardstick;

/// Takes updates in.
#[derive(Debug)]
pub struct Uploads {
    /// Where everything is.
    pub directory: ServerDirectory,
    /// The ledger.
    pub ledger: Ledger,
    /// Incomplete uploads.
    pub staging: Staging,
    /// The pool.
    pub compute: Compute,
    /// The running federation.
    pub federation: Federation,
    /// The server's clock.
    pub clock: Clock,
    /// What the plan allows in an update.
    pub offers: ByRound<Offer>,
    /// Most training examples that an update may claim.
    pub max_examples: u64,
    /// What is accepted of an update's header.
    pub header: HeaderLimits,
    /// Largest magnitude of a value.
    pub max_magnitude: f32,
    /// How many times as long as the median of the last merge an update may be.
    pub max_length: f64,
    /// Largest share of the base's weights that an update may replace.
    pub max_replaced: f64,
    /// How long updates are.
    pub yardstick: Yardstick,
    /// Whose commit is under way.
    pub turns: Turns,
}

/// An upload that has begun, or goes on.
#[derive(Debug)]
pub struct Begun {
    /// Its name.
    pub id: UploadId,
    /// Bytes that need not be sent.
    pub durable_bytes: u64,
}

/// How a client stands in a round. The view that this is read from may be older than the coordinator's state, never newer.
enum Standing {
    /// Its update is waited for, and starts from this base.
    Awaited(ModelRef),
    /// Its part is decided, or the round collects no longer.
    Decided,
    /// The round collects, but not from it.
    NotInvited,
    /// The round has not begun.
    Ahead,
}

/// What is known of an update before the coordinator decides about it.
struct Judgement {
    verdict: Result<UpdateRef, Rejection>,
    /// Where intake found it sound: this commit's to remove if it does not count. An update that counts may have the same
    /// payload, so nothing else is.
    placed: Option<PathBuf>,
}

impl From<Result<UpdateRef, Rejection>> for Judgement {
    /// A judgement that needed no look at the bytes.
    fn from(verdict: Result<UpdateRef, Rejection>) -> Self {
        Self {
            verdict,
            placed: None,
        }
    }
}

/// Why intake could not look at an update: this server's fault.
#[derive(Debug, thiserror::Error)]
enum ExamineError {
    #[error("the round's base cannot be read")]
    Base(#[source] ReadCheckpointError),
    #[error(transparent)]
    Intake(#[from] IntakeError),
    #[error("`{}` cannot be put in place", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Uploads {
    /// Takes an announcement and says where to go on.
    ///
    /// # Errors
    /// When the ledger or the disk fails.
    pub async fn begin(&self, client: &ClientId, header: UpdateHeader) -> Result<Begun, Refusal> {
        let id = upload_id(client, &header);
        let round = header.round;
        let durable_bytes = self.held_bytes(client, &id, &header)?;
        let row = UploadRow {
            id: id.clone(),
            client: client.clone(),
            header,
            begun: self.clock.now(),
        };
        let replaced = self.ledger.begin_upload(&row).await?;
        self.remove_staged(replaced).await?;
        self.federation.note_progress(client, round);
        Ok(Begun { id, durable_bytes })
    }

    /// The upload of that name, to append to.
    ///
    /// # Errors
    /// When there is none of this client, its bytes are not wanted, or another stream appends to it.
    pub async fn writer(
        &self,
        client: &ClientId,
        id: &UploadId,
    ) -> Result<(StagingWriter, UpdateHeader), Refusal> {
        let header = self.find(client, id).await?;
        if !self.wants_bytes(client, &header) {
            return Err(unknown(id));
        }
        let writer = self.staging.writer(id, header.payload_bytes).await?;
        Ok((writer, header))
    }

    /// Waits for a client's turn to commit: no other commit of it is under way.
    pub async fn turn(&self, client: &ClientId) -> Turn {
        self.turns.take(client).await
    }

    /// Submits a complete upload and answers with its fate. Whoever asked may go away, but this must run to its end.
    ///
    /// # Errors
    /// When it is not complete, or this server fails.
    pub async fn commit(&self, turn: &Turn, id: &UploadId) -> Result<UpdateOutcome, Refusal> {
        let client = &turn.client;
        let header = self.find(client, id).await?;
        let Judgement { verdict, placed } = self.judge(client, id, &header).await?;
        let outcome = self
            .federation
            .decide(client.clone(), header.round, verdict)
            .await?;
        self.remove_staged(vec![id.clone()]).await?;
        if let Some(stray) = placed.filter(|_| outcome.is_err()) {
            // What stays is removed when the round is cleaned up.
            let _left = compute::blocking(move || std::fs::remove_file(stray)).await;
        }
        Ok(outcome)
    }

    /// Files of gigabytes take their time to go.
    async fn remove_staged(&self, uploads: Vec<UploadId>) -> Result<(), Refusal> {
        let staging = self.staging.clone();
        let removed =
            compute::blocking(move || uploads.iter().try_for_each(|id| staging.remove(id)));
        removed.await.map_err(|error| unstored(&error))
    }

    async fn find(&self, client: &ClientId, id: &UploadId) -> Result<UpdateHeader, Refusal> {
        let row = self.ledger.upload(id).await?;
        let own = row.filter(|row| row.client == *client);
        own.map(|row| row.header).ok_or_else(|| unknown(id))
    }

    /// How a client stands in the round that its update is for.
    fn standing(&self, client: &ClientId, round: RoundNumber) -> Standing {
        let view = self.federation.now();
        if let Some(origin) = view.origins.get(client)
            && origin.round == round
        {
            return Standing::Awaited(origin.base);
        }
        match view.round {
            Some(newest) if round < newest => Standing::Decided,
            Some(newest) if round == newest && view.phase == "collecting" => {
                match view.clients.get(client) {
                    Some(None) => Standing::Awaited(view.base),
                    Some(Some(_)) => Standing::Decided,
                    None => Standing::NotInvited,
                }
            }
            Some(newest) if round == newest => Standing::Decided,
            Some(_) | None => Standing::Ahead,
        }
    }

    fn terms(&self, client: &ClientId, round: RoundNumber, base: &ModelRef) -> Terms {
        let offer = self.offers.of(round);
        Terms {
            base: base.digest,
            encodings: offer.encodings.clone(),
            sparsity: Sparsity::of_update(offer.density, &base.digest, round, client),
            max_update: offer.max_update,
            max_examples: self.max_examples,
            header: self.header,
            max_magnitude: self.max_magnitude,
            // What only the bytes can tell is asked when they are there.
            length: None,
            max_replaced: self.max_replaced,
        }
    }

    fn place(&self, client: &ClientId, header: &UpdateHeader) -> PathBuf {
        files::update(&self.directory, header.round, client, &header.payload)
    }

    fn wants_bytes(&self, client: &ClientId, header: &UpdateHeader) -> bool {
        let Standing::Awaited(base) = self.standing(client, header.round) else {
            return false;
        };
        intake::prejudge(header, &self.terms(client, header.round, &base)).is_ok()
            && !self.place(client, header).exists()
    }

    /// Bytes that need not be sent: those that are there, or all, where none are wanted.
    fn held_bytes(
        &self,
        client: &ClientId,
        id: &UploadId,
        header: &UpdateHeader,
    ) -> Result<u64, Refusal> {
        if !self.wants_bytes(client, header) {
            return Ok(header.payload_bytes);
        }
        self.staging
            .durable_bytes(id)
            .map_err(|error| unstored(&error))
    }

    async fn judge(
        &self,
        client: &ClientId,
        id: &UploadId,
        header: &UpdateHeader,
    ) -> Result<Judgement, Refusal> {
        let base = match self.standing(client, header.round) {
            Standing::Awaited(base) => base,
            // What is decided is never taken back: the coordinator repeats its answer, or says that it is too late.
            Standing::Decided => return Ok(Ok(update_ref(header)).into()),
            Standing::NotInvited => return Ok(Err(Rejection::not_invited(header.round)).into()),
            Standing::Ahead => return Ok(Err(Rejection::round_closed(header.round)).into()),
        };
        let terms = self.terms(client, header.round, &base);
        if let Err(rejection) = intake::prejudge(header, &terms) {
            return Ok(Err(rejection).into());
        }
        self.examine(client, id, header, &base, terms).await
    }

    async fn examine(
        &self,
        client: &ClientId,
        id: &UploadId,
        header: &UpdateHeader,
        base: &ModelRef,
        terms: Terms,
    ) -> Result<Judgement, Refusal> {
        let (staged, place) = (self.staging.path(id), self.place(client, header));
        if !place.exists() {
            let held = self.staging.durable_bytes(id);
            let held = held.map_err(|error| unstored(&error))?;
            if held != header.payload_bytes {
                let words = format!("{held} of {} bytes are there", header.payload_bytes);
                return Err(Refusal::new(RefusalReason::WrongOffset, words));
            }
        }
        let typical = self.yardstick.typical(&self.ledger, base).await?;
        let terms = Terms {
            length: typical.map(|typical| LengthLimit {
                typical,
                factor: self.max_length,
            }),
            ..terms
        };
        let base = self.directory.model(base.version).join(files::MODEL);
        let known = self.staging.digest(id);
        let header = header.clone();
        let examined = self.compute.run(move |cancelled| {
            let base = Checkpoint::open(&base).map_err(ExamineError::Base)?;
            let (path, known) = if place.exists() {
                (&place, None)
            } else {
                (&staged, known)
            };
            let verdict = intake::validate(path, &header, known, &base, &terms, cancelled)?;
            if verdict.is_ok() && *path == staged {
                put_in_place(&staged, &place)?;
            }
            Ok::<_, ExamineError>(match verdict {
                Ok(valid) => Judgement {
                    verdict: Ok(valid.update()),
                    placed: Some(place),
                },
                Err(rejection) => Err(rejection).into(),
            })
        });
        match examined.await {
            Ok(Ok(judgement)) => Ok(judgement),
            // Room may come, and the update is complete: it is worth another try.
            Ok(Err(ExamineError::File { source, .. })) => Err(unstored(&source)),
            Ok(Err(error)) => Err(failed(&error)),
            Err(error) => Err(failed(&error)),
        }
    }
}

fn update_ref(header: &UpdateHeader) -> UpdateRef {
    UpdateRef {
        payload: header.payload,
        num_examples: header.num_examples,
        bytes: header.payload_bytes,
    }
}

fn put_in_place(staged: &Path, place: &Path) -> Result<(), ExamineError> {
    let failed = |source| ExamineError::File {
        path: place.to_owned(),
        source,
    };
    if let Some(directory) = place.parent() {
        files::make_directory(directory).map_err(failed)?;
    }
    // Nobody is made to wait for an acknowledgement before the commit, so the last bytes may not be durable.
    File::open(staged)
        .and_then(|file| file.sync_all())
        .map_err(failed)?;
    files::rename(staged, place).map_err(failed)
}

fn unknown(id: &UploadId) -> Refusal {
    let words = format!("there is no upload {id} to go on with: begin again");
    Refusal::new(RefusalReason::UploadUnknown, words)
}

fn unstored(error: &io::Error) -> Refusal {
    if matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    ) {
        return Refusal::new(
            RefusalReason::StorageFull,
            "the server's disk is full: try again later",
        );
    }
    failed(error)
}

/// The server's own fault: the log says more than the client needs to know.
fn failed(error: &dyn std::error::Error) -> Refusal {
    tracing::error!(error = %explain(error), "an update could not be examined");
    Refusal::new(
        RefusalReason::Internal,
        "the server could not examine the update",
    )
}

#[cfg(test)]
mod tests;
