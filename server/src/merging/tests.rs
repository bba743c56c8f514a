//! Merges whose results are known by hand, on real files.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::fs;

use fedmerge_common::dtype::Dtype;
use fedmerge_common::failure::explain;
use fedmerge_merge::{Before, ClipNorm, Method};

use super::*;
use crate::testbed::{Bed, Tensor, bytes_of, client, values_of};

mod coded;
mod lineage;
mod private;

static GO_ON: AtomicBool = AtomicBool::new(false);

fn mean() -> Recipe {
    Recipe::of(Method::Mean)
}

fn w(values: &[f32]) -> [Tensor<'_>; 1] {
    [("w", Dtype::F32, values)]
}

/// Merges updates of `w`, one client each, with as many examples as named.
#[track_caller]
fn merged(updates: &[(u64, &[f32])], recipe: Recipe) -> Vec<f32> {
    let bed = Bed::new();
    let updates: Vec<_> = (0..)
        .zip(updates)
        .map(|(number, (examples, values))| {
            bed.update(1, &format!("ward-{number}"), *examples, &w(values))
        })
        .collect();
    merge(&bed.job(&updates, recipe), &GO_ON).unwrap();
    values_of(&bed.candidate(), "w")
}

#[test]
fn a_mean_weighs_by_examples() {
    // 1 + (1×4 + 3×8)/4, 2 + (1×0 + 3×4)/4
    let result = merged(&[(10, &[4.0, 0.0]), (30, &[8.0, 4.0])], mean());
    assert_eq!(result, [8.0, 5.0]);
}

#[test]
fn a_sum_weighs_by_examples_that_are_1_on_average() {
    let sum = Recipe::of(Method::TaskArithmetic { normalize: false });
    // 1 + 0.5×4 + 1.5×8, 2 + 0.5×0 + 1.5×4
    let result = merged(&[(10, &[4.0, 0.0]), (30, &[8.0, 4.0])], sum);
    assert_eq!(result, [15.0, 8.0]);
}

#[test]
fn nothing_of_the_trusted_client_is_told_with_its_name() {
    let bed = Bed::new();
    let updates = [1, 2].map(|number| bed.update(1, &format!("ward-{number}"), 1, &w(&[1.0, 1.0])));
    let mut job = bed.job(&updates, Recipe::of(Method::Fltrust));
    job.trusted = Some(client("ward-2"));
    merge(&job, &GO_ON).unwrap();
    job.trusted = Some(client("ward-9"));
    let error = merge(&job, &GO_ON).unwrap_err();
    assert_eq!(
        error.to_string(),
        "fltrust compares every update with that of ward-9, whom the plan trusts, and it is not among those that were accepted"
    );
}

#[test]
fn chance_is_another_in_each_round_and_the_same_again() {
    let seeds: Vec<_> = [(7, 1), (7, 2), (8, 1), (7, 1)]
        .map(|(seed, round)| seed_of_the_round(seed, RoundNumber::new(round)))
        .into();
    assert_eq!(seeds[0], seeds[3]);
    assert!(seeds[0] != seeds[1] && seeds[0] != seeds[2] && seeds[1] != seeds[2]);
}

#[test]
fn what_was_noticed_of_the_updates_is_in_the_manifest() {
    let bed = Bed::new();
    let updates = [
        bed.update(1, "ward-1", 1, &w(&[3.0, 4.0])),
        bed.update(1, "ward-2", 1, &w(&[-4.0, 3.0])),
    ];
    let story = merge(&bed.job(&updates, mean()), &GO_ON).unwrap().story;
    let told = &story.diagnostics;
    assert_eq!(told["cosines"][0][1].as_f64(), Some(0.0));
    assert!((told["effective_clients"].as_f64().unwrap() - 2.0).abs() < 1e-9);
    assert_eq!(told["tensors"][0]["name"], "w");
    // The first coordinate has both signs, the second one.
    assert_eq!(told["tensors"][0]["conflict_rate"].as_f64(), Some(0.5));
    let clients = told["clients"].as_array().unwrap();
    let names = clients.iter().map(|client| client["client"].as_str());
    let merged = story
        .updates
        .iter()
        .map(|update| Some(update.client.as_str()));
    assert!(names.eq(merged));
    assert_eq!(clients[0]["cosine_to_previous"], serde_json::Value::Null);
    assert!(clients[0]["mass_in_top"]["10%"].is_f64());
    assert_eq!(story.recipe["weight"], "examples");
}

