//! `[privacy]`: what the plan promises, and whether its merge can keep that.
//!
//! Noise of the server's hides a client only where one client can move the result no further than the noise is made for: in the plain
//! mean of clipped updates, and in one step of centered clipping around the step before. Everything else has no bound that such noise
//! could be measured by, and is refused instead of being given an ε that means nothing.

use fedmerge_common::task_vector::Encoding;
use fedmerge_merge::{Before, ClipNorm, Method, Recipe, Scope};
use toml::Spanned;

use super::choice::Choice;
use super::document::Document;
use super::file::{PlanFile, PrivacyTable, PrivateClip};
use super::{ReadPlanError, Weight, encodings, merge};
use crate::privacy::{Clip, NoiseBy, Privacy};

const DEFAULT_DELTA: f64 = 1e-5;
/// Andrew et al. begin here.
const DEFAULT_START: f64 = 0.1;

const AUTHORS: Choice<NoiseBy> = Choice {
    what: "author of noise",
    known: &[("server", NoiseBy::Server), ("clients", NoiseBy::Clients)],
    planned: &[],
};

/// What the plan promises; nothing without the table.
pub(super) fn privacy(
    file: &PlanFile,
    recipe: &Recipe,
    document: &Document,
) -> Result<Option<Privacy>, ReadPlanError> {
    let Some(spanned) = &file.privacy else {
        return Ok(None);
    };
    let table = Table {
        table: spanned.get_ref(),
        whole: spanned,
        document,
    };
    let by = AUTHORS.choose_or(NoiseBy::Server, spanned.get_ref().by.as_ref(), document)?;
    if file.evaluate.is_some() {
        return Err(table.refusal(
            "privacy",
            "cannot stand beside [evaluate]: what clients' own data say of a candidate decides what is published, and no ε counts that",
        ));
    }
    let radius = match by {
        NoiseBy::Server => check_server(file, recipe, &table)?,
        NoiseBy::Clients => {
            let sent = encodings(&file.update, document)?;
            if sent != [Encoding::F32] {
                return Err(table.refusal(
                    "by",
                    "is \"clients\", whose noise must arrive as it was drawn: write encodings = [\"f32\"] in [update]",
                ));
            }
            None
        }
    };
    let privacy = Privacy {
        clip: table.clip(by, radius)?,
        noise: table.positive(
            "noise",
            table.table.noise.as_ref(),
            "noise = 1.0, in multiples of the clip",
        )?,
        by,
        epsilon: table.positive(
            "epsilon",
            table.table.epsilon.as_ref(),
            "epsilon = 8.0, the budget",
        )?,
        delta: table.delta()?,
    };
    if privacy.merges_left(0.0) == 0 {
        return Err(ReadPlanError::Budget {
            place: document.place(spanned.span()),
            cost: privacy.epsilon_of(privacy.cost()),
            budget: privacy.epsilon,
            noise: crate::privacy::accountant::gaussian_sigma(privacy.epsilon, privacy.delta),
        });
    }
    Ok(Some(privacy))
}

/// The recipe with the clip that the promise needs.
pub(super) fn bound(recipe: &mut Recipe, privacy: &Privacy) {
    if privacy.by == NoiseBy::Clients || recipe.method != Method::Mean {
        return;
    }
    let norm = match privacy.clip {
        Clip::Fixed(length) => ClipNorm::Fixed(length),
        Clip::Adaptive { start } => ClipNorm::Adaptive { start: Some(start) },
    };
    recipe.before = vec![Before::Clip { norm }];
}

/// Refuses a merge in which one client's pull has no bound that noise could hide; the bound, where the method has one of its own.
fn check_server(
    file: &PlanFile,
    recipe: &Recipe,
    table: &Table<'_>,
) -> Result<Option<f64>, ReadPlanError> {
    let refuse = |fault| Err(table.refusal("privacy", fault));
    let radius = if let Method::CenteredClipping { radius, iterations } = recipe.method {
        if iterations != 1 {
            return refuse(
                "needs iterations = 1 of centered-clipping: each further step sees every update again",
            );
        }
        if recipe.scope != Scope::Model {
            return refuse(
                "needs scope = \"model\" of centered-clipping: with a radius for each tensor one client can change more than the radius",
            );
        }
        Some(radius)
    } else if recipe.method == Method::Mean {
        None
    } else {
        return refuse(
            "with noise of the server's needs method = \"mean\" or \"centered-clipping\": no other bounds what one client can change, so no noise hides it. With by = \"clients\" every method will do",
        );
    };
    if !recipe.before.is_empty() {
        return refuse(
            "clips by itself: remove `before` from [merge], which mixes or measures what the noise would have to hide",
        );
    }
    if recipe.sparsify.is_some() || recipe.optimizer.is_some() {
        return refuse(
            "needs a merge without `sparsify` and `optimizer`: what they remember or drop has seen updates without noise",
        );
    }
    if merge::weight(&file.merge, table.document)? != Weight::Uniform {
        return refuse(
            "needs weight = \"uniform\" in [merge]: a client's number of examples is its own to claim",
        );
    }
    Ok(radius)
}

