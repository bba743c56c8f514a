//! What encodings lost so far: the residual that this client adds to its next task vector (error feedback).
//!
//! There are at most two files. The round's own residual lies beside its update, durable before the journal knows of the
//! update; when the update counts, it takes the place of the one before by a rename, before the journal forgets the update.
//! So an update that is made again starts from the residual that it started from, and what it said is never added twice.
//! Invariant: a residual is used in the round after its own and in no other. Whoever missed a round begins anew: what it kept
//! back is about a model that has moved on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use fedmerge_common::checkpoint::Checkpoint;
use fedmerge_common::dtype::Dtype;
use fedmerge_common::ids::{ClientId, FederationName, RoundNumber};
use fedmerge_common::schema::Schema;
use fedmerge_common::task_vector::header::{FORMAT_KEY, expected_schema};
use fedmerge_common::update::UpdateHeader;

use crate::settings::{ClientDirectory, Settings};
use crate::trainer::workplace::Workplace;

/// Value of [`FORMAT_KEY`] in a residual.
const FORMAT: &str = "residual/1";
const FEDERATION_KEY: &str = "fedmerge.federation";
const CLIENT_KEY: &str = "fedmerge.client";
const ROUND_KEY: &str = "fedmerge.round";
const UPDATE_KEY: &str = "fedmerge.update";

/// The residual of one directory.
#[derive(Clone, Debug)]
pub struct Residual {
    path: PathBuf,
    federation: FederationName,
    client: ClientId,
}

/// What there is for a round.
#[derive(Debug)]
pub enum Recalled {
    /// Nothing was lost before.
    Nothing,
    /// What was lost, in the shapes of the base.
    Kept(Checkpoint),
    /// Something, and it is of no use any more.
    Dropped(&'static str),
}

impl Residual {
    /// The residual of a client's directory, whether there is one or not.
    #[must_use]
    pub fn of(directory: &ClientDirectory, settings: &Settings) -> Self {
        Self {
            path: directory.residual(),
            federation: settings.federation.clone(),
            client: settings.client.clone(),
        }
    }

    /// Whose it is.
    #[must_use]
    pub fn client(&self) -> &ClientId {
        &self.client
    }

    /// What is to be added to the task vector of a round against `base`.
    #[must_use]
    pub fn recall(&self, round: RoundNumber, base: &Schema) -> Recalled {
        if !self.path.exists() {
            return Recalled::Nothing;
        }
        let Ok(residual) = Checkpoint::open(&self.path) else {
            return Recalled::Dropped("its file cannot be read");
        };
        let says = |key, value: &str| residual.metadata().get(key).is_some_and(|it| it == value);
        let before = round.get().saturating_sub(1).to_string();
        if !says(FORMAT_KEY, FORMAT)
            || !says(FEDERATION_KEY, self.federation.as_str())
            || !says(CLIENT_KEY, self.client.as_str())
        {
            Recalled::Dropped("it is not this client's")
        } else if !says(ROUND_KEY, &before) {
            Recalled::Dropped("no update of the round before counted")
        } else if *residual.schema() != expected_schema(base, Dtype::F32) {
            Recalled::Dropped("the base has other tensors now")
        } else {
            Recalled::Kept(residual)
        }
    }

    /// What is written into the residual of an update.
    #[must_use]
    pub fn metadata(&self, header: &UpdateHeader) -> BTreeMap<String, String> {
        let pairs = [
            (FORMAT_KEY, FORMAT.to_owned()),
            (FEDERATION_KEY, self.federation.to_string()),
            (CLIENT_KEY, self.client.to_string()),
            (ROUND_KEY, header.round.to_string()),
            (UPDATE_KEY, header.payload.to_string()),
        ];
        pairs.map(|(key, value)| (key.to_owned(), value)).into()
    }

    /// Makes the residual of an update that counts the one that the next round starts from; nothing where its encoding loses
    /// nothing, or where that was done before.
    ///
    /// # Errors
    /// The file system's; then the next round begins anew.
    pub fn settle(&self, place: &Workplace, header: &UpdateHeader) -> io::Result<()> {
        let Ok(residual) = Checkpoint::open(&place.residual) else {
            return Ok(());
        };
        let update = residual.metadata().get(UPDATE_KEY);
        if update.is_none_or(|update| *update != header.payload.to_string()) {
            return Ok(());
        }
        fs::rename(&place.residual, &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

#[cfg(test)]
mod tests;
