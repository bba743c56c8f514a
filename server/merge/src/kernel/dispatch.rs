//! Run-time choice of vector instructions: the same loops, compiled for what the processor has.
//!
//! Invariant: the result does not depend on the choice. Loops given to [`vectorized`] write out their order of summation, and the compiler
//! neither reorders floating-point sums nor fuses products into them, so wider registers change the time alone.

/// Runs `work`, which must be inlined as a whole (`#[inline(always)]` down to the loops), with the widest vectors that the machine has.
#[inline]
pub(crate) fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}
