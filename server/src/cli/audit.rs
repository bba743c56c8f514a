//! `fedmerge server audit …`: reads the audit log in the ledger, whether or not the server runs, and copies of it elsewhere.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::output::Output;
use serde_json::Value;

use super::DirectoryArguments;
use super::list::{ListArguments, table};
use crate::audit::{AuditFault, AuditHead, AuditLine};
use crate::store::ledger::Ledger;

/// The deeds with the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List what was done, the newest last
    #[command(after_help = "Example:\n  fedmerge server audit list --dir hub --last 50")]
    List(ListArguments),
    /// Write the whole log as JSON lines, to be kept elsewhere
    #[command(after_help = "Example:\n  fedmerge server audit export audit.jsonl --dir hub")]
    Export(ExportArguments),
    /// Look whether a line was changed, removed or cut off: of the ledger, and of a copy of it
    #[command(
        after_help = "Examples:\n  fedmerge server audit verify --dir hub\n  fedmerge server audit verify --copy audit.jsonl --dir hub"
    )]
    Verify(VerifyArguments),
}

/// What `server audit export` takes.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// The file to make; one that is there is not replaced
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where the server is.
    #[command(flatten)]
    pub directory: DirectoryArguments,
}

/// What `server audit verify` takes.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// A copy that was kept elsewhere: the ledger must begin with it
    #[arg(long, value_name = "FILE")]
    pub copy: Option<PathBuf>,
    /// Where the server is.
    #[command(flatten)]
    pub directory: DirectoryArguments,
}

pub(super) async fn run(command: &AuditCommand, output: &Output) -> Result<(), Failure> {
    match command {
        AuditCommand::List(arguments) => list(arguments, output).await,
        AuditCommand::Export(arguments) => export(arguments, output).await,
        AuditCommand::Verify(arguments) => verify(arguments, output).await,
    }
}

async fn list(arguments: &ListArguments, output: &Output) -> Result<(), Failure> {
    let ledger = arguments.directory.ledger().await?;
    let count = ledger.audit_count().await?;
    let mut after = count.saturating_sub(arguments.count().into());
    let mut rows = Vec::new();
    loop {
        let texts = ledger.audit_lines(after).await?;
        if texts.is_empty() {
            break;
        }
        after += texts.len() as u64;
        for text in texts {
            let line = serde_json::from_str::<AuditLine>(&text);
            let line = line.map_err(|_| broken(&AuditFault::Unreadable { line: after }, LEDGER))?;
            output.json(&line);
            let (event, words) = in_words(&line);
            rows.push([line.seq.to_string(), line.time, event, words]);
        }
    }
    output.line(table(["line", "time", "event", ""], rows.into_iter()));
    Ok(())
}

/// The name of an event, and its fields one after the other; hashes by their beginnings.
fn in_words(line: &AuditLine) -> (String, String) {
    let fields = serde_json::to_value(&line.event).unwrap_or_default();
    let mut event = String::new();
    let mut words = Vec::new();
    for (name, value) in fields.as_object().into_iter().flatten() {
        match value_in_words(value) {
            Some(text) if name == "event" => event = text,
            Some(text) => words.push(format!("{} {text}", name.replace('_', " "))),
            None => {}
        }
    }
    (event, words.join(", "))
}

/// A value for people; nothing for one that says nothing.
fn value_in_words(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(match text.strip_prefix("blake3:").unwrap_or(text) {
            hash if is_hash(hash) => format!("{}…", &hash[..HASH_DIGITS]),
            _ => text.clone(),
        }),
        Value::Array(values) if values.is_empty() => None,
        Value::Array(values) => {
            let values = values.iter().filter_map(value_in_words);
            Some(values.collect::<Vec<_>>().join(" "))
        }
        Value::Object(model) if model.contains_key("version") => {
            let digest = model.get("digest").and_then(value_in_words);
            Some(format!(
                "{} ({})",
                model["version"],
                digest.unwrap_or_default()
            ))
        }
        Value::Object(pairs) if pairs.is_empty() => None,
        Value::Object(pairs) => {
            let pairs = pairs.iter().map(|(name, value)| {
                format!("{name}={}", value_in_words(value).unwrap_or_default())
            });
            Some(pairs.collect::<Vec<_>>().join(" "))
        }
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

async fn export(arguments: &ExportArguments, output: &Output) -> Result<(), Failure> {
    let ledger = arguments.directory.ledger().await?;
    let path = &arguments.file;
    let unwritable = |error| failed(path, "written", &error);
    let file = File::create_new(path).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            let message = format!("`{}` is there already", path.display());
            return Failure::new(ExitCode::Usage, message)
                .with_hint("choose another file; nothing in this one was changed");
        }
        unwritable(error)
    })?;
    let mut file = BufWriter::new(file);
    let mut lines = 0;
    loop {
        let texts = ledger.audit_lines(lines).await?;
        if texts.is_empty() {
            break;
        }
        for text in &texts {
            writeln!(file, "{text}").map_err(unwritable)?;
        }
        lines += texts.len() as u64;
    }
    let file = file.into_inner();
    let file = file.map_err(|error| unwritable(error.into_error()))?;
    file.sync_all().map_err(unwritable)?;
    output.line(format_args!("{lines} lines are in {}", path.display()));
    output.json(&serde_json::json!({ "event": "audit-exported", "lines": lines, "file": path }));
    Ok(())
}

