//! Noise in a merge, between the engine and the model that it writes, and what is left of its report.
//!
//! Invariant: nothing that saw updates without noise leaves the merge: no lengths, no cosines, no factors of a clip.

use fedmerge_merge::{BlockError, BlockSink, ClientReport, MergeReport};

use super::MergeJob;
use super::updates::Ordered;
use crate::privacy::{Clip, Noise, NoiseBy, Privacy, PrivacyStory};

/// What one merge draws.
#[derive(Debug)]
pub(super) struct Noises {
    noise: Noise,
    /// Standard deviation of what is added to each value of the model.
    deviation: f64,
    count: f64,
    story: PrivacyStory,
}

impl Noises {
    /// The noise of a merge whose server adds it. `limit` is where an adaptive clip has come to.
    pub(super) fn of(job: &MergeJob, ordered: &[Ordered], limit: Option<f64>) -> Option<Self> {
        let private = job.privacy.as_ref()?;
        let promise = &private.promise;
        if promise.by != NoiseBy::Server {
            return None;
        }
        let noise = private.key.noise(&words(job, ordered));
        let clip = match promise.clip {
            Clip::Fixed(length) => length,
            Clip::Adaptive { start } => limit.unwrap_or(start),
        };
        let (sum, count) = promise.multipliers(ordered.len());
        #[expect(
            clippy::cast_precision_loss,
            reason = "there are fewer than 2^52 clients"
        )]
        let clients = ordered.len() as f64;
        Some(Self {
            noise,
            deviation: job.recipe.lambda.abs() * sum * clip / clients,
            count: noise.one(count),
            story: story(promise, clip, private.spent),
        })
    }

    /// What is added to the count of an adaptive clip.
    pub(super) fn of_the_count(&self) -> f64 {
        self.count
    }

    /// What the merge says of it.
    pub(super) fn story(&self) -> PrivacyStory {
        self.story
    }

    /// The model's sink with noise before it.
    pub(super) fn before<'a>(&'a self, sink: &'a dyn BlockSink) -> Noisy<'a> {
        Noisy { noises: self, sink }
    }
}

/// A sink that adds noise to what it is given, before it is rounded.
pub(super) struct Noisy<'a> {
    noises: &'a Noises,
    sink: &'a dyn BlockSink,
}

impl BlockSink for Noisy<'_> {
    fn write(&self, tensor: usize, offset: usize, values: &[f64]) -> Result<(), BlockError> {
        let mut noisy = values.to_vec();
        let Noises {
            noise, deviation, ..
        } = self.noises;
        noise.add(tensor, offset, *deviation, &mut noisy);
        self.sink.write(tensor, offset, &noisy)
    }
}

/// What tells a merge from all others: the same updates of the same round draw the same noise, and nothing else does.
fn words(job: &MergeJob, ordered: &[Ordered]) -> Vec<u8> {
    let mut words = job.round.get().to_le_bytes().to_vec();
    words.extend(job.base.digest.as_bytes());
    for Ordered { client, counted } in ordered {
        words.extend(counted.update.payload.as_bytes());
        words.extend(client.as_str().len().to_le_bytes());
        words.extend(client.as_str().as_bytes());
    }
    words
}

/// What a merge says whose clients have added the noise themselves.
pub(super) fn by_clients(job: &MergeJob) -> Option<PrivacyStory> {
    let private = job.privacy.as_ref()?;
    let clip = match private.promise.clip {
        Clip::Fixed(length) => length,
        Clip::Adaptive { start } => start,
    };
    Some(story(&private.promise, clip, private.spent))
}

fn story(promise: &Privacy, clip: f64, spent: f64) -> PrivacyStory {
    let spent = spent + promise.cost();
    PrivacyStory {
        clip,
        noise: promise.noise,
        by: promise.by,
        epsilon: promise.epsilon_of(spent),
        delta: promise.delta,
        spent,
    }
}

/// A report without what was seen of the clients.
pub(super) fn without_secrets(report: MergeReport) -> MergeReport {
    let clients = report.clients.iter().map(|client| ClientReport {
        norm: None,
        clip_factor: 1.0,
        ..*client
    });
    // The weights of a clipped mean are the clip's factors again: all count the same, to whoever reads this.
    #[expect(
        clippy::cast_precision_loss,
        reason = "there are fewer than 2^52 clients"
    )]
    let share = 1.0 / report.clients.len() as f64;
    let clients = clients.map(|client| ClientReport {
        weight: share,
        weight_share: share,
        ..client
    });
    MergeReport {
        clients: clients.collect(),
        step_norm: 0.0,
        diagnostics: None,
        ..report
    }
}
