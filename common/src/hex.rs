//! Lowercase hexadecimal: how bytes look in digests, pins and serial numbers.
//!
//! Reading is strict (lowercase only, exact length), so one value has one spelling.

use std::fmt::Write as _;

/// Spells `bytes` in lowercase hexadecimal.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
    }
    text
}

/// Reads exactly `N` bytes, or nothing: `text` must be `2 N` lowercase hexadecimal digits.
#[must_use]
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

/// Reads any number of bytes, or nothing: `text` must be pairs of lowercase hexadecimal digits.
#[must_use]
pub fn decode_all(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks() else {
        return None;
    };
    pairs
        .iter()
        .map(|&[high, low]| Some(nibble(high)? << 4 | nibble(low)?))
        .collect()
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        assert_eq!(encode(&[0x00, 0x9f, 0xff]), "009fff");
        assert_eq!(decode::<3>("009fff"), Some([0x00, 0x9f, 0xff]));
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in [
            "009FFF", "009ff", "009fff0", "009ffg", "", "00 9ff", "é9fff",
        ] {
            assert_eq!(decode::<3>(text), None, "{text}");
        }
    }
}
