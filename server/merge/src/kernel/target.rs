//! Where merged values go, tile by tile: into a row of their own, or at once into the model, while they are at hand.

use super::dispatch::vectorized;
use super::first_non_finite;

/// How many running sums the squares have.
const LANES: usize = 16;

/// The least magnitude that `f32` rounds to infinity: its largest number and half a step.
const BEYOND: f64 = 3.402_823_567_797_336_6e38;

/// Where the results of a rule go.
pub(crate) enum Target<'a> {
    /// They are kept.
    Row(&'a mut [f64]),
    /// They are added to the model, and forgotten: only where all clients sent all coordinates.
    Model(Model<'a>),
}

/// A run of the new model.
pub(crate) struct Model<'a> {
    /// The model before, where it is not in `after`.
    pub(crate) before: Option<&'a [f32]>,
    pub(crate) after: &'a mut [f64],
    /// By what merged values are multiplied.
    pub(crate) factor: f64,
    pub(crate) added: &'a mut Added,
}

/// What is known of all that was added to the model.
#[derive(Debug)]
pub(crate) struct Added {
    squares: [f64; LANES],
    non_finite: u64,
}

impl Target<'_> {
    /// How many values there is room for.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Row(row) => row.len(),
            Self::Model(model) => model.after.len(),
        }
    }

    /// Takes the values from `start` on, which is a multiple of the tile's width.
    #[inline(always)]
    pub(crate) fn put<const WIDTH: usize>(&mut self, start: usize, values: &[f64; WIDTH]) {
        match self {
            Self::Row(row) => row[start..start + WIDTH].copy_from_slice(values),
            Self::Model(model) => model.add(start, values),
        }
    }

    /// The same for the first values of a tile; may be called from code that is not vectorized.
    pub(crate) fn put_some<const WIDTH: usize>(
        &mut self,
        start: usize,
        values: &[f64; WIDTH],
        count: usize,
    ) {
        vectorized(
            #[inline(always)]
            || {
                if count == WIDTH {
                    self.put(start, values);
                } else {
                    for (at, value) in values[..count].as_chunks::<1>().0.iter().enumerate() {
                        self.put(start + at, value);
                    }
                }
            },
        );
    }

    /// Takes all values.
    pub(crate) fn put_all(&mut self, values: &[f64]) {
        vectorized(
            #[inline(always)]
            || {
                let (tiles, rest) = values.as_chunks::<LANES>();
                for (tile, values) in tiles.iter().enumerate() {
                    self.put(tile * LANES, values);
                }
                for (at, value) in rest.as_chunks::<1>().0.iter().enumerate() {
                    self.put(tiles.len() * LANES + at, value);
                }
            },
        );
    }

    /// What is kept, to mend what a rule did without looking.
    pub(crate) fn row(&mut self) -> Option<&mut [f64]> {
        match self {
            Self::Row(row) => Some(row),
            Self::Model(_) => None,
        }
    }

    /// Whether all that came, or all that the model became of it, are numbers.
    pub(crate) fn are_numbers(&self) -> bool {
        match self {
            Self::Row(row) => first_non_finite(row, false).is_none(),
            Self::Model(model) => model.added.non_finite == 0,
        }
    }
}

impl Default for Added {
    fn default() -> Self {
        Self {
            squares: [0.0; LANES],
            non_finite: 0,
        }
    }
}

impl Added {
    /// The square of what was added.
    pub(crate) fn squares(&self) -> f64 {
        self.squares.iter().sum()
    }

    /// How many values of the model are beyond what single precision holds, or no numbers.
    pub(crate) fn non_finite(&self) -> u64 {
        self.non_finite
    }
}

impl Model<'_> {
    /// In local arrays first: the compiler cannot know that the model and the sums are different memory.
    #[inline(always)]
    fn add<const WIDTH: usize>(&mut self, start: usize, values: &[f64; WIDTH]) {
        let after: &mut [f64; WIDTH] = self.after[start..]
            .first_chunk_mut()
            .expect("a tile lies within the model");
        let mut model = *after;
        if let Some(before) = self.before {
            let before: &[f32; WIDTH] = before[start..]
                .first_chunk()
                .expect("a tile lies within the model");
            for lane in 0..WIDTH {
                model[lane] = f64::from(before[lane]);
            }
        }
        let mut steps = [0.0; WIDTH];
        let mut beyond = 0_u64;
        for lane in 0..WIDTH {
            steps[lane] = values[lane] * self.factor;
            model[lane] += steps[lane];
            // NaN is within nothing.
            let is_within = model[lane].abs() < BEYOND;
            beyond = beyond.wrapping_add(u64::from(!is_within));
        }
        *after = model;
        self.added.non_finite += beyond;
        let mut squares = self.added.squares;
        if WIDTH == 1 {
            squares[start % LANES] += steps[0] * steps[0];
        }
        for steps in steps.as_chunks::<LANES>().0 {
            for lane in 0..LANES {
                squares[lane] += steps[lane] * steps[lane];
            }
        }
        self.added.squares = squares;
    }
}
