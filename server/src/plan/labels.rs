//! `labels` of `cohort`: which clients a plan's rounds are for.

use std::collections::BTreeMap;

use fedmerge_common::identity::Labels;
use wildmatch::WildMatch;

/// What a client has to be labelled with to take part: each key with a pattern for its value, in which `*` is any text and `?` any one
/// character. Without any, every client does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector(BTreeMap<String, WildMatch>);

/// A client that a plan is not for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the plan is for clients labelled `{key}={pattern}`, and this one {found}")]
pub struct NotSelected {
    key: String,
    pattern: String,
    found: String,
}

impl Selector {
    pub(super) fn new(labels: &BTreeMap<String, String>) -> Self {
        let labels = labels.iter();
        Self(
            labels
                .map(|(key, pattern)| (key.clone(), WildMatch::new(pattern)))
                .collect(),
        )
    }

    /// The keys, each with its pattern as written.
    pub fn patterns(&self) -> impl Iterator<Item = (&str, String)> {
        let patterns = self.0.iter();
        patterns.map(|(key, pattern)| (key.as_str(), pattern.to_string()))
    }

    /// Whether a client with these labels takes part.
    ///
    /// # Errors
    /// The first label that it lacks.
    pub fn check(&self, labels: &Labels) -> Result<(), NotSelected> {
        let lacking = self.0.iter().find(|(key, pattern)| {
            let found = labels.get(*key);
            found.is_none_or(|value| !pattern.matches(value))
        });
        let Some((key, pattern)) = lacking else {
            return Ok(());
        };
        Err(NotSelected {
            key: key.clone(),
            pattern: pattern.to_string(),
            found: labels.get(key).map_or_else(
                || "has no such label".to_owned(),
                |value| format!("is labelled `{key}={value}`"),
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_client_takes_part_when_every_label_of_the_plan_is_its_own() {
        let all = Selector::default();
        assert_eq!(all.check(&labels(&[])), Ok(()));
        let some = Selector::new(&labels(&[("site", "ward-*"), ("tier", "gpu")]));
        let ward = labels(&[("site", "ward-3"), ("tier", "gpu"), ("more", "x")]);
        assert_eq!(some.check(&ward), Ok(()));
        for (client, words) in [
            (
                labels(&[("site", "ward-3")]),
                "`tier=gpu`, and this one has no such label",
            ),
            (
                labels(&[("site", "lab"), ("tier", "gpu")]),
                "`site=ward-*`, and this one is labelled `site=lab`",
            ),
        ] {
            let refusal = some.check(&client).map_err(|refusal| refusal.to_string());
            assert!(refusal.is_err_and(|refusal| refusal.contains(words)));
        }
    }
}
