//! Updates that put other weights in the place of the base's, or are as long as no training is.

use super::*;

const SIDE: usize = 32;
const ELEMENTS: usize = SIDE * SIDE;

/// Weights that look like chance, and always the same.
fn weights(seed: u32) -> Vec<f32> {
    let mut state = seed;
    let numbers = (0..ELEMENTS).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from(u16::try_from(state >> 16).unwrap()) / 32_768.0 - 1.0
    });
    numbers.collect()
}

struct Site {
    _directory: TempDir,
    base: Checkpoint,
}

impl Site {
    /// A base of one matrix and a bias.
    fn new(matrix: &[f32]) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("base.safetensors");
        let spec = |name, shape| TensorSpec::new(name, Dtype::F32, shape).unwrap();
        let schema = Schema::new(vec![
            spec("bias", vec![2]),
            spec("weight", vec![SIDE, SIDE]),
        ]);
        let writer = CheckpointWriter::create(&path, &schema.unwrap(), &BTreeMap::new()).unwrap();
        writer.write_f32(0, 0, &[1.0, 2.0]).unwrap();
        writer.write_f32(1, 0, matrix).unwrap();
        writer.finish().unwrap();
        Self {
            base: Checkpoint::open(&path).unwrap(),
            _directory: directory,
        }
    }

    /// What intake says of the task vector that turns the base's matrix into `tuned`.
    fn judge(&self, tuned: &[f32], terms: &Terms) -> Result<ValidUpdate, Rejection> {
        let mut update = vec![0.0; ELEMENTS];
        self.base.read_f32(1, 0, &mut update).unwrap();
        for (value, tuned) in update.iter_mut().zip(tuned) {
            *value = tuned - *value;
        }
        let tensors: [Tensor<'_>; 2] = [
            ("bias", Dtype::F32, &[2], &[0.5, 0.5]),
            ("weight", Dtype::F32, &[SIDE, SIDE], &update),
        ];
        let upload = upload_of(Encoding::F32, &payload(&tensors, &[(FORMAT_KEY, FORMAT)]));
        let go_on = AtomicBool::new(false);
        validate(
            &upload.path,
            &upload.header,
            None,
            &self.base,
            terms,
            &go_on,
        )
        .unwrap()
    }
}

#[track_caller]
fn unrelated(verdict: Result<ValidUpdate, Rejection>) {
    let rejection = verdict.unwrap_err();
    assert_eq!(rejection.code, RejectionCode::Unrelated, "{rejection}");
    let detail = "replaces 100 % of the base's weights, first those of tensor `weight`";
    assert!(rejection.detail.contains(detail), "{rejection}");
}

#[test]
fn training_may_go_far_from_its_base() {
    let base = weights(1);
    let site = Site::new(&base);
    for step in [0.0, 0.1, 3.0, 30.0] {
        let tuned: Vec<f32> = base
            .iter()
            .zip(weights(2))
            .map(|(w, s)| w + step * s)
            .collect();
        assert!(site.judge(&tuned, &terms()).is_ok(), "{step}");
    }
    let shrunk: Vec<f32> = base.iter().map(|weight| 0.5 * weight).collect();
    assert!(site.judge(&shrunk, &terms()).is_ok(), "weights decay");
    let turned: Vec<f32> = base.iter().map(|weight| -weight).collect();
    assert!(
        site.judge(&turned, &terms()).is_ok(),
        "hostile, and no other model"
    );
}

#[test]
fn another_model_of_the_same_shape_is_found() {
    let site = Site::new(&weights(1));
    unrelated(site.judge(&weights(2), &terms()));
    unrelated(site.judge(&vec![0.0; ELEMENTS], &terms()));
}

#[test]
fn the_same_neurons_in_another_order_are_found() {
    let base = weights(1);
    let site = Site::new(&base);
    let rows: Vec<&[f32]> = base.chunks(SIDE).collect();
    let mut turned = rows.clone();
    turned.rotate_left(1);
    unrelated(site.judge(&turned.concat(), &terms()));
    let mut swapped = rows;
    swapped.swap(3, 4);
    assert!(site.judge(&swapped.concat(), &terms()).is_ok(), "two of 32");
}

#[test]
fn whoever_begins_with_zeros_may_become_anything() {
    let site = Site::new(&vec![0.0; ELEMENTS]);
    assert!(site.judge(&weights(2), &terms()).is_ok());
}

#[test]
fn noise_that_could_turn_anything_around_says_nothing() {
    let base = weights(1);
    let site = Site::new(&base);
    // Private updates: noise many times as long as the weights, in whatever direction, is no other model.
    for seed in 2..30 {
        let noisy: Vec<f32> = base
            .iter()
            .zip(weights(seed))
            .map(|(w, s)| w + 60.0 * s)
            .collect();
        assert!(site.judge(&noisy, &terms()).is_ok(), "{seed}");
    }
}

#[test]
fn the_share_that_may_be_replaced_is_a_setting() {
    let site = Site::new(&weights(1));
    let any = Terms {
        max_replaced: 1.0,
        ..terms()
    };
    assert!(site.judge(&weights(2), &any).is_ok());
}

#[test]
fn an_update_much_longer_than_the_last_merge_s_is_refused_with_the_numbers() {
    let base = weights(1);
    let site = Site::new(&base);
    let limited = |typical| Terms {
        length: Some(LengthLimit {
            typical,
            factor: 10.0,
        }),
        ..terms()
    };
    // The bias alone is √0.5 long.
    assert!(site.judge(&base, &limited(0.0708)).is_ok());
    let rejection = site.judge(&base, &limited(0.0706)).unwrap_err();
    assert_eq!(rejection.code, RejectionCode::Length);
    let detail = "the update is 0.707107 long, the limit is 0.706000, from the 0.070600 of a client in the last merge";
    assert_eq!(rejection.detail, detail);
}