#[test]
fn of_many_clients_only_the_range_of_their_cosines_is_told() {
    let told = |clients: u8| {
        let bed = Bed::new();
        let updates: Vec<_> = (0..clients)
            .map(|number| {
                let values = if number == 0 { [0.0, 1.0] } else { [1.0, 0.0] };
                bed.update(1, &format!("ward-{number}"), 1, &w(&values))
            })
            .collect();
        let merged = merge(&bed.job(&updates, mean()), &GO_ON).unwrap();
        merged.story.diagnostics
    };
    for (clients, has_pairs) in [(64, true), (65, false)] {
        let told = told(clients);
        assert_eq!(told["least_cosine"], 0.0);
        assert_eq!(told["greatest_cosine"], 1.0);
        assert_eq!(
            told["clients"].as_array().unwrap().len(),
            usize::from(clients)
        );
        for matrix in ["cosines", "overlaps"] {
            assert_eq!(told[matrix].is_array(), has_pairs, "{matrix}");
        }
    }
}

#[test]
fn a_merge_does_without_diagnostics_where_they_alone_do_not_fit_into_the_memory() {
    let planned = |memory_bytes, detail| {
        let resources = Resources {
            threads: 2,
            memory_bytes,
        };
        MergePlan::new(
            mean(),
            vec![TensorExtent::new("w", 2)],
            2,
            resources,
            detail,
        )
    };
    let Err(PlanError::MemoryTooSmall { needed_bytes, .. }) = planned(1, Detail::Full) else {
        panic!("one byte is too small");
    };
    let bed = Bed::new();
    let updates = [1, 2].map(|number| bed.update(1, &format!("ward-{number}"), 1, &w(&[1.0, 1.0])));
    let mut job = bed.job(&updates, mean());
    let mut told = |memory_bytes| {
        job.resources.memory_bytes = memory_bytes;
        let merged = merge(&job, &GO_ON).unwrap();
        (merged.candidate, merged.story.diagnostics.is_null())
    };
    let (with, without) = (told(needed_bytes), told(needed_bytes - 1));
    assert_eq!(with, (without.0, false));
    assert!(without.1);
    job.resources.memory_bytes = 1;
    let error = merge(&job, &GO_ON).unwrap_err();
    assert!(error.to_string().contains("bytes of memory"), "{error}");
}

#[test]
fn lambda_scales_the_step() {
    let half = Recipe {
        lambda: 0.5,
        ..mean()
    };
    assert_eq!(merged(&[(1, &[4.0, -8.0])], half), [3.0, -2.0]);
}

#[test]
fn a_trimmed_mean_does_not_see_the_extremes() {
    let updates: [(u64, &[f32]); 3] = [(1, &[1e6, -1e6]), (1, &[2.0, 3.0]), (1, &[0.0, 4.0])];
    let result = merged(&updates, Recipe::of(Method::TrimmedMean { tolerate: 1 }));
    assert_eq!(result, [3.0, 5.0]);
}

#[test]
fn clipping_shortens_what_is_longer_and_nothing_else() {
    let clipped = Recipe {
        before: vec![Before::Clip {
            norm: ClipNorm::Fixed(5.0),
        }],
        ..mean()
    };
    // (6, 8) is 10 long and becomes (3, 4); (0, 2) stays.
    let result = merged(&[(1, &[6.0, 8.0]), (1, &[0.0, 2.0])], clipped);
    assert_eq!(result, [2.5, 5.0]);
}

const MIXED: &[Tensor<'_>] = &[
    ("frozen.w", Dtype::F32, &[0.1, 0.2, 0.3]),
    ("half", Dtype::Bf16, &[1.0, -2.0]),
    ("steps", Dtype::I64, &[0.0, 0.0]),
    ("w", Dtype::F32, &[1.0, 2.0]),
];

fn freeze() -> Freeze {
    let text =
        "name = \"digits\"\nbase = \"b\"\n[merge]\nmethod = \"mean\"\nfreeze = [\"frozen.*\"]\n";
    FederationPlan::parse(text, Path::new("federation.toml"))
        .unwrap()
        .freeze
}

