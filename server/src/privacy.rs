//! Client-level differential privacy: what a plan promises, what it costs, and when the budget is spent.
//!
//! What is hidden is whether one client's update is in the sum or left out of it, while the number `n` of those who take part is public
//! ("zero-out" neighbours): that changes the mean of updates of length `C` at most by `C / n`; Gaussian noise of `z` times that on the released mean makes each round a Gaussian
//! mechanism with multiplier `z`. Rounds compose to one of `z / √T`: nothing is claimed for sampling, because who takes part is no
//! secret. Centered clipping with one step around the base's own step is such a mean, too. Noise that the clients add themselves
//! is paid by each of them alone, and every merge after it is free.
//! Invariant: what a rule does not bound has no ε; such plans are refused before they run.

pub mod accountant;
mod noise;

use fedmerge_common::task_vector::private::LocalNoise;
use serde::{Deserialize, Serialize};

pub use noise::{Noise, NoiseKey};

use accountant::{gaussian_epsilon, gaussian_sigma};

/// Who adds the noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseBy {
    /// The server, once, to the merged task vector: clients trust it with their updates.
    Server,
    /// Each client to its own update, before it leaves: nobody is trusted.
    Clients,
}

/// The length to which updates are shortened: what one client can change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Clip {
    /// This length.
    Fixed(f64),
    /// A length that follows the median of the updates', from this one on; the count of it is noisy, too.
    Adaptive {
        /// The first.
        start: f64,
    },
}

/// What a plan promises its clients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Privacy {
    /// What one client can change.
    pub clip: Clip,
    /// Standard deviation of the noise over what one client can change: `z`.
    pub noise: f64,
    /// Who adds it.
    pub by: NoiseBy,
    /// The budget: the largest ε.
    pub epsilon: f64,
    /// With which δ.
    pub delta: f64,
}

/// What a merge says of the privacy that it leaves; in `fedmerge.json` and in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PrivacyStory {
    /// The length to which updates were shortened.
    pub clip: f64,
    /// Standard deviation of the noise over what one client can change.
    pub noise: f64,
    /// Who added it.
    pub by: NoiseBy,
    /// ε of all merges so far, this one among them.
    pub epsilon: f64,
    /// With which δ.
    pub delta: f64,
    /// Σ 1/z² of all merges so far: what they cost, in the unit in which costs add up.
    pub spent: f64,
}

impl std::fmt::Display for PrivacyStory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ε {:.3} at δ {:e}", self.epsilon, self.delta)
    }
}

impl Privacy {
    /// The noise that each client adds to its own update, where that is the plan.
    #[must_use]
    pub fn of_clients(&self) -> Option<LocalNoise> {
        match (self.by, self.clip) {
            (NoiseBy::Clients, Clip::Fixed(clip)) => LocalNoise::new(clip, self.noise).ok(),
            (NoiseBy::Clients, Clip::Adaptive { .. }) | (NoiseBy::Server, _) => None,
        }
    }

    /// What one merge costs: 1/z².
    #[must_use]
    pub fn cost(&self) -> f64 {
        self.noise.powi(-2)
    }

    /// ε of all merges that cost so much together.
    #[must_use]
    pub fn epsilon_of(&self, spent: f64) -> f64 {
        gaussian_epsilon(1.0, spent, self.delta)
    }

    /// How many merges the budget allows after what is spent.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of rounds that is not negative, and saturates"
    )]
    pub fn merges_left(&self, spent: f64) -> u64 {
        let budget = gaussian_sigma(self.epsilon, self.delta).powi(-2);
        // A budget that is met to the last digit is met.
        let left = (budget - spent) / self.cost() * (1.0 + 1e-9);
        left.max(0.0) as u64
    }

    /// The multipliers of the noise on the merged task vector, and of that on the count that moves an adaptive clip, which hides one
    /// client among `clients`, too: `z_Δ = (z⁻² − (2σ_b)⁻²)^(−1/2)` with `σ_b = max(n/20, z)` (Andrew et al. 2021, §3.2; the paper's n/20
    /// suits thousands of clients and would hide nothing among ten).
    #[must_use]
    pub fn multipliers(&self, clients: usize) -> (f64, f64) {
        match self.clip {
            Clip::Fixed(_) => (self.noise, 0.0),
            Clip::Adaptive { .. } => {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "there are fewer than 2^52 clients"
                )]
                let count = (clients as f64 / 20.0).max(self.noise);
                let rest = self.noise.powi(-2) - (2.0 * count).powi(-2);
                (rest.powf(-0.5), count)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn privacy(noise: f64, epsilon: f64) -> Privacy {
        Privacy {
            clip: Clip::Fixed(1.0),
            noise,
            by: NoiseBy::Server,
            epsilon,
            delta: 1e-5,
        }
    }

    #[test]
    fn a_budget_allows_as_many_merges_as_stay_within_it() {
        // z = 4.2443 is 50 rounds at ε = 8.
        let plan = privacy(4.244_3, 8.0);
        let most = plan.merges_left(0.0);
        assert_eq!(most, 50);
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let spent = |merges: u64| merges as f64 * plan.cost();
        assert!(plan.epsilon_of(spent(most)) <= 8.0);
        assert!(plan.epsilon_of(spent(most + 1)) > 8.0);
        assert_eq!(plan.merges_left(spent(20)), 30);
        assert_eq!(plan.merges_left(spent(50)), 0);
        assert_eq!(plan.merges_left(spent(500)), 0);
        assert_eq!(privacy(0.1, 1.0).merges_left(0.0), 0);
    }

    #[test]
    fn an_exact_budget_is_met() {
        for merges in [1_u32, 7, 100] {
            let z = gaussian_sigma(3.0, 1e-5) * f64::from(merges).sqrt();
            assert_eq!(privacy(z, 3.0).merges_left(0.0), u64::from(merges));
        }
    }

    #[test]
    fn the_noisy_count_is_paid_from_the_same_noise() {
        let plan = Privacy {
            clip: Clip::Adaptive { start: 0.1 },
            ..privacy(1.0, 8.0)
        };
        for clients in [10, 1000] {
            let (sum, count) = plan.multipliers(clients);
            // Andrew et al.: the two queries together are one of multiplier z; the count's sensitivity is ½.
            let together = sum.powi(-2) + (2.0 * count).powi(-2);
            assert!((together - plan.cost()).abs() < 1e-12, "{clients}");
            assert!(sum > 1.0);
        }
        assert!((plan.multipliers(1000).1 - 50.0).abs() < 1e-12);
        assert_eq!(privacy(1.5, 8.0).multipliers(10), (1.5, 0.0));
    }
}
