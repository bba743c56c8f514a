//! A failure of the client as Python sees it: exit code, words and hint, which `fedmerge/errors.py` makes an exception of.

use fedmerge_common::failure;
use pyo3::PyErr;
use pyo3::create_exception;
use pyo3::exceptions::PyException;

create_exception!(
    fedmerge._native,
    Failure,
    PyException,
    "What ends the client: exit code, message with its causes, and a hint or None."
);

/// The exception for a failure.
pub(crate) fn raise(failure: &failure::Failure) -> PyErr {
    let mut words = failure.message.clone();
    for cause in &failure.causes {
        words.push_str("\ncaused by: ");
        words.push_str(cause);
    }
    Failure::new_err((failure.exit.number(), words, failure.hint.clone()))
}
