//! Attacks: what a hostile client hands in, by name.
//!
//! `poison.rs` makes dishonest data of honest data, `forge.rs` makes a dishonest update of honest updates; both are plain arithmetic
//! that knows neither files nor processes. Attackers of one simulation collude and know everything: each honest client's
//! examples and batches, and so its update to the last bit.

pub(crate) mod forge;
pub(crate) mod poison;

use clap::ValueEnum;

/// Examples that a free rider claims to have trained on.
pub(crate) const CLAIMED_EXAMPLES: u64 = 1_000_000;

/// What a lying client hands in. Below, μ and σ are mean and standard deviation of the honest updates, coordinate by coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attack {
    /// Its own update times −10
    SignFlip,
    /// Noise of standard deviation 1 in place of an update
    Gaussian,
    /// Its own update times 10
    Scale,
    /// An honest update on dishonest data: label y becomes (classes − 1 − y)
    LabelFlip,
    /// Its own update with one value that is not a number
    Nan,
    /// No update at all, and a claim of a million examples
    FreeRider,
    /// A little is enough: μ − 1.5 σ, hidden in the honest clients' spread (Baruch et al. 2019)
    Alie,
    /// Inner product manipulation: −2 μ (Xie et al. 2020)
    Ipm,
    /// A copy of the honest update that lies furthest out, so that it counts several times (Karimireddy et al. 2022)
    Mimic,
    /// μ − γ σ, as far out as no two honest updates are apart (Shejwalkar and Houmansadr 2021)
    MinMax,
    /// μ − γ σ, with no larger sum of squared distances than an honest update has (Shejwalkar and Houmansadr 2021)
    MinSum,
    /// An honest update on data of which half has a trigger, four bright features, and the label 0 (Gu et al. 2017)
    Backdoor,
    /// The same, scaled up so that the mean is the attacker's model (Bagdasaryan et al. 2020)
    ModelReplacement,
    /// Hostile clients that are all but equal, at −μ: a cluster that is denser than any of honest clients
    Sybil,
    /// As long as an honest update, in one and the same direction in every round
    SlowDrift,
    /// The honest mean, but for the smallest tensor, which gets as long a step as all others together
    SingleTensor,
}

impl Attack {
    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SignFlip => "sign-flip",
            Self::Gaussian => "gaussian",
            Self::Scale => "scale",
            Self::LabelFlip => "label-flip",
            Self::Nan => "nan",
            Self::FreeRider => "free-rider",
            Self::Alie => "alie",
            Self::Ipm => "ipm",
            Self::Mimic => "mimic",
            Self::MinMax => "min-max",
            Self::MinSum => "min-sum",
            Self::Backdoor => "backdoor",
            Self::ModelReplacement => "model-replacement",
            Self::Sybil => "sybil",
            Self::SlowDrift => "slow-drift",
            Self::SingleTensor => "single-tensor",
        }
    }

    /// Whether it wants a certain answer to certain inputs, rather than a useless model.
    pub(crate) fn is_targeted(self) -> bool {
        matches!(self, Self::Backdoor | Self::ModelReplacement)
    }

    /// Whether it is computed from the honest clients' updates.
    pub(crate) fn needs_crowd(self) -> bool {
        match self {
            Self::Alie
            | Self::Ipm
            | Self::Mimic
            | Self::MinMax
            | Self::MinSum
            | Self::Sybil
            | Self::SlowDrift
            | Self::SingleTensor => true,
            Self::SignFlip
            | Self::Gaussian
            | Self::Scale
            | Self::LabelFlip
            | Self::Nan
            | Self::FreeRider
            | Self::Backdoor
            | Self::ModelReplacement => false,
        }
    }

    /// What it claims to have trained on.
    pub(crate) fn claim(self, num_examples: usize) -> u64 {
        if self == Self::FreeRider {
            CLAIMED_EXAMPLES
        } else {
            num_examples as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attack_is_called_on_the_command_line_what_it_is_called_here() {
        for attack in Attack::value_variants() {
            let shown = attack.to_possible_value();
            assert_eq!(
                shown.as_ref().map(clap::builder::PossibleValue::get_name),
                Some(attack.name())
            );
        }
    }
}
