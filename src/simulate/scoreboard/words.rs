//! Numbers and outcomes as a reader takes them in at a glance: bars, spans of time, clients grouped by their fate.

use fedmerge_common::units::ByteSize;

use crate::simulate::summary::{Refused, Round, Traffic};

/// Eighths of a character, left to right.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a few columns"
)]
#[expect(clippy::cast_precision_loss, reason = "a few columns")]
pub(super) fn blocks(share: f64, columns: usize) -> String {
    let eighths = (share.clamp(0.0, 1.0) * columns as f64 * 8.0).round() as usize;
    let rest = [
        None,
        Some('▏'),
        Some('▎'),
        Some('▍'),
        Some('▌'),
        Some('▋'),
        Some('▊'),
        Some('▉'),
    ][eighths % 8];
    "█".repeat(eighths / 8).chars().chain(rest).collect()
}

/// A loss in the width of its column: a destroyed model's is astronomical.
pub(super) fn loss(value: f64) -> String {
    if value < 10_000.0 {
        format!("{value:.3}")
    } else {
        format!("{value:.1e}")
    }
}

/// What a client sends and gets in a round on average, and what all did together; nothing where nobody took part.
pub(super) fn travelled(rounds: &[Round]) -> Option<String> {
    let traffic: Vec<&Traffic> = rounds.iter().flat_map(|round| &round.traffic).collect();
    let parts = u64::try_from(traffic.len())
        .ok()
        .filter(|parts| *parts > 0)?;
    let up: u64 = traffic.iter().map(|traffic| traffic.up_bytes).sum();
    let down: u64 = traffic.iter().map(|traffic| traffic.down_bytes).sum();
    let size = ByteSize::new;
    Some(format!(
        " {} up and {} down for each client and round; {} and {} in all",
        size(up / parts),
        size(down / parts),
        size(up),
        size(down)
    ))
}

/// One line for all clients with the same fate.
pub(super) fn grouped(refused: &[Refused]) -> Vec<String> {
    let mut groups: Vec<(&Refused, Vec<&str>)> = Vec::new();
    for client in refused {
        let same = |group: &&mut (&Refused, Vec<&str>)| {
            group.0.outcome == client.outcome && group.0.reason == client.reason
        };
        match groups.iter_mut().find(same) {
            Some((_, names)) => names.push(&client.client),
            None => groups.push((client, vec![&client.client])),
        }
    }
    let line = |(fate, names): (&Refused, Vec<&str>)| {
        let reason = fate.reason.lines().next().unwrap_or_default();
        let colon = if reason.is_empty() { "" } else { ": " };
        format!("{} {}{colon}{reason}", names.join(", "), fate.outcome)
    };
    groups.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_fits_its_column_whatever_it_is() {
        let shown = [0.1284, 2.314, 9999.0, 652_389_007_405.6, f64::NAN].map(loss);
        assert_eq!(shown, ["0.128", "2.314", "9999.000", "6.5e11", "NaN"]);
    }

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        assert_eq!(
            [
                blocks(0.0, 4),
                blocks(0.5, 4),
                blocks(1.0, 4),
                blocks(0.53, 4)
            ],
            ["", "██", "████", "██▏"]
        );
        assert_eq!(blocks(f64::NAN, 4), "");
    }

    #[test]
    fn clients_with_one_fate_share_a_line() {
        let refused = |client: &str, reason: &str| Refused {
            client: client.into(),
            outcome: "rejected".into(),
            reason: reason.into(),
        };
        let lines = grouped(&[
            refused("a", "non-finite: w"),
            refused("b", "too late"),
            refused("c", "non-finite: w"),
        ]);
        assert_eq!(
            lines,
            ["a, c rejected: non-finite: w", "b rejected: too late"]
        );
    }
}
