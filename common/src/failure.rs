//! How a command ends badly: a documented exit code, what failed, why, and what to do next.
//!
//! Every command returns a [`Failure`]; only `main` prints it and exits.

use std::error::Error;
use std::fmt;

/// Exit codes of the program, as in sysexits.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Ok = 0,
    /// The command line is wrong.
    Usage = 64,
    /// A file or message holds bad data.
    BadData = 65,
    /// Something needed is not there: a server, a file, a free port.
    Unavailable = 69,
    /// A defect of the program.
    Bug = 70,
    /// It may work when tried again.
    Temporary = 75,
    /// The other side refused.
    NotPermitted = 77,
    /// A configuration file is wrong.
    BadConfiguration = 78,
}

impl ExitCode {
    /// The number that the shell sees.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

/// An error and its causes in one line, the nearest first: `cannot read x: permission denied`. A cause
/// that only repeats the one before is left out.
#[must_use]
pub fn explain(error: &dyn Error) -> String {
    let failure = Failure::from_error(ExitCode::Bug, error);
    std::iter::once(failure.message)
        .chain(failure.causes)
        .collect::<Vec<_>>()
        .join(": ")
}

/// A command that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How the process ends.
    pub exit: ExitCode,
    /// What failed: a lowercase fragment.
    pub message: String,
    /// Why, the nearest cause first.
    pub causes: Vec<String>,
    /// What to do next.
    pub hint: Option<String>,
}

impl Failure {
    /// Says what failed.
    #[must_use]
    pub fn new(exit: ExitCode, message: impl fmt::Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
            causes: Vec::new(),
            hint: None,
        }
    }

    /// Makes `error` the message and its sources the causes.
    #[must_use]
    pub fn from_error(exit: ExitCode, error: &dyn Error) -> Self {
        let failure = Self::new(exit, error);
        match error.source() {
            Some(source) => failure.with_source(source),
            None => failure,
        }
    }

    /// Adds `error` and its sources as causes. A cause that only repeats the one before is left out.
    #[must_use]
    pub fn with_source(mut self, error: &dyn Error) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let cause = error.to_string();
            if self.causes.last().unwrap_or(&self.message) != &cause {
                self.causes.push(cause);
            }
            next = error.source();
        }
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "error: {}", self.message)?;
        for cause in &self.causes {
            write!(formatter, "\ncaused by: {cause}")?;
        }
        if let Some(hint) = &self.hint {
            write!(formatter, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl Error for Failure {}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read `a.safetensors`")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_failure_tells_what_why_and_what_next() {
        let error = Outer(io::Error::other("the disk is gone"));
        let failure = Failure::new(ExitCode::BadData, "cannot start the round")
            .with_source(&error)
            .with_hint("connect the disk");
        assert_eq!(
            failure.to_string(),
            "error: cannot start the round\ncaused by: cannot read `a.safetensors`\n\
             caused by: the disk is gone\nhint: connect the disk"
        );
    }

    #[test]
    fn an_error_becomes_the_message_and_is_not_repeated() {
        let error = Outer(io::Error::other(io::Error::other("the disk is gone")));
        let failure = Failure::from_error(ExitCode::Unavailable, &error);
        assert_eq!(failure.message, "cannot read `a.safetensors`");
        assert_eq!(failure.causes, ["the disk is gone"]);
    }

    #[test]
    fn an_error_is_explained_in_one_line() {
        let error = Outer(io::Error::other("the disk is gone"));
        assert_eq!(
            explain(&error),
            "cannot read `a.safetensors`: the disk is gone"
        );
    }

    #[test]
    fn exit_codes_are_the_documented_numbers() {
        let numbers = [
            (ExitCode::Ok, 0),
            (ExitCode::Usage, 64),
            (ExitCode::BadData, 65),
            (ExitCode::Unavailable, 69),
            (ExitCode::Bug, 70),
            (ExitCode::Temporary, 75),
            (ExitCode::NotPermitted, 77),
            (ExitCode::BadConfiguration, 78),
        ];
        for (code, number) in numbers {
            assert_eq!(code.number(), number);
        }
    }
}
