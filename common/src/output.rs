//! What a command says: data on stdout, everything else on stderr.
//!
//! In JSON mode stdout carries JSON alone, one value a line. A reader that went away (`| head`) is
//! not an error.

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;

/// Form of the data on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON value a line.
    Json,
}

/// Where a command's words go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Output {
    /// Form of the data on stdout.
    pub format: OutputFormat,
    /// Whether lines and notes are left out.
    pub quiet: bool,
    /// How often `-v` was given.
    pub verbosity: u8,
}

impl Output {
    /// Whether stdout carries lines for people.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.format == OutputFormat::Text
    }

    /// Whether stdout carries JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.format == OutputFormat::Json
    }

    /// Writes a line for people on stdout; nothing in JSON mode or when quiet.
    pub fn line(&self, line: impl fmt::Display) {
        if self.is_text() && !self.quiet {
            write_line(io::stdout().lock(), format_args!("{line}"));
        }
    }

    /// Writes a value as one line of JSON on stdout; nothing in text mode.
    ///
    /// # Panics
    /// When the value cannot be JSON, which is a defect of its type.
    pub fn json(&self, value: &impl Serialize) {
        if self.is_json() {
            let json = serde_json::to_string(value).expect("output types have string keys");
            write_line(io::stdout().lock(), format_args!("{json}"));
        }
    }

    /// Writes a remark on stderr; nothing when quiet.
    pub fn note(&self, note: impl fmt::Display) {
        if !self.quiet {
            write_line(io::stderr().lock(), format_args!("{note}"));
        }
    }
}

/// Writes and flushes a line. Nobody is left to tell when that fails.
fn write_line(mut stream: impl Write, line: fmt::Arguments<'_>) {
    let _unread = writeln!(stream, "{line}").and_then(|()| stream.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_not_an_error() {
        write_line(Gone, format_args!("unheard"));
    }

    #[test]
    fn the_format_is_text_unless_asked_otherwise() {
        assert!(Output::default().is_text());
        assert!(
            Output {
                format: OutputFormat::Json,
                ..Output::default()
            }
            .is_json()
        );
    }
}
