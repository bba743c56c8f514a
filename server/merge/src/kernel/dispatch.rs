//! Run-time choice of vector instructions: the same loops, compiled for what the processor has.
//!
//! Invariant: the result does not depend on the choice. Loops given to [`vectorized`] write out their order of summation, and the compiler
//! neither reorders floating-point sums nor fuses products into them, so wider registers change the time alone.

/// Runs `work` with the widest vectors that the machine has: `vectorized(#[inline(always)] || loops(rows, out))`.
///
/// The closure *and* all it calls down to the loops must be `#[inline(always)]`: what is not inlined is compiled for the oldest
/// processor of its kind, and nothing but the time tells.
#[inline]
pub(crate) fn vectorized<R>(work: impl FnMut() -> R) -> R {
    chosen().dispatch(Inlined(work))
}

/// `FnMut`, because a call through `FnOnce` goes by a shim that the compiler does not inline.
struct Inlined<F>(F);

impl<R, F: FnMut() -> R> pulp::NullaryFnOnce for Inlined<F> {
    type Output = R;

    #[inline(always)]
    fn call(mut self) -> R {
        (self.0)()
    }
}

/// The vector instructions that are used.
#[cfg(not(test))]
#[inline]
pub(super) fn chosen() -> pulp::Arch {
    pulp::Arch::new()
}

#[cfg(test)]
thread_local! {
    static FORCED: std::cell::Cell<Option<pulp::Arch>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
pub(super) fn chosen() -> pulp::Arch {
    FORCED.get().unwrap_or_default()
}

/// What `work` gives with each set of vector instructions that this machine has, the oldest first.
#[cfg(test)]
pub(crate) fn with_each<R>(mut work: impl FnMut() -> R) -> Vec<R> {
    let mut arches = vec![pulp::Arch::Scalar];
    #[cfg(target_arch = "x86_64")]
    {
        arches.extend(pulp::x86::V3::try_new().map(pulp::Arch::V3));
        arches.extend(pulp::x86::V4::try_new().map(pulp::Arch::V4));
    }
    #[cfg(not(target_arch = "x86_64"))]
    arches.push(pulp::Arch::new());
    let results = arches
        .into_iter()
        .map(|arch| {
            FORCED.set(Some(arch));
            work()
        })
        .collect();
    FORCED.set(None);
    results
}