#[test]
fn what_is_frozen_or_no_number_is_carried_over_byte_for_byte() {
    let bed = Bed::with_base(MIXED);
    let update = |dtype| -> [Tensor<'static>; 3] {
        [
            ("frozen.w", dtype, &[9.0, 9.0, 9.0]),
            ("half", dtype, &[0.5, 1.0]),
            ("w", dtype, &[2.0, 4.0]),
        ]
    };
    // One client sends f32 and the other bf16.
    let updates = [
        bed.update(1, "ward-1", 1, &update(Dtype::F32)),
        bed.update(1, "ward-2", 1, &update(Dtype::Bf16)),
    ];
    let mut job = bed.job(&updates, mean());
    job.freeze = freeze();
    merge(&job, &GO_ON).unwrap();
    let parent = bed.directory.model(bed.base.version).join(files::MODEL);
    for tensor in ["frozen.w", "steps"] {
        assert_eq!(
            bytes_of(&bed.candidate(), tensor),
            bytes_of(&parent, tensor),
            "{tensor}"
        );
    }
    assert_eq!(values_of(&bed.candidate(), "half"), [1.5, -1.0]);
    assert_eq!(values_of(&bed.candidate(), "w"), [3.0, 6.0]);
}

#[test]
fn the_bytes_depend_on_neither_threads_nor_memory_nor_order_and_repeat() {
    let numbers = |salt: u16| -> Vec<f32> {
        (0..20_000_u16)
            .map(|at| f32::from(at.wrapping_mul(salt)) / 7.0 - 3000.0)
            .collect()
    };
    let bed = Bed::with_base(&w(&numbers(3)));
    let parent = bed.directory.model(bed.base.version);
    fs::write(parent.join("config.json"), "{}").unwrap();
    let mut updates: Vec<_> = [11, 13, 17]
        .map(|salt| bed.update(1, &format!("ward-{salt}"), 5, &w(&numbers(salt))))
        .into();
    let mut results = Vec::new();
    for (threads, memory_bytes) in [(1, 1 << 26), (2, 1 << 22), (4, 1 << 24), (1, 1 << 26)] {
        updates.reverse();
        let mut job = bed.job(&updates, Recipe::of(Method::TrimmedMean { tolerate: 1 }));
        job.resources = Resources {
            threads,
            memory_bytes,
        };
        let merged = merge(&job, &GO_ON).unwrap();
        let candidate = bed.directory.candidate(job.round);
        let manifest = fs::read_to_string(candidate.join(files::MANIFEST)).unwrap();
        assert_eq!(fs::read(candidate.join("config.json")).unwrap(), b"{}");
        let read: Manifest = serde_json::from_str(&manifest).unwrap();
        assert_eq!(read.digest, merged.candidate.digest);
        assert_eq!(read.version.get(), 1);
        assert_eq!(fs::read_dir(&candidate).unwrap().count(), 3);
        results.push((merged, manifest));
    }
    assert!(results.iter().all(|result| *result == results[0]));
}

#[test]
fn a_manifest_with_any_byte_changed_or_cut_off_is_refused_or_reads_as_what_it_says() {
    let bed = Bed::new();
    let updates = [bed.update(1, "ward-1", 1, &w(&[3.0, 4.0]))];
    let job = bed.job(&updates, mean());
    merge(&job, &GO_ON).unwrap();
    let candidate = bed.directory.candidate(job.round);
    let whole = fs::read(candidate.join(files::MANIFEST)).unwrap();
    let read = |bytes: &[u8]| serde_json::from_slice::<Manifest>(bytes);
    for place in 0..whole.len() {
        let mut damaged = whole.clone();
        for byte in *b"\0 09\"aZ{}[],:-e\x7f\xc3\xff" {
            damaged[place] = byte;
            if let Ok(manifest) = read(&damaged) {
                let again = serde_json::to_vec(&manifest).unwrap();
                assert_eq!(read(&again).unwrap(), manifest);
            }
        }
        let cut = read(&whole[..place]);
        assert_eq!(cut.is_ok(), place + 1 == whole.len(), "{place}: {cut:?}");
    }
}

#[test]
fn a_tensor_that_an_update_leaves_out_counts_as_0() {
    let result = |left_out: &[(&str, Dtype, &[f32])]| {
        let bed = Bed::new();
        let updates = [
            bed.update(1, "ward-1", 1, left_out),
            bed.update(1, "ward-2", 1, &w(&[1.0, -2.0])),
        ];
        merge(&bed.job(&updates, mean()), &GO_ON).unwrap();
        bytes_of(&bed.candidate(), "w")
    };
    assert_eq!(result(&[]), result(&w(&[0.0, 0.0])));
}

#[test]
fn a_result_that_is_not_finite_is_no_candidate() {
    let bed = Bed::with_base(&w(&[f32::INFINITY, 0.0]));
    let updates = [bed.update(1, "ward-1", 1, &w(&[1.0, 0.0]))];
    let error = merge(&bed.job(&updates, mean()), &GO_ON).unwrap_err();
    assert!(
        matches!(error, MergeFailure::NonFinite { count: 1 }),
        "{error}"
    );
    assert!(!bed.candidate().exists());
}

