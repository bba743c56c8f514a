//! The rules by which many task vectors become one, as data.

/// A merge rule; each is documented, with its paper, in its own file under `method` (coordinate by coordinate) or `coefficients` (in
/// the space of inner products).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// Mean weighted by the clients' weights.
    Mean,
    /// Median of each coordinate; ignores weights.
    Median {
        /// How many clients may be hostile; matters where coordinates are absent.
        tolerate: usize,
    },
    /// Mean of each coordinate without its lowest and highest values; ignores weights.
    TrimmedMean {
        /// How many clients may be hostile: so many values are dropped at either end.
        tolerate: usize,
    },
    /// Mean of the `n - f` values nearest to the median of each coordinate; ignores weights.
    Meamed {
        /// How many clients may be hostile.
        tolerate: usize,
    },
    /// Mean of the `n - f` values nearest to the trimmed mean of each coordinate; ignores weights.
    Phocas {
        /// How many clients may be hostile.
        tolerate: usize,
    },
    /// Sign of the majority of signs: -1, 0 or 1; ignores weights.
    SignMajority,
    /// Weighted sum of task vectors.
    TaskArithmetic {
        /// Divide by the sum of weights.
        normalize: bool,
    },
    /// Elect a sign for each coordinate, average those who agree with it.
    Ties(Ties),
    /// Keep the coordinates that vary most, weigh tensors by their energy, erase minority signs; ignores weights.
    Sce {
        /// Share of the coordinates that is kept: in (0, 1].
        density: f64,
    },
    /// Average what several clients changed, keep what one alone changed; ignores weights.
    Ram {
        /// Magnitude above which a value counts as a change: at least 0.
        epsilon: f64,
    },
    /// The value of the largest magnitude; ignores weights.
    Magmax,
    /// Sum of task vectors where at least some clients find their own change in it; ignores weights.
    Consensus {
        /// `λ` in `|xᵢ| > λ |Σx − xᵢ|`: at least 0.
        threshold: f64,
        /// How many clients must: at least 1.
        support: usize,
    },
    /// The task vector nearest to its neighbours.
    Krum {
        /// How many clients may be hostile.
        tolerate: usize,
        /// How many neighbours a score counts.
        neighbours: Neighbours,
    },
    /// The mean of the task vectors with the best Krum scores.
    MultiKrum {
        /// How many clients may be hostile.
        tolerate: usize,
        /// How many neighbours a score counts.
        neighbours: Neighbours,
        /// How many are averaged: at least 1; none: as the neighbours' convention has it.
        selected: Option<usize>,
    },
    /// Krum again and again, then each coordinate's mean nearest to the median of the chosen.
    Bulyan {
        /// How many clients may be hostile.
        tolerate: usize,
        /// How many neighbours a score counts.
        neighbours: Neighbours,
    },
    /// The point whose distances to all task vectors add up to least.
    GeometricMedian {
        /// Distance below which a task vector pulls no stronger: positive.
        nu: f64,
        /// The most steps of Weiszfeld's iteration: at least 1.
        iterations: usize,
        /// Where the iteration begins.
        start: Start,
    },
    /// Steps of the mean of clipped distances from the step of the round before.
    CenteredClipping {
        /// The longest pull of one client: positive.
        radius: f64,
        /// How many steps: at least 1.
        iterations: usize,
    },
    /// The mean of the `n - f` task vectors of the least diameter.
    Mda {
        /// How many clients may be hostile.
        tolerate: usize,
    },
    /// Covariance-bound agnostic filter: weighs down along the direction of the largest variance.
    Caf {
        /// How many clients may be hostile.
        tolerate: usize,
    },
    /// Divide and conquer: drops the outliers along the direction of the largest variance.
    Dnc {
        /// How many clients may be hostile.
        tolerate: usize,
        /// How many times `tolerate` are dropped: positive.
        drop: f64,
    },
    /// Weighs each client by its agreement with a trusted one.
    Fltrust,
    /// The cluster of the majority by direction, clipped to the median length.
    Flame,
    /// The mean of the `n - f` task vectors nearest to a trusted one.
    Monna {
        /// How many clients may be hostile.
        tolerate: usize,
    },
}

/// How signs are elected and what is averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ties {
    /// How the sign of a coordinate is elected.
    pub elect: Elect,
    /// What happens where the poll is even.
    pub even: Even,
    /// By what the sum of those who agree is divided.
    pub divide: Divide,
}

/// How the sign of a coordinate is elected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elect {
    /// By the weighted sum of values: the larger mass wins. One client with large values can decide.
    Mass,
    /// By the plain sum of values, as in the paper and PEFT.
    PlainMass,
    /// By the number of clients on either side: every client has one vote.
    Count,
}

