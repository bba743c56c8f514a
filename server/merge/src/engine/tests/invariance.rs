//! The same bytes and the same report, whatever the threads, the length of blocks and the memory.

use super::fixture::{AMPLE, Merge, Tensors, bits, methods, noise, staged};
use crate::{Detail, MergePlan, PlanError, Recipe, Resources};

/// Several runs even in one tensor, with a short last unit.
const LENGTHS: [usize; 5] = [1, 150_150, 0, 5000, 8192];

/// The least memory that suffices for so many threads.
fn tightest(ample: &MergePlan, threads: usize) -> Resources {
    let refused = MergePlan::new(
        ample.recipe().clone(),
        ample.tensors().to_vec(),
        ample.clients(),
        Resources {
            threads,
            memory_bytes: 0,
        },
        ample.detail(),
    );
    let Err(PlanError::MemoryTooSmall { needed_bytes, .. }) = refused else {
        panic!("0 bytes cannot suffice")
    };
    Resources {
        threads,
        memory_bytes: needed_bytes,
    }
}

#[test]
fn looking_closer_does_not_change_a_bit() {
    let base = noise(&LENGTHS, 0);
    let updates: Vec<Tensors> = (1..8).map(|seed| noise(&LENGTHS, seed)).collect();
    let count = updates.len();
    let recipes = methods(count)
        .into_iter()
        .map(Recipe::of)
        .chain(staged(count));
    for recipe in recipes {
        let brief = Merge::new(recipe, &base, &updates);
        let full = Merge {
            detail: Detail::Full,
            ..brief.clone()
        };
        let (model, _) = brief.run().unwrap();
        assert!(
            bits(&full.run().unwrap().0) == bits(&model),
            "{:?}",
            brief.recipe
        );
    }
}

#[test]
fn threads_blocks_and_memory_do_not_change_a_bit() {
    let base = noise(&LENGTHS, 0);
    let updates: Vec<Tensors> = (1..8).map(|seed| noise(&LENGTHS, seed)).collect();
    let count = updates.len();
    let recipes = methods(count)
        .into_iter()
        .map(Recipe::of)
        .chain(staged(count));
    for (number, recipe) in recipes.enumerate() {
        let detail = if number % 3 == 0 {
            Detail::Full
        } else {
            Detail::Brief
        };
        let merge = Merge {
            weights: vec![3.0, 1.0, 7.0, 100.0, 2.5, 1.0, 1.0],
            detail,
            row: 1001,
            ..Merge::new(
                Recipe {
                    lambda: 0.7,
                    ..recipe
                },
                &base,
                &updates,
            )
        };
        let ample = merge.plan();
        let (expected, told) = merge.run().unwrap();
        for (threads, slack) in [(1, 1), (3, 2), (8, 1)] {
            let tight = tightest(&ample, threads);
            let resources = Resources {
                memory_bytes: tight.memory_bytes * slack,
                threads,
            };
            let cut = Merge {
                resources,
                ..merge.clone()
            };
            assert!(cut.plan().peak_bytes() <= resources.memory_bytes);
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let (model, report) = pool.install(|| cut.run()).unwrap();
            assert!(
                bits(&model) == bits(&expected),
                "{:?} {resources:?}",
                merge.recipe
            );
            // Fewer values may be read where blocks are longer: rows that a block cuts are read whole.
            let report = crate::MergeReport {
                values_read: told.values_read,
                ..report
            };
            assert_eq!(report, told, "{:?} {resources:?}", merge.recipe);
        }
    }
    assert_eq!(AMPLE.threads, 2);
}