#[test]
fn a_result_that_the_type_of_the_base_cannot_hold_is_no_candidate() {
    let half = |values: &'static [f32]| [("w", Dtype::F16, values)];
    let bed = Bed::with_base(&half(&[65_000.0, 0.0]));
    let updates = [bed.update(1, "ward-1", 1, &half(&[1000.0, 0.0]))];
    let error = merge(&bed.job(&updates, mean()), &GO_ON).unwrap_err();
    assert!(
        matches!(error, MergeFailure::NonFinite { count: 1 }),
        "{error}"
    );
    assert!(!bed.candidate().exists());
}

#[test]
fn a_value_that_is_no_number_is_told_with_its_client() {
    let bed = Bed::new();
    let updates = [
        bed.update(1, "ward-1", 1, &w(&[1.0, 1.0])),
        bed.update(1, "ward-2", 1, &w(&[1.0, f32::NAN])),
    ];
    let error = merge(&bed.job(&updates, mean()), &GO_ON).unwrap_err();
    assert_eq!(error.to_string(), "the update of ward-2 cannot be merged");
    assert!(
        explain(&error).contains("NaN at 1 of tensor w"),
        "{}",
        explain(&error)
    );
    assert!(!bed.candidate().exists());
}

#[test]
fn a_merge_that_nobody_waits_for_leaves_no_model() {
    let bed = Bed::new();
    let updates = [bed.update(1, "ward-1", 1, &w(&[1.0, 1.0]))];
    let error = merge(&bed.job(&updates, mean()), &AtomicBool::new(true)).unwrap_err();
    assert!(matches!(error, MergeFailure::Engine(_)), "{error}");
    let candidate = bed.directory.candidate(RoundNumber::new(1));
    assert_eq!(fs::read_dir(candidate).unwrap().count(), 0);
}

#[test]
fn what_a_crash_left_of_a_candidate_is_not_in_the_next() {
    let bed = Bed::new();
    let candidate = bed.directory.candidate(RoundNumber::new(1));
    fs::create_dir_all(&candidate).unwrap();
    fs::write(candidate.join(".half.tmp"), "half").unwrap();
    let updates = [bed.update(1, "ward-1", 1, &w(&[1.0, 1.0]))];
    merge(&bed.job(&updates, mean()), &GO_ON).unwrap();
    assert!(!candidate.join(".half.tmp").exists());
}

#[test]
fn a_late_update_is_discounted_by_its_staleness_and_the_sum_still_divided_by_the_number_of_updates()
{
    let bed = Bed::new();
    // As FedBuff: 1 + (4 + 8/√4)/2 and 2 + (0 + 4/√4)/2.
    let fresh = bed.update(1, "ward-1", 10, &w(&[4.0, 0.0]));
    let late = bed.update(7, "ward-2", 30, &w(&[8.0, 4.0]));
    let mut job = bed.job(&[fresh, late], mean());
    job.weight = Weight::Uniform;
    let counted = job.updates.get_mut(&client("ward-2")).unwrap();
    (counted.round, counted.staleness) = (RoundNumber::new(7), 3);
    let merged = merge(&job, &GO_ON).unwrap();
    assert_eq!(values_of(&bed.candidate(), "w"), [5.0, 3.0]);
    let told = merged.story.updates.iter();
    let late = told.clone().find(|update| update.staleness > 0).unwrap();
    assert_eq!(late.task_round, Some(RoundNumber::new(7)));
    assert_eq!(told.filter(|update| update.task_round.is_none()).count(), 1);
}

#[test]
fn updates_that_are_gone_or_cut_off_are_told_all_at_once_and_nothing_is_merged() {
    let bed = Bed::new();
    let updates = [1_u8, 2, 3].map(|number| {
        let name = format!("ward-{number}");
        bed.update(1, &name, 1, &w(&[1.0, f32::from(number)]))
    });
    let job = bed.job(&updates, mean());
    let place = |number: usize| {
        let (client, update) = &updates[number];
        files::update(&job.directory, job.round, client, &update.payload)
    };
    fs::remove_file(place(0)).unwrap();
    let cut = fs::File::options().write(true).open(place(2)).unwrap();
    cut.set_len(20).unwrap();
    let failure = merge(&job, &GO_ON).unwrap_err();
    let names = if let MergeFailure::Lost { lost } = &failure {
        lost.keys().cloned().collect()
    } else {
        Vec::new()
    };
    assert_eq!(names, [client("ward-1"), client("ward-3")], "{failure:?}");
    assert!(!bed.candidate().exists());
}