/// What happens where the poll of signs is even.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Even {
    /// The coordinate stays 0, as the paper's formula says.
    Nothing,
    /// Positive values win, as in mergekit and PEFT.
    Positive,
}

/// By what the sum of those who agree is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Divide {
    /// By the sum of their weights.
    Weights,
    /// By their number, as in PEFT.
    Count,
    /// By nothing: a sum.
    Nothing,
}

/// How many neighbours Krum's score counts, of `n` clients of which `f` may be hostile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbours {
    /// `n − f − 2`, as in the paper (Blanchard et al.); needs `n > 2f + 2`. Multi-Krum averages as many.
    Paper,
    /// `n − f − 1`, as in ByzFL; needs `n > 2f`. Multi-Krum averages `n − f`.
    Byzfl,
}

/// Where an iteration begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the mean.
    Mean,
    /// At zero, as in ByzFL.
    Zero,
}

/// What a method makes of the clients' weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightUse {
    /// Nothing: an example count is a claim of the client, and weighing by it would void a bound against liars.
    Ignored,
    /// Shares: at least 0, and only ratios matter.
    Shares,
    /// Factors of a sum: any finite number, negative to subtract.
    Factors,
}

impl Method {
    /// What the rule makes of the clients' weights.
    pub fn weight_use(&self) -> WeightUse {
        match self {
            Self::TaskArithmetic { normalize: false }
            | Self::Ties(Ties {
                divide: Divide::Nothing | Divide::Count,
                ..
            }) => WeightUse::Factors,
            Self::Mean | Self::TaskArithmetic { normalize: true } | Self::Ties(_) => {
                WeightUse::Shares
            }
            Self::Median { .. }
            | Self::TrimmedMean { .. }
            | Self::Meamed { .. }
            | Self::Phocas { .. }
            | Self::SignMajority
            | Self::Sce { .. }
            | Self::Ram { .. }
            | Self::Magmax
            | Self::Consensus { .. }
            | Self::Krum { .. }
            | Self::MultiKrum { .. }
            | Self::Bulyan { .. }
            | Self::GeometricMedian { .. }
            | Self::CenteredClipping { .. }
            | Self::Mda { .. }
            | Self::Caf { .. }
            | Self::Dnc { .. }
            | Self::Fltrust
            | Self::Flame
            | Self::Monna { .. } => WeightUse::Ignored,
        }
    }

    /// How many clients may be hostile, where the rule has such a number.
    pub fn tolerate(&self) -> Option<usize> {
        match *self {
            Self::Median { tolerate }
            | Self::TrimmedMean { tolerate }
            | Self::Meamed { tolerate }
            | Self::Phocas { tolerate }
            | Self::Krum { tolerate, .. }
            | Self::MultiKrum { tolerate, .. }
            | Self::Bulyan { tolerate, .. }
            | Self::Mda { tolerate }
            | Self::Caf { tolerate }
            | Self::Dnc { tolerate, .. }
            | Self::Monna { tolerate } => Some(tolerate),
            Self::Mean
            | Self::SignMajority
            | Self::TaskArithmetic { .. }
            | Self::Ties(_)
            | Self::Sce { .. }
            | Self::Ram { .. }
            | Self::Magmax
            | Self::Consensus { .. }
            | Self::GeometricMedian { .. }
            | Self::CenteredClipping { .. }
            | Self::Fltrust
            | Self::Flame => None,
        }
    }

    /// Whether the rule works in the space of inner products rather than coordinate by coordinate.
    pub fn is_of_the_gram(&self) -> bool {
        matches!(
            self,
            Self::Krum { .. }
                | Self::MultiKrum { .. }
                | Self::Bulyan { .. }
                | Self::GeometricMedian { .. }
                | Self::CenteredClipping { .. }
                | Self::Mda { .. }
                | Self::Caf { .. }
                | Self::Dnc { .. }
                | Self::Fltrust
                | Self::Flame
                | Self::Monna { .. }
        )
    }

    /// Whether the rule compares the clients with a trusted one.
    pub fn needs_trusted(&self) -> bool {
        matches!(self, Self::Fltrust | Self::Monna { .. })
    }

    /// Whether coordinates that a client did not send are left out of the rule rather than counted as 0.
    pub fn ranks_values(&self) -> bool {
        matches!(
            self,
            Self::Median { .. }
                | Self::TrimmedMean { .. }
                | Self::Meamed { .. }
                | Self::Phocas { .. }
                | Self::Bulyan { .. }
        )
    }
}