/// The table, and where it is.
struct Table<'a> {
    table: &'a PrivacyTable,
    whole: &'a Spanned<PrivacyTable>,
    document: &'a Document,
}

impl Table<'_> {
    fn refusal(&self, key: &'static str, fault: &'static str) -> ReadPlanError {
        ReadPlanError::Value {
            place: self.document.place(self.whole.span()),
            key,
            fault,
        }
    }

    fn positive(
        &self,
        key: &'static str,
        value: Option<&Spanned<f64>>,
        example: &'static str,
    ) -> Result<f64, ReadPlanError> {
        let value = value.ok_or_else(|| ReadPlanError::MissingKey {
            place: self.document.place(self.whole.span()),
            key,
            example,
        })?;
        self.checked(key, value)
    }

    fn checked(&self, key: &'static str, value: &Spanned<f64>) -> Result<f64, ReadPlanError> {
        let found = *value.get_ref();
        if found.is_finite() && found > 0.0 {
            return Ok(found);
        }
        Err(ReadPlanError::Value {
            place: self.document.place(value.span()),
            key,
            fault: "must be above 0 and finite",
        })
    }

    fn delta(&self) -> Result<f64, ReadPlanError> {
        let Some(delta) = &self.table.delta else {
            return Ok(DEFAULT_DELTA);
        };
        let found = self.checked("delta", delta)?;
        if found < 0.1 {
            return Ok(found);
        }
        Err(ReadPlanError::Value {
            place: self.document.place(delta.span()),
            key: "delta",
            fault: "must be below 0.1: it is the probability with which the promise may be broken, far below one in the number of clients",
        })
    }

    fn clip(&self, by: NoiseBy, radius: Option<f64>) -> Result<Clip, ReadPlanError> {
        let is_adaptive =
            |clip: &PrivateClip| matches!(clip, PrivateClip::Name(name) if name == "adaptive");
        let clip = self.table.clip.as_ref();
        if let Some(start) = &self.table.start
            && !clip.is_some_and(|clip| is_adaptive(clip.get_ref()))
        {
            return Err(ReadPlanError::Value {
                place: self.document.place(start.span()),
                key: "start",
                fault: "is the length with which clip = \"adaptive\" begins, and this clip does not adapt",
            });
        }
        match (clip, radius) {
            (None, Some(radius)) => Ok(Clip::Fixed(radius)),
            (Some(clip), Some(_)) => Err(ReadPlanError::Value {
                place: self.document.place(clip.span()),
                key: "clip",
                fault: "has no effect: `radius` of centered-clipping is what one client can change",
            }),
            (None, None) => Err(ReadPlanError::MissingKey {
                place: self.document.place(self.whole.span()),
                key: "clip",
                example: "clip = 1.0, the length to which updates are shortened, or clip = \"adaptive\"",
            }),
            (Some(clip), None) => match clip.get_ref() {
                PrivateClip::Length(length) => {
                    let length = Spanned::new(clip.span(), *length);
                    Ok(Clip::Fixed(self.checked("clip", &length)?))
                }
                PrivateClip::Name(_) if is_adaptive(clip.get_ref()) && by == NoiseBy::Server => {
                    let start = self.table.start.as_ref();
                    let start = start
                        .map(|start| self.checked("start", start))
                        .transpose()?;
                    Ok(Clip::Adaptive {
                        start: start.unwrap_or(DEFAULT_START),
                    })
                }
                PrivateClip::Name(_) => Err(ReadPlanError::Value {
                    place: self.document.place(clip.span()),
                    key: "clip",
                    fault: "is a length, or \"adaptive\" where the server adds the noise",
                }),
            },
        }
    }
}

#[cfg(test)]
mod tests;
