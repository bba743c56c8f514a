//! The accuracy curve in the terminal.
//!
//! Pure: numbers in, text out; whoever prints it knows the width.

use textplots::{Chart, LabelBuilder, LabelFormat, Plot, Shape, TickDisplay, TickDisplayBuilder};

/// Columns left of a narrow terminal; below, a curve says nothing.
const FEWEST_COLUMNS: u16 = 32;
/// Wider curves are no easier to read.
const MOST_COLUMNS: u16 = 100;
/// Columns right of the curve for the labels.
const LABEL_COLUMNS: u16 = 8;
/// Rows of the curve: a label at every fourth, 25 percent apart.
const ROWS: u32 = 16;
/// Dots of one character.
const DOTS: (u32, u32) = (2, 4);

/// Draws accuracy over rounds, from the first base (round 0) on, for a terminal of `columns`.
///
/// Empty when there is no curve to draw.
pub(super) fn accuracy_curve(accuracies: &[f64], columns: u16) -> String {
    if accuracies.len() < 2 || columns < FEWEST_COLUMNS {
        return String::new();
    }
    let width = u32::from(columns.clamp(FEWEST_COLUMNS, MOST_COLUMNS) - LABEL_COLUMNS) * DOTS.0;
    let points: Vec<(f32, f32)> = (0_u16..)
        .map(f32::from)
        .zip(accuracies.iter().map(|&value| shown(value)))
        .collect();
    let last = points.last().map_or(1.0, |&(round, _)| round);
    let whole = |value: f32| format!("{value:.0}");
    let percent = |value: f32| format!("{:.0} %", value * 100.0);
    let curve = Shape::Lines(&points);
    let mut chart = Chart::new_with_y_range(width, ROWS * DOTS.1, 0.0, last, 0.0, 1.0);
    let chart = chart
        .lineplot(&curve)
        .x_label_format(LabelFormat::Custom(Box::new(whole)))
        .y_label_format(LabelFormat::Custom(Box::new(percent)))
        .y_tick_display(TickDisplay::Sparse);
    chart.axis();
    chart.figures();
    let drawn = chart.to_string().replace('\u{2800}', " ");
    drawn
        .lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}

/// An accuracy as the single precision that the chart takes.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a dot on a screen needs no double precision"
)]
fn shown(accuracy: f64) -> f32 {
    accuracy as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_fits_its_terminal() {
        for columns in [40, 80, 200] {
            let curve = accuracy_curve(&[0.1, 0.6, 0.8, 0.9, 0.95], columns);
            let widest = curve.lines().map(|line| line.chars().count()).max();
            assert!(
                widest.is_some_and(|widest| widest <= usize::from(columns)),
                "{columns}\n{curve}"
            );
            assert!(curve.contains("100 %") && curve.contains("0 %"), "{curve}");
        }
    }

    #[test]
    fn one_point_is_no_curve() {
        assert_eq!(accuracy_curve(&[0.1], 80), "");
        assert_eq!(accuracy_curve(&[], 80), "");
    }
}
