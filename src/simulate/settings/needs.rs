//! How many clients a merge needs for what it tolerates: what is chosen where nobody chose. The server judges what is chosen.

use toml::{Table, Value};

use super::stages;

/// Methods that have a number of hostile clients, beside those with needs of their own.
const TOLERANT: &[&str] = &[
    "median",
    "trimmed-mean",
    "meamed",
    "phocas",
    "mda",
    "caf",
    "dnc",
    "moNNA",
];

/// What a merge needs: `size × (factor × tolerate + more)` clients, or nearly so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    /// Whether something in it can tolerate hostile clients.
    pub(super) tolerates: bool,
    factor: usize,
    more: usize,
    /// How many clients are one vote.
    size: usize,
}

impl Needs {
    /// What the method and the stages before it need.
    pub(super) fn of(method: &str, merge: &Table) -> Self {
        let stages = || stages::before(merge);
        let is = |stage: &Table, names: &[&str]| {
            let name = stage.get("method").and_then(Value::as_str);
            name.is_some_and(|name| names.contains(&name))
        };
        let (of_the_method, factor, more) = match method {
            "krum" | "multi-krum" => (true, 2, 3),
            "bulyan" => (true, 4, 3),
            _ => (TOLERANT.contains(&method), 2, 1),
        };
        let buckets = stages().filter(|stage| is(stage, &["bucketing"]));
        let sizes = buckets.filter_map(|stage| stage.get("size").and_then(Value::as_integer));
        let sizes = sizes.filter_map(|size| usize::try_from(size).ok());
        Self {
            tolerates: of_the_method || stages().any(|stage| is(stage, &["arc", "nnm"])),
            factor,
            more,
            size: sizes.fold(1, usize::saturating_mul).max(1),
        }
    }

    /// The most hostile clients that so many clients can afford.
    pub(super) fn affordable(self, clients: usize) -> usize {
        clients.div_ceil(self.size).saturating_sub(self.more) / self.factor
    }

    /// The fewest clients that withstand so many hostile ones.
    pub(super) fn clients(self, tolerate: usize) -> usize {
        let votes = tolerate
            .saturating_mul(self.factor)
            .saturating_add(self.more);
        (votes - 1).saturating_mul(self.size).saturating_add(1)
    }
}
