//! Screening: every value is finite and within the limit, the whole is no longer than others are, and it belongs to its base. Measures
//! the norm on the way.

use std::sync::atomic::AtomicBool;

use fedmerge_common::checkpoint::Checkpoint;
use fedmerge_common::reason::Rejection;
use fedmerge_common::task_vector::coded::TaskVector;

use crate::intake::lineage::Lineage;
use crate::intake::{IntakeError, LengthLimit, Stop, Terms, go_on_unless};

/// Elements that are read at once.
const BLOCK_ELEMENTS: usize = 64 * 1024;

/// Answers the Euclidean norm of all values, summed in f64 in the order of tensors and elements.
pub(super) fn check(
    payload: &TaskVector,
    base: &Checkpoint,
    terms: &Terms,
    cancelled: &AtomicBool,
) -> Result<f64, Stop> {
    let largest = payload.schema().iter().map(|tensor| tensor.elements());
    let mut block = vec![0.0; largest.max().unwrap_or(0).min(BLOCK_ELEMENTS)];
    let mut lineage = Lineage::of(base);
    let mut squares = 0.0;
    for (index, tensor) in payload.schema().iter().enumerate() {
        lineage.begin(tensor);
        for offset in (0..tensor.elements()).step_by(BLOCK_ELEMENTS) {
            go_on_unless(cancelled)?;
            let values = &mut block[..BLOCK_ELEMENTS.min(tensor.elements() - offset)];
            payload
                .read_f32(index, offset, values)
                .map_err(IntakeError::Tensors)?;
            screen(tensor.name(), offset, values, terms.max_magnitude)?;
            squares += sum_of_squares(values);
            lineage.compare(offset, values).map_err(IntakeError::Base)?;
        }
        lineage.end(tensor);
    }
    let norm = f64::sqrt(squares);
    check_length(norm, terms.length)?;
    lineage.check(terms.max_replaced)?;
    Ok(norm)
}

fn check_length(norm: f64, limit: Option<LengthLimit>) -> Result<(), Rejection> {
    let Some(LengthLimit { typical, factor }) = limit else {
        return Ok(());
    };
    if norm <= factor * typical {
        return Ok(());
    }
    Err(Rejection::length(norm, factor * typical, typical))
}

/// The first value of a block that does not count.
fn screen(
    tensor: &str,
    offset: usize,
    values: &[f32],
    max_magnitude: f32,
) -> Result<(), Rejection> {
    let is_sound = |value: &f32| value.is_finite() && value.abs() <= max_magnitude;
    let Some(position) = values.iter().position(|value| !is_sound(value)) else {
        return Ok(());
    };
    let (index, value) = (offset + position, values[position]);
    if value.is_finite() {
        return Err(Rejection::magnitude(tensor, index, value, max_magnitude));
    }
    Err(Rejection::non_finite(tensor, index, value))
}

fn sum_of_squares(values: &[f32]) -> f64 {
    values
        .iter()
        .map(|&value| f64::from(value) * f64::from(value))
        .sum()
}
