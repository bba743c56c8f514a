//! What a plan says, round by round: a plan that was changed holds from the next round on, and rounds that were opened before keep
//! theirs, and so do their tasks, which may outlive them.

use std::collections::BTreeMap;

use fedmerge_common::ids::RoundNumber;

/// Something that a plan says, for the rounds of the plans before it and for those that follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByRound<T> {
    /// By the last round that it holds for.
    earlier: BTreeMap<RoundNumber, T>,
    now: T,
}

impl<T> ByRound<T> {
    /// The same for every round.
    pub const fn always(said: T) -> Self {
        Self {
            earlier: BTreeMap::new(),
            now: said,
        }
    }

    /// `said` for the rounds up to `last`, but for those that an even earlier plan has.
    #[must_use]
    pub fn through(mut self, last: RoundNumber, said: T) -> Self {
        self.earlier.insert(last, said);
        self
    }

    /// What is said for `round`.
    pub fn of(&self, round: RoundNumber) -> &T {
        let mut earlier = self.earlier.range(round..);
        earlier.next().map_or(&self.now, |(_, said)| said)
    }

    /// A part of it.
    pub fn map<U>(&self, part: impl Fn(&T) -> U) -> ByRound<U> {
        let earlier = self.earlier.iter();
        ByRound {
            earlier: earlier.map(|(last, said)| (*last, part(said))).collect(),
            now: part(&self.now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_keeps_what_was_said_for_it_and_those_to_come_have_what_is_said_now() {
        let round = RoundNumber::new;
        let said = ByRound::always("new")
            .through(round(4), "old")
            .through(round(2), "oldest");
        let of = |number| *said.of(round(number));
        assert_eq!(
            [of(1), of(2), of(3), of(4)],
            ["oldest", "oldest", "old", "old"]
        );
        assert_eq!([of(5), of(9)], ["new", "new"]);
        assert_eq!(*said.map(|said| said.len()).of(round(2)), 6);
        assert_eq!(*ByRound::always(1).of(round(4)), 1);
    }
}
