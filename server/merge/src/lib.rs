//! The merge engine: exact, streaming, deterministic.
