//! Updates whose tensors are encoded: merged block by block, with the bytes that their values would give.

use fedmerge_common::task_vector::coded::TaskVector;
use fedmerge_common::task_vector::delta::subtract_base;
use fedmerge_common::task_vector::encode::Difference;
use fedmerge_common::task_vector::encoding::{Codec, Density, Sparsity, index_bytes};
use fedmerge_coordinator::UpdateRef;

use super::*;
use crate::testbed::write;

const CODECS: [Codec; 5] = [
    Codec::Int8,
    Codec::TopK,
    Codec::Ternary,
    Codec::Sign,
    Codec::Masked,
];
const ELEMENTS: usize = 50_021;

fn median() -> Recipe {
    Recipe::of(Method::Median { tolerate: 1 })
}

fn base() -> Vec<f32> {
    (0..ELEMENTS)
        .map(|index| (index % 17) as f32 / 16.0)
        .collect()
}

fn task_vector(client: usize) -> Vec<f32> {
    let wave = |index: usize| ((index * (31 + 6 * client) % 997) as f32 - 498.0) / 512.0;
    (0..ELEMENTS)
        .map(|index| wave(index) * wave(index) * wave(index))
        .collect()
}

/// A base of three tensors, of which no client trains the last.
fn bed() -> Bed {
    let base = base();
    Bed::with_base(&[
        ("a", Dtype::F32, &base[..1000]),
        ("b", Dtype::F32, &base),
        ("z", Dtype::F32, &base[..300]),
    ])
}

/// Puts the task vector of a client in its place, encoded, and gives also the values that it stands for.
fn update(bed: &Bed, codec: Codec, number: usize) -> ((ClientId, UpdateRef), [Vec<f32>; 2]) {
    let (base, vector) = (base(), task_vector(number));
    let tuned: Vec<f32> = base
        .iter()
        .zip(&vector)
        .map(|(base, step)| base + step)
        .collect();
    let (path, out) = (
        bed.root.path().join("tuned"),
        bed.root.path().join("update"),
    );
    write(
        &path,
        &[
            ("a", Dtype::F32, &tuned[..1000]),
            ("b", Dtype::F32, &tuned),
            ("z", Dtype::F32, &base[..300]),
        ],
    );
    let model =
        Checkpoint::open(&bed.directory.model(bed.base.version).join(files::MODEL)).unwrap();
    let tuned = Checkpoint::open(&path).unwrap();
    let difference = Difference::new(&model, &tuned).unwrap();
    let client = client(&format!("ward-{number}"));
    let (density, round) = (Density::default(), RoundNumber::new(1));
    let sparsity = Sparsity::of_update(density, &bed.base.digest, round, &client);
    let written = difference.write(codec, &sparsity, &out).unwrap();
    let coded = TaskVector::open(&out, model.schema()).unwrap();
    let told = [1000, ELEMENTS].map(|elements| vec![0.0; elements]);
    let mut position = 0..;
    let told = told.map(|mut values| {
        coded
            .read_f32(position.next().unwrap(), 0, &mut values)
            .unwrap();
        values
    });
    let place = files::update(
        &bed.directory,
        RoundNumber::new(1),
        &client,
        &written.digest,
    );
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::rename(out, place).unwrap();
    let update = UpdateRef {
        payload: written.digest,
        num_examples: 10,
        bytes: written.bytes,
    };
    ((client, update), told)
}

fn plain(bed: &Bed, number: usize, told: &[Vec<f32>; 2]) -> (ClientId, UpdateRef) {
    let tensors: [Tensor<'_>; 3] = [
        ("a", Dtype::F32, &told[0]),
        ("b", Dtype::F32, &told[1]),
        ("z", Dtype::F32, &[0.0; 300]),
    ];
    bed.update(1, &format!("ward-{number}"), 10, &tensors)
}

