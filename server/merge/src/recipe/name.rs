//! The names by which users know methods, and what they are made of.
//!
//! Several names are a sparsifying rule and a method under one roof: `ties` is a trim and an election, `dare-linear` is DARE and a
//! weighted sum. The pair has the name; the parts are in the recipe.

use super::{Before, Method, OptimizerRule, Recipe, SparsifyRule};

impl Recipe {
    /// The names of all methods, as users write them, in the order of the documentation.
    pub const METHOD_NAMES: &'static [&'static str] = &[
        "mean",
        "median",
        "trimmed-mean",
        "meamed",
        "phocas",
        "sign-majority",
        "task-arithmetic",
        "ties",
        "dare-linear",
        "dare-ties",
        "della",
        "della-linear",
        "breadcrumbs",
        "breadcrumbs-ties",
        "sce",
        "ram",
        "magmax",
        "consensus",
        "krum",
        "multi-krum",
        "bulyan",
        "geometric-median",
        "centered-clipping",
        "mda",
        "caf",
        "dnc",
        "fltrust",
        "flame",
        "moNNA",
    ];

    /// The name of the method with what is dropped before it, as users write it.
    pub fn method_name(&self) -> &'static str {
        let dropped = self.sparsify.map(|sparsify| sparsify.rule);
        match (self.method, dropped) {
            (Method::TaskArithmetic { .. }, Some(SparsifyRule::Dare { .. })) => "dare-linear",
            (Method::TaskArithmetic { .. }, Some(SparsifyRule::Della { .. })) => "della-linear",
            (Method::TaskArithmetic { .. }, Some(SparsifyRule::Breadcrumbs { .. })) => {
                "breadcrumbs"
            }
            (Method::Ties(_), Some(SparsifyRule::Dare { .. })) => "dare-ties",
            (Method::Ties(_), Some(SparsifyRule::Della { .. })) => "della",
            (Method::Ties(_), Some(SparsifyRule::Breadcrumbs { .. })) => "breadcrumbs-ties",
            (method, _) => method.name(),
        }
    }
}

impl Method {
    /// The name, as users write it, without what is dropped before it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Median { .. } => "median",
            Self::TrimmedMean { .. } => "trimmed-mean",
            Self::Meamed { .. } => "meamed",
            Self::Phocas { .. } => "phocas",
            Self::SignMajority => "sign-majority",
            Self::TaskArithmetic { .. } => "task-arithmetic",
            Self::Ties(_) => "ties",
            Self::Sce { .. } => "sce",
            Self::Ram { .. } => "ram",
            Self::Magmax => "magmax",
            Self::Consensus { .. } => "consensus",
            Self::Krum { .. } => "krum",
            Self::MultiKrum { .. } => "multi-krum",
            Self::Bulyan { .. } => "bulyan",
            Self::GeometricMedian { .. } => "geometric-median",
            Self::CenteredClipping { .. } => "centered-clipping",
            Self::Mda { .. } => "mda",
            Self::Caf { .. } => "caf",
            Self::Dnc { .. } => "dnc",
            Self::Fltrust => "fltrust",
            Self::Flame => "flame",
            Self::Monna { .. } => "moNNA",
        }
    }
}

impl Before {
    /// The names of all stages, as users write them.
    pub const NAMES: &'static [&'static str] = &["clip", "arc", "nnm", "bucketing"];

    /// The name, as users write it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Clip { .. } => "clip",
            Self::Arc { .. } => "arc",
            Self::Nnm { .. } => "nnm",
            Self::Bucketing { .. } => "bucketing",
        }
    }
}

impl SparsifyRule {
    /// The names of all rules, as users write them.
    pub const NAMES: &'static [&'static str] = &["trim", "dare", "della", "breadcrumbs"];

    /// The name, as users write it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Trim { .. } => "trim",
            Self::Dare { .. } => "dare",
            Self::Della { .. } => "della",
            Self::Breadcrumbs { .. } => "breadcrumbs",
        }
    }
}

impl OptimizerRule {
    /// The names of all rules, as users write them.
    pub const NAMES: &'static [&'static str] = &["momentum", "nesterov", "adam", "yogi", "adagrad"];

    /// The name, as users write it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Momentum { .. } => "momentum",
            Self::Nesterov { .. } => "nesterov",
            Self::Adam(_) => "adam",
            Self::Yogi(_) => "yogi",
            Self::Adagrad(_) => "adagrad",
        }
    }
}
