//! How every list looks, and how much of one is wanted.

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};

use super::DirectoryArguments;

/// What a list that grows for ever takes.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Where the server is.
    #[command(flatten)]
    pub directory: DirectoryArguments,
    /// How many, the newest
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub last: u32,
    /// All of them
    #[arg(long, conflicts_with = "last")]
    pub all: bool,
}

impl ListArguments {
    /// How many are wanted, at most.
    pub(super) fn count(&self) -> u32 {
        if self.all { u32::MAX } else { self.last }
    }
}

/// Rows with a heading, in columns that fit the terminal.
pub(super) fn table<const N: usize>(
    heading: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(heading);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.to_string();
    let lines: Vec<&str> = lines.lines().map(str::trim_end).collect();
    lines.join("\n")
}
