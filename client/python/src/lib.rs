//! The native part of the package `fedmerge` for Python: the client itself, with Python as its trainer and evaluator.
//!
//! Python calls in and never the other way round: a task waits on the [`desk`] until Python takes it, and what the client has to
//! say waits in the [`log`]. So no thread of the client ever waits for the interpreter, and none of Python's waits here
//! with the interpreter's lock in its hand. What `python/fedmerge/_native.pyi` says is the whole of what Python sees.

mod client;
mod desk;
mod failure;
mod log;

use pyo3::prelude::*;

/// The client of a federation, without anything that Python does better. Use the package `fedmerge`.
#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::client::Assignment;
    #[pymodule_export]
    use crate::client::Client;
    #[pymodule_export]
    use crate::failure::Failure;
    #[pymodule_export]
    use crate::log::{start_log, take_log, wait_for_log};
}
