//! What a merge tells about itself: numbers that were seen on the way, for the round's report.
//!
//! All of it is deterministic, as the merged model is. Times are measured by the caller: this crate reads no clock.

/// The numbers of one finished merge.
#[derive(Debug, Clone, PartialEq)]
pub struct MergeReport {
    /// One entry for each contribution, in the order given.
    pub clients: Vec<ClientReport>,
    /// Euclidean length of the step that was taken: of `lambda × merged task vector`.
    pub step_norm: f64,
    /// How many values of the merged model are not finite: 0 unless an input was not, or the result lies beyond `f32`.
    pub non_finite: u64,
}

/// What the merge saw of one client and what say it got.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClientReport {
    /// Euclidean length of the task vector as submitted.
    pub norm: f64,
    /// The factor in [0, 1] by which the stages before the method shortened it; 1 when nothing was cut.
    pub clip_factor: f64,
    /// The client's share of the weight, in [0, 1]; the same for all where the method ignores weights.
    pub weight_share: f64,
}
