//! What a merge tells about itself: numbers that were seen on the way, for the round's report.
//!
//! All of it is deterministic, as the merged model is. Times are measured by the caller: this crate reads no clock.

/// The numbers of one finished merge.
#[derive(Debug, Clone, PartialEq)]
pub struct MergeReport {
    /// One entry for each contribution, in the order given.
    pub clients: Vec<ClientReport>,
    /// Euclidean length of the step that was taken.
    pub step_norm: f64,
    /// How many values of the merged model are not finite: 0 unless the result lies beyond `f32`.
    pub non_finite: u64,
    /// The limit of an adaptive clip for the next merge of the lineage.
    pub clip_limit: Option<f64>,
    /// How many steps the optimizer has taken, this one included; 0 without one.
    pub optimizer_steps: u64,
    /// How many values were read, of task vectors and of the base, all passes together.
    pub values_read: u64,
    /// How the clients agree; with [`crate::Detail::Full`].
    pub diagnostics: Option<Diagnostics>,
}

/// What the merge saw of one client and what say it got.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClientReport {
    /// Euclidean length of the task vector as submitted, where the merge had to know it.
    pub norm: Option<f64>,
    /// The factor in [0, 1] by which clipping shortened it; 1 when nothing was cut, or task vectors were mixed.
    pub clip_factor: f64,
    /// The coefficient of its task vector in the merged one, where that is a weighted sum; else its mean coefficient in the rows that
    /// the rule saw.
    pub weight: f64,
    /// Its share of the coefficients of all, in [0, 1].
    pub weight_share: f64,
}

/// How the clients of a merge agree, from their task vectors alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostics {
    /// Cosines of all pairs of task vectors, row by row; 0 where a length is 0.
    pub cosines: Vec<Vec<f64>>,
    /// Effective number of independent clients, `(tr G)² / tr(G²)` of the matrix `G` of inner products: 1 to the number of clients.
    pub effective_clients: f64,
    /// Gradient diversity `Σ‖τ‖² / ‖Στ‖²`: 1/n when all are equal, 1 when they are orthogonal.
    pub gradient_diversity: f64,
    /// Length of the merged task vector over the clients' mean length, weighted as merged: what disagreement has left of it.
    pub shrinkage: f64,
    /// Cosine of the merged task vector with the step before; none without history.
    pub drift: Option<f64>,
    /// For each client, in the order given.
    pub clients: Vec<ClientDiagnostics>,
    /// For each tensor, in the model's order.
    pub tensors: Vec<TensorDiagnostics>,
    /// For each pair of clients, row by row: the share of coordinates that both changed among those that either did (Jaccard).
    pub overlaps: Vec<Vec<f64>>,
}

/// One client among the others.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientDiagnostics {
    /// Distance of its task vector from the merged one.
    pub distance: f64,
    /// Share of its magnitude that has the sign opposite to that of the clients' sum, in [0, 1].
    pub disagreement: f64,
    /// Share of coordinates that it changed by more than 1e-5, in [0, 1].
    pub active: f64,
    /// Coordinates that others changed too, over those that it alone changed (RAM's ρ); none where it alone changed none.
    pub shared_ratio: Option<f64>,
    /// Hoyer's sparsity `(√n − ‖τ‖₁/‖τ‖₂) / (√n − 1)`: 0 when all magnitudes are equal, 1 when a single one is not 0.
    pub hoyer: f64,
    /// Share of the sum of magnitudes that lies in the largest 1, 10 and 20 % of them, to within an eighth of an octave; of tensors
    /// of more than 64 units of 4,096 values, every eighth unit is counted.
    pub top_mass: [f64; 3],
    /// Cosine with its own task vector of the round before; none where that is not known.
    pub previous: Option<f64>,
    /// Cosine with the step before; none without history.
    pub step: Option<f64>,
}

/// One tensor, all clients together.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorDiagnostics {
    /// Its name.
    pub name: String,
    /// Coordinates with both signs among those with at least 2 that are not 0, in [0, 1] (TIES).
    pub conflict_rate: f64,
    /// `Σ|Στ| / ΣΣ|τ|`, in [0, 1]: 1 when nothing cancels.
    pub mass_agreement: f64,
}