async fn verify(arguments: &VerifyArguments, output: &Output) -> Result<(), Failure> {
    let ledger = arguments.directory.ledger().await?;
    let copy = match &arguments.copy {
        None => None,
        Some(path) => Some(read_copy(path)?),
    };
    let copied = copy.as_ref().map(Vec::len);
    let head = check(&ledger, copy.unwrap_or_default().into_iter()).await?;
    let digest = head.digest.map(|digest| digest.to_string());
    output.line(format_args!(
        "the log is whole: {} lines, the last is {}",
        head.lines,
        digest.as_deref().unwrap_or("none")
    ));
    if let Some(copied) = copied {
        output.line(format_args!("the copy is its first {copied} lines"));
    }
    output.json(&serde_json::json!({
        "event": "audit-verified",
        "lines": head.lines,
        "digest": digest,
        "copied_lines": copied,
    }));
    Ok(())
}

/// The lines of a copy, which must be a whole log by itself.
fn read_copy(path: &Path) -> Result<Vec<String>, Failure> {
    let unreadable = |error| failed(path, "read", &error);
    let file = BufReader::new(File::open(path).map_err(unreadable)?);
    let lines: Result<Vec<String>, io::Error> = file.lines().collect();
    let lines = lines.map_err(unreadable)?;
    let whole = lines
        .iter()
        .try_fold(AuditHead::EMPTY, |head, line| head.follow(line));
    whole.map_err(|fault| broken(&fault, format_args!("the copy `{}`", path.display())))?;
    Ok(lines)
}

/// Follows the ledger's log to its end; it must begin with the lines of a copy.
async fn check(
    ledger: &Ledger,
    mut copy: impl Iterator<Item = String>,
) -> Result<AuditHead, Failure> {
    let mut head = AuditHead::EMPTY;
    loop {
        let texts = ledger.audit_lines(head.lines).await?;
        if texts.is_empty() {
            break;
        }
        for text in texts {
            let line = head.lines + 1;
            if copy.next().is_some_and(|copied| copied != text) {
                return Err(broken(&AuditFault::Differs { line }, LEDGER));
            }
            head = head.follow(&text).map_err(|fault| broken(&fault, LEDGER))?;
        }
    }
    if copy.next().is_some() {
        let lines = head.lines;
        return Err(broken(&AuditFault::Ahead { lines }, LEDGER));
    }
    Ok(head)
}

/// So many digits tell one hash from another by eye; `--format json` has them all.
const HASH_DIGITS: usize = 12;
const LEDGER: &str = "the audit log in the ledger";

fn broken(fault: &AuditFault, what: impl fmt::Display) -> Failure {
    Failure::new(ExitCode::BadData, format!("{what} is not whole"))
        .with_source(fault)
        .with_hint("compare it with a copy that was kept elsewhere, and with backups of the ledger")
}

fn failed(path: &Path, what: &str, error: &io::Error) -> Failure {
    let message = format!("`{}` cannot be {what}", path.display());
    Failure::new(ExitCode::Unavailable, message).with_source(error)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use fedmerge_common::digest::Digest;
    use fedmerge_common::ids::ModelVersion;
    use fedmerge_common::update::ModelRef;

    use super::*;
    use crate::audit::AuditEvent;

    #[test]
    fn an_event_is_told_in_words_that_fit_a_line() {
        let digest = Digest::of(b"model");
        let model = ModelRef {
            version: ModelVersion::new(3),
            digest,
            size_bytes: 5,
        };
        let begin = &digest.hex()[..HASH_DIGITS];
        for (event, name, expected) in [
            (
                AuditEvent::ModelPublished {
                    model,
                    parent: None,
                },
                "model-published",
                format!("model 3 ({begin}…)"),
            ),
            (
                AuditEvent::RoundClosed {
                    round: fedmerge_common::ids::RoundNumber::new(2),
                    outcome: "published model 3".to_owned(),
                    accepted: ["a", "b"].map(|name| name.parse().unwrap()).into(),
                    others: [("c".parse().unwrap(), "silent".to_owned())].into(),
                },
                "round-closed",
                "accepted a b, others c=silent, outcome published model 3, round 2".to_owned(),
            ),
        ] {
            let line = AuditLine {
                seq: 1,
                time: String::new(),
                previous: None,
                event,
            };
            assert_eq!(in_words(&line), (name.to_owned(), expected));
        }
    }
}
