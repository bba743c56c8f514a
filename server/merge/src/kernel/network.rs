//! Sorting networks: lists of comparators by which any values come into order, whatever they are.
//!
//! Batcher's odd-even merge sort of the next power of two, without what touches rows beyond the end. A network whose middle is only
//! added up needs less: [`Need`] flows from the outputs back to the inputs and leaves out what nothing depends on. Which order the
//! rows of the middle then have depends on the rows' order, and is the same on every machine.

/// The most comparators of a network for so many rows; `None` when they cannot be counted.
pub(super) fn most_comparators(count: usize) -> Option<usize> {
    let power = count.checked_next_power_of_two()?.trailing_zeros();
    let power = usize::try_from(power).ok()?;
    // (p² − p + 4) 2ᵖ⁻² − 1 for 2ᵖ rows.
    (power * power + 4 - power)
        .checked_mul(count.checked_next_power_of_two()?)?
        .div_ceil(4)
        .checked_sub(1)
}

/// Writes a network for `count` rows, as far as there is room; tells how many comparators it has.
pub(super) const fn batcher(count: usize, into: &mut [(usize, usize)]) -> usize {
    let mut written = 0;
    let mut sorted = 1;
    while sorted < count {
        let mut distance = sorted;
        while distance >= 1 {
            // Those that compare at a distance from `first` on, in runs of as many, each within its merge.
            let first = distance % sorted;
            let mut low = first;
            while low + distance < count {
                let is_in_run = ((low - first) / distance).is_multiple_of(2);
                if is_in_run && low / (2 * sorted) == (low + distance) / (2 * sorted) {
                    put(into, written, (low, low + distance));
                    written += 1;
                }
                low += 1;
            }
            distance /= 2;
        }
        sorted *= 2;
    }
    written
}

const fn put(into: &mut [(usize, usize)], at: usize, comparator: (usize, usize)) {
    if at < into.len() {
        into[at] = comparator;
    }
}

/// What becomes of a row's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing.
    Nothing,
    /// It is added to others that are.
    Sum,
    /// It must be the value of its rank.
    Rank,
}

/// What a comparator writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writes {
    Nothing,
    /// The minimum alone.
    Low,
    /// The maximum alone.
    High,
    Both,
}

/// What a comparator must write for those needs of its outputs.
pub(super) const fn writes(low: Need, high: Need) -> Writes {
    match (low, high) {
        (Need::Nothing, Need::Nothing) | (Need::Sum, Need::Sum) => Writes::Nothing,
        (Need::Sum | Need::Rank, Need::Nothing) => Writes::Low,
        (Need::Nothing, Need::Sum | Need::Rank) => Writes::High,
        (Need::Rank, Need::Sum | Need::Rank) | (Need::Sum, Need::Rank) => Writes::Both,
    }
}

/// One comparator of a list that is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) low: u32,
    pub(super) high: u32,
    pub(super) writes: Writes,
}

/// The network that fulfils these needs, one for each row.
pub(super) fn pruned(mut needs: Vec<Need>) -> Vec<Step> {
    let mut comparators = vec![(0, 0); batcher(needs.len(), &mut [])];
    batcher(needs.len(), &mut comparators);
    let mut steps = Vec::with_capacity(comparators.len());
    for (low, high) in comparators.into_iter().rev() {
        let writes = writes(needs[low], needs[high]);
        if writes == Writes::Nothing {
            continue;
        }
        (needs[low], needs[high]) = (Need::Rank, Need::Rank);
        let [low, high] = [low, high].map(|row| u32::try_from(row).expect("a row is a client"));
        steps.push(Step { low, high, writes });
    }
    steps.reverse();
    steps
}

/// What a mean of all but the `drop` lowest and highest of `count` rows needs.
pub(super) fn middle(count: usize, drop: usize) -> Vec<Need> {
    (0..count)
        .map(|row| {
            if row < drop || row + drop >= count {
                Need::Nothing
            } else {
                Need::Sum
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pattern after one comparator: a one below a zero changes places with it.
    fn exchanged(bits: u32, &Step { low, high, writes }: &Step) -> u32 {
        let (least, most) = (
            (bits >> low) & (bits >> high) & 1,
            ((bits >> low) | (bits >> high)) & 1,
        );
        let put = |bits: u32, row: u32, bit: u32| (bits & !(1 << row)) | (bit << row);
        match writes {
            Writes::Nothing => bits,
            Writes::Low => put(bits, low, least),
            Writes::High => put(bits, high, most),
            Writes::Both => put(put(bits, low, least), high, most),
        }
    }

    #[test]
    fn a_full_network_sorts_every_pattern_of_zeros_and_ones_which_decides_it() {
        for count in 0..=16_usize {
            let steps = pruned(vec![Need::Rank; count]);
            for pattern in 0..1_u32 << count {
                let bits = steps.iter().fold(pattern, exchanged);
                let ones = pattern.count_ones() as usize;
                assert_eq!(bits, ((1 << ones) - 1) << (count - ones), "{count}");
            }
        }
    }

    #[test]
    fn a_pruned_network_leaves_the_right_values_in_the_middle_for_every_pattern() {
        for count in 1..=12_usize {
            for drop in 0..=(count - 1) / 2 {
                let steps = pruned(middle(count, drop));
                let kept = count - 2 * drop;
                for pattern in 0..1_u32 << count {
                    let bits = steps.iter().fold(pattern, exchanged);
                    let ones = (pattern.count_ones() as usize)
                        .saturating_sub(drop)
                        .min(kept);
                    let middle = (bits >> drop) & ((1 << kept) - 1);
                    assert_eq!(middle.count_ones() as usize, ones, "{count} {drop}");
                }
            }
        }
    }

    #[test]
    fn pruning_saves_what_it_should() {
        let instructions = |steps: Vec<Step>| -> usize {
            steps
                .iter()
                .map(|step| 1 + usize::from(step.writes == Writes::Both))
                .sum()
        };
        let full = |count| instructions(pruned(vec![Need::Rank; count]));
        let trimmed = |count, drop| instructions(pruned(middle(count, drop)));
        assert_eq!(
            [full(10), trimmed(10, 1), trimmed(10, 3), trimmed(10, 4)],
            [64, 44, 46, 50]
        );
        assert_eq!([full(16), trimmed(16, 1), trimmed(16, 7)], [126, 42, 90]);
        assert!(pruned(middle(10, 0)).is_empty(), "a sum needs no order");
    }

    #[test]
    fn the_bound_of_comparators_is_the_length_of_the_full_network() {
        for (count, comparators) in [
            (1, 0),
            (2, 1),
            (16, 63),
            (64, 543),
            (128, 1471),
            (256, 3839),
        ] {
            assert_eq!(batcher(count, &mut []), comparators);
            assert_eq!(most_comparators(count), Some(comparators));
        }
        for count in 1..300 {
            assert!(batcher(count, &mut []) <= most_comparators(count).unwrap_or_default());
        }
        assert_eq!(most_comparators(usize::MAX), None);
    }
}
