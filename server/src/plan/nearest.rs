//! The nearest known word to a misspelt one, for hints.
//!
//! It offers a word only when few letters differ: a far-fetched guess misleads more than no guess.

/// The known word that `word` was probably meant to be: at most a third of its letters, and at least one, may differ.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let letters = word.chars().count();
    let distance = |candidate: &str| strsim::damerau_levenshtein(&word, candidate);
    known
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, _)| *distance <= (letters / 3).max(1) && *distance < letters)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 5] = ["quorum", "mean", "median", "trimmed-mean", "max_bytes"];

    #[test]
    fn a_misspelt_word_finds_its_neighbour() {
        for (word, expected) in [
            ("qorum", "quorum"),
            ("Quorum", "quorum"),
            ("medain", "median"),
            ("trimmed_mean", "trimmed-mean"),
            ("TRIMED-MEAN", "trimmed-mean"),
            ("maxbytes", "max_bytes"),
        ] {
            assert_eq!(nearest(word, KNOWN), Some(expected), "{word}");
        }
    }

    #[test]
    fn a_word_far_from_all_finds_none() {
        for word in ["", "x", "average", "sum", "bytes"] {
            assert_eq!(nearest(word, KNOWN), None, "{word}");
        }
    }
}
