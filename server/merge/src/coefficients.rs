//! Numbers by which whole task vectors are scaled before they meet: computed from norms alone, after the observing pass.

pub(crate) mod clip;
