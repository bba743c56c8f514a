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
        0 => bytes::split(run, older, planes),
        1 => pairs::split(run, older, planes),
        2 => quads::split(run, older, planes),
        _ => octets::split(run, older, planes),
    }
}

/// Puts the whole words of a run together again.
pub(super) fn join(planes: &[u8], older: Option<&[u8]>, form: Form, run: &mut [u8]) {
    let older = older.filter(|_| form.is_distance);
    match form.width_log2 {
        0 => bytes::join(planes, older, run),
        1 => pairs::join(planes, older, run),
        2 => quads::join(planes, older, run),
        _ => octets::join(planes, older, run),
    }
}

/// Splitting and joining for words of one length: spelt out for each, because loops over these numbers become vector instructions.
macro_rules! words {
    ($name:ident, $word:ty) => {
        mod $name {
            type Word = $word;
            const WIDTH: usize = size_of::<Word>();

            pub(super) fn split(run: &[u8], older: Option<&[u8]>, planes: &mut [u8]) {
                let words = planes.len() / WIDTH;
                let (run, _) = run.as_chunks::<WIDTH>();
                let mut spread = |number: usize, word: [u8; WIDTH]| {
                    for (plane, byte) in word.into_iter().enumerate() {
                        planes[plane * words + number] = byte;
                    }
                };
                let Some(older) = older else {
                    for (number, word) in run.iter().enumerate() {
                        spread(number, *word);
                    }
                    return;
                };
                let (older, _) = older.as_chunks::<WIDTH>();
                for (number, (word, older)) in run.iter().zip(older).enumerate() {
                    let distance =
                        distance(Word::from_le_bytes(*word), Word::from_le_bytes(*older));
                    spread(number, distance.to_le_bytes());
                }
            }

            pub(super) fn join(planes: &[u8], older: Option<&[u8]>, run: &mut [u8]) {
                let words = planes.len() / WIDTH;
                let (run, _) = run.as_chunks_mut::<WIDTH>();
                for (number, word) in run.iter_mut().enumerate() {
                    *word = std::array::from_fn(|plane| planes[plane * words + number]);
                }
                let (older, _) = older.unwrap_or_default().as_chunks::<WIDTH>();
                for (word, older) in run.iter_mut().zip(older) {
                    let moved = moved(Word::from_le_bytes(*older), Word::from_le_bytes(*word));
                    *word = moved.to_le_bytes();
                }
            }

            /// The way from `older` to `word`, around the numbers of that length where that is shorter: 0, −1, 1, −2, … become 0, 1, 2, 3, …
            pub(super) const fn distance(word: Word, older: Word) -> Word {
                let way = word.wrapping_sub(older).cast_signed();
                ((way << 1) ^ (way >> (Word::BITS - 1))).cast_unsigned()
            }

            /// Where a distance leads from `older`.
            pub(super) const fn moved(older: Word, distance: Word) -> Word {
                let way = (distance >> 1) ^ (distance & 1).wrapping_neg();
                older.wrapping_add(way)
            }
        }
    };
}

words!(bytes, u8);
words!(pairs, u16);
words!(quads, u32);
words!(octets, u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_steps_are_small_numbers_in_both_directions_and_around_the_end() {
        let distance = bytes::distance;
        assert_eq!(
            [
                distance(7, 7),
                distance(6, 7),
                distance(8, 7),
                distance(5, 7)
            ],
            [0, 1, 2, 3]
        );
        assert_eq!(
            [distance(0, 255), distance(255, 0), distance(128, 0)],
            [2, 1, 255]
        );
        for word in 0..=u8::MAX {
            for older in 0..=u8::MAX {
                assert_eq!(bytes::moved(older, distance(word, older)), word);
            }
        }
        for word in [0, 1, 77, u32::MAX / 2, u32::MAX / 2 + 1, u32::MAX] {
            for older in [0, 1, 78, u32::MAX / 2, u32::MAX - 1, u32::MAX] {
                assert_eq!(quads::moved(older, quads::distance(word, older)), word);
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
