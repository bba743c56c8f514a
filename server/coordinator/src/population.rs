//! How many hostile clients a sampled cohort must withstand, where only their number among all is known.
//!
//! Of a population of `N` clients of which `F` are hostile, a cohort of `n` has a hypergeometric number `X` of hostile ones. The tolerance
//! is the least `f` with `P[X > f] ≤ risk / T` over the `T` rounds of a federation, so that the risk is that of all rounds together.

use crate::plan::MAX_TARGET;
use serde::{Deserialize, Serialize};

/// For how many rounds a federation without an end is made safe.
pub const ROUNDS_WITHOUT_END: u64 = 1000;

/// All clients that may be sampled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Population {
    /// How many there are, at least as many as a cohort and at most [`crate::plan::MAX_TARGET`].
    pub clients: usize,
    /// How many of them may be hostile.
    pub hostile: usize,
    /// The probability that some round of the federation has more hostile clients than it withstands, over 0 and under 1.
    pub risk: f64,
}

impl Population {
    /// Whether a cohort of `size` can be drawn from it, and its numbers make sense.
    pub fn can_give(&self, size: usize) -> bool {
        size <= self.clients && self.hostile <= self.clients && self.clients <= MAX_TARGET
    }

    /// The hostile clients that a cohort of `size` must withstand over so many rounds; 0 rounds: without an end. Only where [`Population::can_give`] one.
    pub fn tolerance(&self, size: usize, rounds: u64) -> usize {
        let rounds = if rounds == 0 {
            ROUNDS_WITHOUT_END
        } else {
            rounds
        };
        let allowed = self.risk / rounds as f64;
        let logs = LogFactorials::up_to(self.clients);
        let most = self.hostile.min(size);
        let mut tail = 0.0;
        // From the rarest case on, so that small terms add up first.
        for hostile in (1..=most).rev() {
            tail += self.probability(&logs, size, hostile);
            if tail > allowed {
                return hostile;
            }
        }
        0
    }

    /// `C(F, k) C(N − F, n − k) / C(N, n)`
    fn probability(&self, logs: &LogFactorials, size: usize, hostile: usize) -> f64 {
        let honest = self.clients - self.hostile;
        let Some(others) = size.checked_sub(hostile).filter(|others| *others <= honest) else {
            return 0.0;
        };
        let ways = logs.choose(self.hostile, hostile) + logs.choose(honest, others);
        (ways - logs.choose(self.clients, size)).exp()
    }
}

/// `ln k!`
struct LogFactorials(Vec<f64>);

impl LogFactorials {
    fn up_to(most: usize) -> Self {
        let mut sum = 0.0;
        let logs = (0..=most).map(|number| {
            sum += (number.max(1) as f64).ln();
            sum
        });
        Self(logs.collect())
    }

    fn choose(&self, of: usize, count: usize) -> f64 {
        self.0[of] - self.0[count] - self.0[of - count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out with exact fractions.
    #[test]
    fn the_tolerance_is_that_of_the_hypergeometric_tail() {
        for (clients, hostile, size, expected) in [
            (1000, 100, 20, 9),
            (1000, 100, 32, 12),
            (1000, 100, 50, 15),
            (1000, 100, 64, 18),
            (1000, 100, 100, 24),
            (1000, 200, 50, 23),
            (1000, 200, 64, 27),
            (1000, 200, 100, 37),
            (100, 10, 20, 8),
            (100, 10, 32, 9),
            (100, 10, 50, 10),
            (10, 3, 10, 3),
            (10, 0, 5, 0),
        ] {
            let population = Population {
                clients,
                hostile,
                risk: 0.01,
            };
            assert_eq!(
                population.tolerance(size, 1000),
                expected,
                "{clients} {hostile} {size}"
            );
            assert_eq!(population.tolerance(size, 0), expected);
        }
    }

    #[test]
    fn a_single_round_may_tolerate_less_than_many() {
        let population = Population {
            clients: 1000,
            hostile: 100,
            risk: 0.01,
        };
        assert!(population.tolerance(20, 1) < population.tolerance(20, 1000));
    }
}
