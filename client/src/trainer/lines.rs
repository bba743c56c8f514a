//! Lines from a program that may print anything: bounded in length and in number, never in wait.
//!
//! A line over the bound is cut and the rest of it skipped; bytes that are not UTF-8 are replaced.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader};

/// Longest line that is looked at, bytes: a metrics line with many entries fits, a binary stream does not matter.
pub(crate) const MAX_LINE_BYTES: usize = 64 * 1024;

/// Reads a stream line by line.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: BufReader<R>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader: BufReader::new(reader),
        }
    }

    /// The next line without its end, `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        let mut started = false;
        loop {
            let (part, ended) =
                read_part(&mut self.reader, MAX_LINE_BYTES - line.len(), &mut line).await?;
            started |= part > 0;
            if ended {
                break;
            }
            if part == 0 {
                if !started {
                    return Ok(None);
                }
                break;
            }
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }
}

/// Takes what is buffered up to the end of the line; keeps at most `room` bytes of it.
async fn read_part<R: AsyncBufRead + Unpin>(
    reader: &mut R,
    room: usize,
    line: &mut Vec<u8>,
) -> io::Result<(usize, bool)> {
    let buffered = reader.fill_buf().await?;
    let end = buffered.iter().position(|&byte| byte == b'\n');
    let content = &buffered[..end.unwrap_or(buffered.len())];
    line.extend_from_slice(&content[..content.len().min(room)]);
    let taken = end.map_or(buffered.len(), |end| end + 1);
    reader.consume(taken);
    Ok((taken, end.is_some()))
}

/// The last lines of a stream, bounded in number and bytes.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Tail {
    const MAX_LINES: usize = 20;
    const MAX_BYTES: usize = 8 * 1024;

    pub(crate) fn push(&mut self, line: &str) {
        let line = as_shown(end_of(line, Self::MAX_BYTES));
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > Self::MAX_LINES || self.bytes > Self::MAX_BYTES {
            self.bytes -= self.lines.pop_front().map_or(self.bytes, |line| line.len());
        }
    }

    /// The lines, the oldest first, without blank ends.
    pub(crate) fn text(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        lines.join("\n").trim().to_owned()
    }
}

/// What a terminal would show of a line in the end: of a progress bar its last state, without colours. These words travel to
/// the server and into other people's terminals, so no control character goes with them.
fn as_shown(line: &str) -> String {
    let last = line.trim_end_matches('\r').rsplit('\r').next();
    let mut pieces = last.unwrap_or_default().split("\u{1b}[");
    let mut shown = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        // A sequence goes on to the first byte between @ and ~.
        shown.push_str(
            piece
                .trim_start_matches(|c| !('@'..='~').contains(&c))
                .get(1..)
                .unwrap_or_default(),
        );
    }
    shown.retain(|character| character == '\t' || !character.is_control());
    shown
}

/// The last `max_bytes` of a text, cut between characters.
pub(crate) fn end_of(text: &str, max_bytes: usize) -> &str {
    let mut start = text.len().saturating_sub(max_bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

/// Everything a trainer printed, in a file of bounded size.
#[derive(Debug)]
pub(crate) struct TrainerLog {
    file: Mutex<(File, u64)>,
}

impl TrainerLog {
    const MAX_BYTES: u64 = 1024 * 1024;

    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: Mutex::new((File::create(path)?, 0)),
        })
    }

    /// Adds a line; a log that is full or cannot be written stays as it is: a trainer must not fail for it.
    pub(crate) fn line(&self, stream: &str, line: &str) {
        let Ok(mut guard) = self.file.lock() else {
            return;
        };
        let (file, written_bytes) = &mut *guard;
        if *written_bytes < Self::MAX_BYTES {
            let entry = format!("{stream}: {line}\n");
            *written_bytes += entry.len() as u64;
            if file.write_all(entry.as_bytes()).is_err() {
                *written_bytes = Self::MAX_BYTES;
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    async fn all(bytes: &[u8]) -> Vec<String> {
        let mut lines = Lines::new(bytes);
        let mut found = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            found.push(line);
        }
        found
    }

    #[tokio::test]
    async fn lines_end_at_newlines_and_at_the_end_of_the_stream() {
        assert_eq!(all(b"a\n\nb\r\nc").await, ["a", "", "b", "c"]);
        assert!(all(b"").await.is_empty());
    }

    #[tokio::test]
    async fn an_endless_line_is_cut_and_the_next_line_is_whole() {
        let mut bytes = vec![b'x'; 3 * MAX_LINE_BYTES];
        bytes.extend_from_slice(b"\nnext\n");
        let found = all(&bytes).await;
        assert_eq!(found[0].len(), MAX_LINE_BYTES);
        assert_eq!(found[1..], ["next"]);
    }

    #[tokio::test]
    async fn bytes_that_are_not_text_are_replaced() {
        assert_eq!(all(b"\xff\xfe\nok\n").await, ["\u{fffd}\u{fffd}", "ok"]);
    }

    #[test]
    fn a_tail_keeps_the_last_lines_only() {
        let mut tail = Tail::default();
        for number in 0..100 {
            tail.push(&number.to_string());
        }
        assert_eq!(tail.text().lines().count(), Tail::MAX_LINES);
        assert!(tail.text().ends_with("99"));
        tail.push(&"é".repeat(Tail::MAX_BYTES));
        assert!(tail.text().len() <= Tail::MAX_BYTES);
    }

    #[test]
    fn last_words_are_what_a_terminal_would_show_and_cannot_command_one() {
        for (line, shown) in [
            ("\r 10%|#   |\r 90%|### |\r", " 90%|### |"),
            ("\u{1b}[1;31merror\u{1b}[0m: no data", "error: no data"),
            ("\u{1b}]0;owned\u{7}bell", "]0;ownedbell"),
            ("cut off \u{1b}[31", "cut off "),
            ("é\u{1b}[é\u{9b}2Jx\u{0}", "éx"),
            ("a\tb", "a\tb"),
        ] {
            assert_eq!(as_shown(line), shown, "{line:?}");
        }
    }

    #[test]
    fn a_log_stops_growing_at_its_bound() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trainer.log");
        let log = TrainerLog::create(&path).unwrap();
        let line = "x".repeat(MAX_LINE_BYTES);
        for _ in 0..100 {
            log.line("stdout", &line);
        }
        assert!(path.metadata().unwrap().len() < TrainerLog::MAX_BYTES + 2 * MAX_LINE_BYTES as u64);
    }
}
