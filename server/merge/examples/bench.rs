//! Prints a table of how fast merges read, beside a plain read of the same bytes that adds them up:
//! `cargo run --release -p fedmerge-merge --example bench -- [CLIENTS]… [--values N] [--type f32|bf16|f16] [--rule NAME]…`
//!
//! GB/s are those of one pass over base and task vectors, whatever the number of passes: the ratio says how near a whole merge comes to
//! reading its inputs once. Yardstick and merge take turns, and the median of each is told, because machines are noisy.

#[path = "../benches/in_memory.rs"]
mod in_memory;

use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};

use fedmerge_merge::{Detail, Recipe};
use in_memory::{Round, Type, recipes};

/// How many times each is timed.
const TURNS: usize = 9;

/// What is asked for.
struct Arguments {
    clients: Vec<usize>,
    values: usize,
    of: Type,
    /// Which rules are timed; none: all.
    rules: Vec<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments {
        clients,
        values,
        of,
        rules,
    } = arguments()?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{values} values of {}, {} threads",
        name_of(of),
        rayon::current_num_threads()
    )?;
    writeln!(
        out,
        "{:<20}{:>8}{:>12}{:>10}{:>8}",
        "rule", "clients", "seconds", "GB/s", "ratio"
    )?;
    for clients in clients {
        let mut round = Round::new(clients, values, of);
        let bytes = (clients + 1) * values * of.bytes();
        let is_wanted = |name: &str| rules.is_empty() || rules.iter().any(|rule| rule == name);
        let wanted = recipes(clients)
            .into_iter()
            .filter(|(name, _)| is_wanted(name))
            .collect::<Vec<_>>();
        if wanted.is_empty() {
            return Err(format!("no such rule for {clients} clients: {}", rules.join(", ")).into());
        }
        for (number, (name, recipe)) in wanted.into_iter().enumerate() {
            let timing = Timing::of(&mut round, &recipe, Detail::Brief);
            if number == 0 {
                line(&mut out, "read and sum", clients, timing.read, bytes, 1.0)?;
            }
            line(&mut out, name, clients, timing.merge, bytes, timing.ratio)?;
            if name == "trimmed-mean f=3" {
                let timing = Timing::of(&mut round, &recipe, Detail::Full);
                line(
                    &mut out,
                    "  with diagnostics",
                    clients,
                    timing.merge,
                    bytes,
                    timing.ratio,
                )?;
            }
        }
    }
    Ok(())
}

/// Medians over some turns, in seconds.
struct Timing {
    read: f64,
    merge: f64,
    ratio: f64,
}

impl Timing {
    fn of(round: &mut Round, recipe: &Recipe, detail: Detail) -> Self {
        let (mut reads, mut merges, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let read = timed(|| {
                std::hint::black_box(round.read_and_sum());
            });
            let merge = timed(|| {
                std::hint::black_box(round.merge(recipe, detail));
            });
            reads.push(read.as_secs_f64());
            merges.push(merge.as_secs_f64());
            ratios.push(read.as_secs_f64() / merge.as_secs_f64());
        }
        Self {
            read: median(reads),
            merge: median(merges),
            ratio: median(ratios),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate of bytes")]
fn line(
    out: &mut impl Write,
    label: &str,
    clients: usize,
    seconds: f64,
    bytes: usize,
    ratio: f64,
) -> std::io::Result<()> {
    let rate = bytes as f64 / seconds / 1e9;
    writeln!(
        out,
        "{label:<20}{clients:>8}{seconds:>12.4}{rate:>10.2}{ratio:>8.2}"
    )
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut arguments = Arguments {
        clients: Vec::new(),
        values: 10_000_000,
        of: Type::F32,
        rules: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--values" => {
                arguments.values = words.next().ok_or("--values needs a number")?.parse()?;
            }
            "--rule" => {
                let rule = words.next().ok_or("--rule needs a name of the table")?;
                arguments.rules.push(rule);
            }
            "--type" => {
                let name = words.next().ok_or("--type needs f32, bf16 or f16")?;
                let of = [Type::F32, Type::Bf16, Type::F16]
                    .into_iter()
                    .find(|of| name_of(*of) == name);
                arguments.of = of.ok_or("--type is f32, bf16 or f16")?;
            }
            clients => arguments.clients.push(clients.parse()?),
        }
    }
    if arguments.clients.is_empty() {
        arguments.clients = vec![10];
    }
    Ok(arguments)
}

fn name_of(of: Type) -> &'static str {
    match of {
        Type::F32 => "f32",
        Type::Bf16 => "bf16",
        Type::F16 => "f16",
    }
}
