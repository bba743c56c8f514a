//! The client's log on its way to Python's `logging`: a bounded queue that a thread of Python empties.
//!
//! Nothing here waits for the interpreter. When nobody reads, the oldest lines go first, and the reader is told how many.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

/// Lines that wait for a reader.
const MAX_LINES: usize = 10_000;
/// What our own crates' targets begin with; what others have to say is of interest as a warning only.
const OURS: &str = "fedmerge";
/// The name under which what a user is told stands in the log.
const TOLD: &str = "fedmerge_client";

/// Level (1 for an error to 5 for a trace), target, text.
type Line = (u8, String, String);

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Line>,
    lost: u64,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue {
    lines: VecDeque::new(),
    lost: 0,
});
static CHANGED: Condvar = Condvar::new();
static STARTED: OnceLock<()> = OnceLock::new();

fn queue() -> MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn push(line: Line) {
    let mut queue = queue();
    if queue.lines.len() >= MAX_LINES {
        queue.lines.pop_front();
        queue.lost += 1;
    }
    queue.lines.push_back(line);
    drop(queue);
    CHANGED.notify_all();
}

/// Adds a line that a user of the program would be told.
pub(crate) fn tell(text: impl fmt::Display) {
    push((number(Level::INFO), TOLD.to_owned(), text.to_string()));
}

fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// Puts events into the queue.
#[derive(Debug)]
struct Bridge {
    ours: LevelFilter,
}

impl<S: Subscriber> Layer<S> for Bridge {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        let limit = if target.starts_with(OURS) {
            self.ours
        } else {
            LevelFilter::WARN
        };
        if level > limit {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        push((number(level), target.to_owned(), text.0));
    }
}

/// A message with its fields: `trying again reason=…`.
#[derive(Debug, Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = if field.name() == "message" {
            let rest = std::mem::take(&mut self.0);
            write!(self.0, "{value:?}{rest}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        // As above.
        let _ = write!(self.0, " {}={value}", field.name());
    }
}

/// Begins to log, once: what is said by the client up to this level (1 for errors alone to 5 for everything).
#[pyfunction]
pub(crate) fn start_log(level: u8) {
    STARTED.get_or_init(|| {
        let ours = match level {
            0 => LevelFilter::OFF,
            1 => LevelFilter::ERROR,
            2 => LevelFilter::WARN,
            3 => LevelFilter::INFO,
            4 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        };
        let subscriber = tracing_subscriber::registry().with(Bridge { ours });
        // Another module of this process may have set one: then that one has the log.
        let _ = tracing::subscriber::set_global_default(subscriber);
    });
}

/// Whether there is something to read, waiting a while for it.
#[pyfunction]
pub(crate) fn wait_for_log(py: Python<'_>, limit_ms: u64) -> bool {
    py.detach(|| {
        let queue = queue();
        let waited = CHANGED.wait_timeout_while(queue, Duration::from_millis(limit_ms), |queue| {
            queue.lines.is_empty()
        });
        let queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        !queue.lines.is_empty()
    })
}

/// All that there is to read.
#[pyfunction]
pub(crate) fn take_log() -> Vec<Line> {
    let mut queue = queue();
    let mut lines: Vec<Line> = queue.lines.drain(..).collect();
    let lost = std::mem::take(&mut queue.lost);
    if lost > 0 {
        let words = format!("{lost} older lines of the log were not read in time and are lost");
        lines.insert(0, (number(Level::WARN), TOLD.to_owned(), words));
    }
    lines
}