#[test]
fn a_merge_of_encoded_updates_is_that_of_their_values() {
    for codec in CODECS {
        let bed = bed();
        let (updates, told): (Vec<_>, Vec<_>) =
            (1..=3).map(|number| update(&bed, codec, number)).unzip();
        for recipe in [median(), Recipe::of(Method::TrimmedMean { tolerate: 1 })] {
            let mut job = bed.job(&updates, recipe.clone());
            let stale = |job: &mut MergeJob| {
                // Discounted, so that a block is changed after it was decoded.
                job.updates.get_mut(&client("ward-2")).unwrap().staleness = 3;
            };
            stale(&mut job);
            let coded = merge(&job, &GO_ON).unwrap().candidate;
            let values: Vec<_> = (1..)
                .zip(&told)
                .map(|(number, told)| plain(&bed, number, told))
                .collect();
            let mut job = bed.job(&values, recipe);
            stale(&mut job);
            assert_eq!(coded, merge(&job, &GO_ON).unwrap().candidate, "{codec:?}");
            // What nobody trained is as it was.
            let base = base();
            assert_eq!(values_of(&bed.candidate(), "z"), base[..300]);
            let mut moved = values_of(&bed.candidate(), "b");
            subtract_base(&mut moved, &base);
            assert!(moved.iter().any(|value| value.abs() > 0.0));
        }
    }
}

#[test]
fn threads_and_memory_do_not_change_a_bit_of_it() {
    let bed = bed();
    let updates: Vec<_> = (1..=3)
        .map(|number| update(&bed, Codec::TopK, number).0)
        .collect();
    let candidates = [(1, 1 << 21), (2, 1 << 26), (4, 1 << 24)].map(|(threads, memory_bytes)| {
        let job = MergeJob {
            resources: Resources {
                threads,
                memory_bytes,
            },
            ..bed.job(&updates, median())
        };
        merge(&job, &GO_ON).unwrap().candidate.digest
    });
    assert_eq!(candidates, [candidates[0]; 3]);
}

#[test]
fn an_encoded_update_that_was_cut_or_garbled_is_lost() {
    let bed = bed();
    let updates: Vec<_> = (1..=3)
        .map(|number| update(&bed, Codec::TopK, number).0)
        .collect();
    let job = bed.job(&updates, median());
    let (client, update) = &updates[0];
    let place = files::update(&bed.directory, RoundNumber::new(1), client, &update.payload);
    let mut bytes = fs::read(&place).unwrap();
    // The count of the first tensor, right behind the header.
    let header = u64::from_le_bytes(*bytes.first_chunk().unwrap());
    bytes[8 + usize::try_from(header).unwrap()..][..8].fill(0xff);
    fs::write(&place, bytes).unwrap();
    let MergeFailure::Lost { lost } = merge(&job, &GO_ON).unwrap_err() else {
        panic!("an update that cannot be decoded is lost");
    };
    assert_eq!(lost.keys().collect::<Vec<_>>(), [client]);
    assert!(lost[client].contains("tensor `a`"), "{lost:?}");
}

#[test]
fn what_the_index_of_sparse_updates_takes_is_taken_from_the_merge() {
    let bed = bed();
    let updates: Vec<_> = (1..=3)
        .map(|number| update(&bed, Codec::TopK, number).0)
        .collect();
    let index: u64 = [1000, ELEMENTS].map(index_bytes).iter().sum();
    let job = |memory_bytes| MergeJob {
        resources: Resources {
            threads: 1,
            memory_bytes,
        },
        ..bed.job(&updates, median())
    };
    let MergeFailure::Plan(PlanError::MemoryTooSmall {
        needed_bytes: needed,
        ..
    }) = merge(&job(0), &GO_ON).unwrap_err()
    else {
        panic!("no merge needs no memory");
    };
    assert!(merge(&job(needed + 3 * index - 1), &GO_ON).is_err());
    merge(&job(needed + 3 * index), &GO_ON).unwrap();
}
