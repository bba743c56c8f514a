//! Words split into planes of bytes, as they are or as distances from others, and joined again.

/// How a run is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    /// Logarithm to the base 2 of a word's length in bytes, 0 to 3.
    pub(super) width_log2: u8,
    /// Whether planes hold distances from an older version.
    pub(super) is_distance: bool,
}

const IS_DISTANCE: u8 = 1 << 2;

impl Form {
    pub(super) const fn width(self) -> usize {
        1 << self.width_log2
    }

    pub(super) const fn byte(self) -> u8 {
        self.width_log2 | if self.is_distance { IS_DISTANCE } else { 0 }
    }

    pub(super) const fn from_byte(byte: u8) -> Option<Self> {
        let form = Self {
            width_log2: byte & 3,
            is_distance: byte & IS_DISTANCE != 0,
        };
        if form.byte() == byte {
            Some(form)
        } else {
            None
        }
    }
}

/// Splits the whole words of a run; `planes` has as many bytes as they do. Without an older version there are no distances.
pub(super) fn split(run: &[u8], older: Option<&[u8]>, form: Form, planes: &mut [u8]) {
    let older = older.filter(|_| form.is_distance);
    match form.width_log2 {
        0 => split_words::<1>(run, older, planes),
        1 => split_words::<2>(run, older, planes),
        2 => split_words::<4>(run, older, planes),
        _ => split_words::<8>(run, older, planes),
    }
}

/// Puts the whole words of a run together again.
pub(super) fn join(planes: &[u8], older: Option<&[u8]>, form: Form, run: &mut [u8]) {
    let older = older.filter(|_| form.is_distance);
    match form.width_log2 {
        0 => join_words::<1>(planes, older, run),
        1 => join_words::<2>(planes, older, run),
        2 => join_words::<4>(planes, older, run),
        _ => join_words::<8>(planes, older, run),
    }
}

fn split_words<const WIDTH: usize>(run: &[u8], older: Option<&[u8]>, planes: &mut [u8]) {
    let words = planes.len() / WIDTH;
    let mut spread = |number: usize, word: [u8; WIDTH]| {
        for (plane, byte) in word.into_iter().enumerate() {
            planes[plane * words + number] = byte;
        }
    };
    let (run, _) = run.as_chunks::<WIDTH>();
    match older {
        None => {
            for (number, word) in run.iter().enumerate() {
                spread(number, *word);
            }
        }
        Some(older) => {
            let (older, _) = older.as_chunks::<WIDTH>();
            for (number, (word, older)) in run.iter().zip(older).enumerate() {
                spread(number, narrow(distance(wide(*word), wide(*older), WIDTH)));
            }
        }
    }
}

fn join_words<const WIDTH: usize>(planes: &[u8], older: Option<&[u8]>, run: &mut [u8]) {
    let words = planes.len() / WIDTH;
    let gather =
        |number: usize| std::array::from_fn::<u8, WIDTH, _>(|plane| planes[plane * words + number]);
    let (run, _) = run.as_chunks_mut::<WIDTH>();
    match older {
        None => {
            for (number, word) in run.iter_mut().enumerate() {
                *word = gather(number);
            }
        }
        Some(older) => {
            let (older, _) = older.as_chunks::<WIDTH>();
            for (number, (word, older)) in run.iter_mut().zip(older).enumerate() {
                *word = narrow(moved(wide(*older), wide(gather(number))));
            }
        }
    }
}

/// A word as a number.
fn wide<const WIDTH: usize>(word: [u8; WIDTH]) -> u64 {
    let mut bytes = [0; 8];
    bytes[..WIDTH].copy_from_slice(&word);
    u64::from_le_bytes(bytes)
}

/// The lower bytes of a number.
fn narrow<const WIDTH: usize>(number: u64) -> [u8; WIDTH] {
    let bytes = number.to_le_bytes();
    std::array::from_fn(|byte| bytes[byte])
}

/// The way from `older` to `word`, around the numbers of that width where that is shorter: 0, −1, 1, −2, … become 0, 1, 2, 3, …
const fn distance(word: u64, older: u64, width: usize) -> u64 {
    let unused = 64 - 8 * width;
    let way = (word.wrapping_sub(older) << unused).cast_signed() >> unused;
    ((way << 1) ^ (way >> 63)).cast_unsigned()
}

/// Where a distance leads from `older`; the bits above the width mean nothing.
const fn moved(older: u64, distance: u64) -> u64 {
    let way = (distance >> 1) ^ (distance & 1).wrapping_neg();
    older.wrapping_add(way)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_steps_are_small_numbers_in_both_directions_and_around_the_end() {
        let byte = |word, older| distance(word, older, 1);
        assert_eq!(
            [byte(7, 7), byte(6, 7), byte(8, 7), byte(5, 7)],
            [0, 1, 2, 3]
        );
        assert_eq!([byte(0, 255), byte(255, 0), byte(128, 0)], [2, 1, 255]);
        for width in [1, 2, 4, 8] {
            let most = u64::MAX >> (64 - 8 * width);
            for word in [0, 1, 77, most / 2, most / 2 + 1, most] {
                for older in [0, 1, 78, most / 2, most - 1, most] {
                    let distance = distance(word, older, width);
                    assert!(distance <= most);
                    assert_eq!(
                        moved(older, distance) & most,
                        word,
                        "{word} {older} {width}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_form_is_one_byte_and_no_other_byte_is_one() {
        let forms = (0..=u8::MAX).filter_map(Form::from_byte);
        assert_eq!(
            forms.map(Form::byte).collect::<Vec<_>>(),
            (0..8).collect::<Vec<u8>>()
        );
    }

    #[test]
    fn planes_are_the_first_bytes_then_the_second() {
        let form = Form {
            width_log2: 1,
            is_distance: false,
        };
        let mut planes = [0; 6];
        split(b"aAbBcC-", None, form, &mut planes);
        assert_eq!(&planes, b"abcABC");
        let mut run = *b"......-";
        join(&planes, None, form, &mut run);
        assert_eq!(&run, b"aAbBcC-");
    }
}
