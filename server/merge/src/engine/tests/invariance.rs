//! The same bytes and the same report, whatever the threads, the length of blocks and the memory.

use super::fixture::{AMPLE, bits, methods, noise, plan, run};
use crate::{Before, ClipNorm, MergePlan, PlanError, Recipe, Resources};

/// Several blocks even at the longest, with a short last unit.
const LENGTHS: [usize; 5] = [1, 150_001, 0, 5000, 8192];

fn tightest(ample: &MergePlan, threads: usize) -> Resources {
    let refused = MergePlan::new(
        ample.recipe().clone(),
        ample.tensors().to_vec(),
        ample.clients(),
        Resources {
            threads,
            memory_bytes: 0,
        },
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
fn threads_blocks_and_memory_do_not_change_a_bit() {
    let base = noise(&LENGTHS, 0);
    let updates: Vec<_> = (1..6).map(|seed| noise(&LENGTHS, seed)).collect();
    let weights = [3.0, 1.0, 7.0, 100.0, 2.5];
    for method in methods(updates.len()) {
        let recipe = Recipe {
            before: vec![Before::Clip {
                norm: ClipNorm::Median,
            }],
            method,
            lambda: 0.7,
        };
        let ample = plan(&recipe, &base, updates.len(), AMPLE);
        let (expected, expected_report) = run(&ample, &base, &updates, &weights).unwrap();
        for threads in [1, 3, 8] {
            let tight = tightest(&ample, threads);
            let medium = Resources {
                memory_bytes: tight.memory_bytes * 2,
                ..tight
            };
            for resources in [tight, medium, Resources { threads, ..AMPLE }] {
                let plan = plan(&recipe, &base, updates.len(), resources);
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                let (out, report) = pool
                    .install(|| run(&plan, &base, &updates, &weights))
                    .unwrap();
                assert_eq!(bits(&out), bits(&expected), "{method:?} {resources:?}");
                assert_eq!(report, expected_report, "{method:?} {resources:?}");
            }
        }
    }
}
