//! `method`: the names of merge methods, the keys that each has, and how it is made of them.
//!
//! A method may bring what it drops with it: `ties` is a trim and an election, `dare-linear` is DARE and a weighted sum. The
//! others take a `sparsify` of their own. The names, in this order, are those of the engine.

use fedmerge_merge::{Method, Sparsify};

use super::compat::Compat;
use super::parameters::Parameters;
use super::sparsifiers::{self, BREADCRUMBS, DARE, DELLA, TRIM};
use crate::plan::ReadPlanError;
use crate::plan::choice::{Choice, Keyed};

pub(super) const DEFAULT_METHOD: &str = "trimmed-mean";
/// As in mergekit.
const RAM_EPSILON: f64 = 1e-5;
/// `λ` of Consensus TA: what its paper finds to work.
const CONSENSUS_T: f64 = 0.2;
/// Consensus keeps what is no single client's.
const CONSENSUS_SIZE: usize = 2;
/// How many times `tolerate` DnC drops: as in its paper.
const DNC_DROP: f64 = 1.0;

/// A method that can be named.
#[derive(Clone, Copy, Debug)]
pub(in crate::plan) struct Known {
    /// Its keys, beside those that every method has and those of what it drops.
    keys: &'static [&'static str],
    /// Whose arithmetic differs from the paper's.
    references: &'static [Compat],
    /// What it drops by itself.
    drops: Option<sparsifiers::Known>,
    make: fn(&Parameters) -> Method,
}

impl Keyed for Known {
    fn has_key(&self, key: &str) -> bool {
        let is_of_the_drop = self.drops.is_some_and(|drops| drops.has_key(key));
        is_of_the_drop
            || match key {
                "sparsify" => self.drops.is_none(),
                "compat" => !self.references.is_empty(),
                _ => self.keys.contains(&key),
            }
    }
}

impl Known {
    /// Whose arithmetic differs from the paper's.
    pub(super) fn references(&self) -> &'static [Compat] {
        self.references
    }

    /// The method of these parameters.
    pub(super) fn method(&self, parameters: &Parameters) -> Result<Method, ReadPlanError> {
        let method = (self.make)(parameters);
        match (&parameters.normalize_at, method, parameters.compat) {
            (Some(place), Method::Ties(_), Compat::Peft) => Err(ReadPlanError::Value {
                place: place.clone(),
                key: "normalize",
                fault: "would have no effect: PEFT always divides by the number of those who agree",
            }),
            (_, method, _) => Ok(method),
        }
    }

    /// What the method drops by itself.
    pub(super) fn sparsify(&self, parameters: &Parameters) -> Option<Sparsify> {
        self.drops.map(|drops| (drops.make)(&parameters.parts))
    }
}

const NO_KEYS: &[&str] = &[];
/// The keys of methods that measure lengths and distances.
const OF_THE_GRAM: &[&str] = &["scope"];
const OF_A_SUM: &[&str] = &["normalize"];
const OF_AN_ELECTION: &[&str] = &["elect", "normalize"];
const OF_MERGE_KITS: &[Compat] = &[Compat::Mergekit, Compat::Peft];
const OF_MERGEKIT: &[Compat] = &[Compat::Mergekit];
const OF_BYZFL: &[Compat] = &[Compat::Byzfl];

/// A method by itself, the same for all references.
const fn rule(keys: &'static [&'static str], make: fn(&Parameters) -> Method) -> Known {
    Known {
        keys,
        references: &[],
        drops: None,
        make,
    }
}

/// A method by itself, of which ByzFL has an idea of its own.
const fn byzfl_too(keys: &'static [&'static str], make: fn(&Parameters) -> Method) -> Known {
    Known {
        references: OF_BYZFL,
        ..rule(keys, make)
    }
}

/// A weighted sum of what is left of the task vectors.
const fn sum_after(drops: sparsifiers::Known, references: &'static [Compat]) -> Known {
    Known {
        keys: OF_A_SUM,
        references,
        drops: Some(drops),
        make: Parameters::sum,
    }
}

/// An election among what is left of the task vectors.
const fn election_after(
    drops: sparsifiers::Known,
    references: &'static [Compat],
    make: fn(&Parameters) -> Method,
) -> Known {
    Known {
        keys: OF_AN_ELECTION,
        references,
        drops: Some(drops),
        make,
    }
}

