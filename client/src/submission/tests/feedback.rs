//! What an encoding loses is made up for in the next round, once, and only there.

use fedmerge_common::checkpoint::CheckpointWriter;
use fedmerge_common::task_vector::coded::TaskVector;

use super::*;

/// A site in round 3 whose trainer makes of a base of zeros what each test says.
struct Site {
    bench: Bench,
    base: Schema,
}

const ELEMENTS: usize = 64;

fn write_model(path: &Path, value: impl Fn(usize) -> f32) -> Schema {
    let spec = TensorSpec::new("w", Dtype::F32, vec![ELEMENTS]).unwrap();
    let schema = Schema::new(vec![spec]).unwrap();
    let writer = CheckpointWriter::create(path, &schema, &BTreeMap::new()).unwrap();
    let values: Vec<f32> = (0..ELEMENTS).map(value).collect();
    writer.write_f32(0, 0, &values).unwrap();
    writer.finish().unwrap();
    schema
}

fn step(index: usize) -> f32 {
    (index as f32 - 20.0) / 64.0
}

impl Site {
    fn new(encoding: Encoding) -> Self {
        let mut bench = bench();
        let base = write_model(&bench.place.base, |_| 0.0);
        bench.task.base.digest = Digest::of_file(&bench.place.base).unwrap();
        bench.task.encodings = vec![encoding];
        write_model(&bench.place.out, step);
        Self { bench, base }
    }

    fn prepare(&self) -> Prepared {
        let Bench {
            place,
            task,
            residual,
            policy,
            ..
        } = &self.bench;
        prepare(place, task, &trained(), residual, policy).unwrap()
    }

    /// What the update says.
    fn told(&self) -> Vec<f32> {
        let update = TaskVector::open(&self.bench.place.update, &self.base).unwrap();
        let mut values = vec![0.0; ELEMENTS];
        update.read_f32(0, 0, &mut values).unwrap();
        values
    }

    fn accept(&self, header: &UpdateHeader) {
        let Bench {
            place, residual, ..
        } = &self.bench;
        residual.settle(place, header).unwrap();
    }

    /// The next round, from the same base.
    fn go_to_round(&mut self, round: u64) {
        self.bench.task.round = RoundNumber::new(round);
    }
}

const LOSSY: [Encoding; 4] = [
    Encoding::Int8,
    Encoding::TopK,
    Encoding::Ternary,
    Encoding::Sign,
];

#[test]
fn over_many_rounds_everything_is_said() {
    for encoding in LOSSY {
        let mut site = Site::new(encoding);
        let mut sums = vec![0.0; ELEMENTS];
        let rounds = 64_u8;
        for round in 1..=rounds {
            site.go_to_round(round.into());
            let prepared = site.prepare();
            assert_eq!(prepared.residual_dropped, None);
            site.accept(&prepared.header);
            for (sum, told) in sums.iter_mut().zip(site.told()) {
                *sum += told;
            }
        }
        // What is kept back is bounded, so the mean of what was said comes near to what was to be said.
        for (index, sum) in sums.iter().enumerate() {
            let mean = sum / f32::from(rounds);
            assert!(
                (mean - step(index)).abs() < 0.3,
                "{encoding} {index}: {mean}"
            );
        }
        let bias: f32 = (0..ELEMENTS)
            .map(|index| sums[index] / f32::from(rounds) - step(index))
            .sum();
        assert!((bias / ELEMENTS as f32).abs() < 0.05, "{encoding}: {bias}");
    }
}

#[test]
fn an_update_that_is_made_again_is_the_same() {
    for encoding in LOSSY {
        let mut site = Site::new(encoding);
        let first = site.prepare();
        assert_eq!(site.prepare(), first, "{encoding}");
        site.accept(&first.header);
        site.go_to_round(4);
        let second = site.prepare();
        assert_ne!(second.header.payload, first.header.payload, "{encoding}");
        assert_eq!(site.prepare(), second, "{encoding}");
    }
}

#[test]
fn an_update_that_does_not_count_changes_nothing() {
    let mut site = Site::new(Encoding::TopK);
    let first = site.prepare();
    site.accept(&first.header);
    site.go_to_round(4);
    site.prepare();
    // It was refused, and its round comes again for another reason: what is added is still what the first one lost.
    let kept = fs::read(site.bench.root.path().join("residual.safetensors")).unwrap();
    site.prepare();
    assert_eq!(
        fs::read(site.bench.root.path().join("residual.safetensors")).unwrap(),
        kept
    );
}

#[test]
fn whoever_missed_a_round_begins_anew_and_says_so() {
    let mut site = Site::new(Encoding::Sign);
    let first = site.prepare();
    let anew = site.told();
    site.accept(&first.header);
    site.go_to_round(5);
    let later = site.prepare();
    assert_eq!(
        later.residual_dropped,
        Some("no update of the round before counted")
    );
    assert_eq!(site.told(), anew);
}

#[test]
fn floats_leave_no_residual_and_use_none() {
    let mut site = Site::new(Encoding::Sign);
    let first = site.prepare();
    site.accept(&first.header);
    site.bench.task.encodings = vec![Encoding::F32];
    site.go_to_round(4);
    assert_eq!(site.prepare().residual_dropped, None);
    assert!(!site.bench.place.residual.exists());
    let update = Checkpoint::open(&site.bench.place.update).unwrap();
    let mut values = vec![0.0; ELEMENTS];
    update.read_f32(0, 0, &mut values).unwrap();
    assert_eq!(values, (0..ELEMENTS).map(step).collect::<Vec<f32>>());
}

#[test]
fn a_value_that_no_encoding_can_say_declines() {
    for encoding in LOSSY {
        let site = Site::new(encoding);
        write_model(&site.bench.place.out, |index| {
            if index == 9 { f32::NAN } else { 0.5 }
        });
        let Bench {
            place,
            task,
            residual,
            ..
        } = &site.bench;
        let decline = prepare(place, task, &trained(), residual, &site.bench.policy).unwrap_err();
        assert_eq!(decline.kind, DeclineKind::BadCheckpoint);
        let words = "tensor `w` differs from the base by NaN at index 9";
        assert!(decline.detail.contains(words), "{decline:?}");
    }
}

#[test]
fn what_chance_leaves_out_is_no_residual() {
    let mut site = Site::new(Encoding::SeededMask);
    let first = site.prepare();
    assert!(!site.bench.place.residual.exists());
    site.accept(&first.header);
    site.go_to_round(2);
    // Another round is another mask, though the task vector is the same.
    let second = site.prepare();
    assert_eq!(second.residual_dropped, None);
    assert_ne!(second.header.payload, first.header.payload);
}

#[test]
fn a_tensor_that_is_withheld_leaves_in_no_encoding_and_nothing_of_it_is_kept_for_later() {
    for encoding in Encoding::ALL {
        let mut site = Site::new(*encoding);
        site.bench.policy.withhold = vec!["*".to_owned()];
        for round in 1..=2 {
            site.go_to_round(round);
            let prepared = site.prepare();
            let update = Checkpoint::open(&site.bench.place.update).unwrap();
            assert!(update.schema().is_empty(), "{encoding}");
            site.accept(&prepared.header);
        }
        site.bench.policy.withhold.clear();
        site.go_to_round(3);
        let open = site.prepare().header.payload;
        let mut fresh = Site::new(*encoding);
        fresh.go_to_round(3);
        // What was withheld is not made up for.
        assert_eq!(fresh.prepare().header.payload, open, "{encoding}");
    }
}