/// Names of merge methods.
pub(in crate::plan) const METHODS: Choice<Known> = Choice {
    what: "merge method",
    known: &[
        ("mean", rule(NO_KEYS, |_| Method::Mean)),
        (
            "median",
            rule(NO_KEYS, |p| Method::Median {
                tolerate: p.tolerate,
            }),
        ),
        (
            "trimmed-mean",
            rule(NO_KEYS, |p| Method::TrimmedMean {
                tolerate: p.tolerate,
            }),
        ),
        (
            "meamed",
            rule(NO_KEYS, |p| Method::Meamed {
                tolerate: p.tolerate,
            }),
        ),
        (
            "phocas",
            rule(NO_KEYS, |p| Method::Phocas {
                tolerate: p.tolerate,
            }),
        ),
        ("sign-majority", rule(NO_KEYS, |_| Method::SignMajority)),
        ("task-arithmetic", rule(OF_A_SUM, Parameters::sum)),
        (
            "ties",
            election_after(TRIM, OF_MERGE_KITS, |p| p.ties(true)),
        ),
        ("dare-linear", sum_after(DARE, OF_MERGE_KITS)),
        (
            "dare-ties",
            election_after(DARE, OF_MERGE_KITS, |p| p.ties(false)),
        ),
        (
            "della",
            election_after(DELLA, OF_MERGEKIT, |p| p.ties(true)),
        ),
        ("della-linear", sum_after(DELLA, OF_MERGEKIT)),
        ("breadcrumbs", sum_after(BREADCRUMBS, OF_MERGEKIT)),
        (
            "breadcrumbs-ties",
            election_after(BREADCRUMBS, OF_MERGEKIT, |p| p.ties(false)),
        ),
        (
            "sce",
            rule(&["density"], |p| Method::Sce {
                density: p.parts.density.unwrap_or(1.0),
            }),
        ),
        (
            "ram",
            rule(&["epsilon"], |p| Method::Ram {
                epsilon: p.epsilon.unwrap_or(RAM_EPSILON),
            }),
        ),
        ("magmax", rule(NO_KEYS, |_| Method::Magmax)),
        (
            "consensus",
            rule(&["t", "size"], |p| Method::Consensus {
                threshold: p.t.unwrap_or(CONSENSUS_T),
                support: p.size.unwrap_or(CONSENSUS_SIZE),
            }),
        ),
        (
            "krum",
            byzfl_too(OF_THE_GRAM, |p| Method::Krum {
                tolerate: p.tolerate,
                neighbours: p.neighbours(),
            }),
        ),
        (
            "multi-krum",
            byzfl_too(&["scope", "size"], |p| Method::MultiKrum {
                tolerate: p.tolerate,
                neighbours: p.neighbours(),
                selected: p.size,
            }),
        ),
        (
            "bulyan",
            byzfl_too(OF_THE_GRAM, |p| Method::Bulyan {
                tolerate: p.tolerate,
                neighbours: p.neighbours(),
            }),
        ),
        (
            "geometric-median",
            byzfl_too(&["scope", "nu", "iterations"], Parameters::geometric_median),
        ),
        (
            "centered-clipping",
            byzfl_too(
                &["scope", "radius", "iterations"],
                Parameters::centered_clipping,
            ),
        ),
        (
            "mda",
            rule(OF_THE_GRAM, |p| Method::Mda {
                tolerate: p.tolerate,
            }),
        ),
        (
            "caf",
            rule(OF_THE_GRAM, |p| Method::Caf {
                tolerate: p.tolerate,
            }),
        ),
        (
            "dnc",
            rule(OF_THE_GRAM, |p| Method::Dnc {
                tolerate: p.tolerate,
                drop: DNC_DROP,
            }),
        ),
        ("fltrust", rule(&["scope", "trusted"], |_| Method::Fltrust)),
        ("flame", rule(OF_THE_GRAM, |_| Method::Flame)),
        (
            "moNNA",
            rule(&["scope", "trusted"], |p| Method::Monna {
                tolerate: p.tolerate,
            }),
        ),
    ],
    planned: &[
        "linear",
        "slerp",
        "nuslerp",
        "multislerp",
        "karcher",
        "model-stock",
        "nearswap",
        "passthrough",
        "iso-c",
        "tsv-m",
        "knots",
        "lora-stack",
        "lora-svd",
    ],
};
