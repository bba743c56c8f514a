//! An encoded task vector with anything in its tensors: opened, verified, and read in blocks.
//!
//! The first byte chooses the encoding, the second where one tensor ends and the other begins. What is opened never needs more memory than its
//! tensors say; what is verified has finite values, not all of them zero, and the same in blocks of any length.
#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fedmerge_common::checkpoint::CheckpointWriter;
use fedmerge_common::digest::Digest;
use fedmerge_common::dtype::Dtype;
use fedmerge_common::schema::{Schema, TensorSpec};
use fedmerge_common::task_vector::coded::{CodedTaskVector, TaskVector};
use fedmerge_common::task_vector::encoding::index_bytes;
use fedmerge_common::task_vector::header::{
    CODED_FORMAT, DENSITY_KEY, ENCODING_KEY, FORMAT_KEY, MASK_SEED_KEY,
};
use libfuzzer_sys::fuzz_target;

const ENCODINGS: [&str; 5] = ["int8", "top-k", "ternary", "sign", "seeded-mask"];
/// Elements of the base's tensors: rows whose ends are no multiples of anything, and more than one block of int8.
const SHAPES: [(&str, [usize; 2]); 2] = [("a", [37, 5]), ("b", [3, 301])];

/// A file of this process, in memory where that can be had.
fn file() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    directory.join(format!("fedmerge-fuzz-encodings-{}", std::process::id()))
}

fn base() -> Schema {
    let specs = SHAPES.map(|(name, shape)| {
        TensorSpec::new(name, Dtype::F32, shape.to_vec()).expect("it is small")
    });
    Schema::new(specs.to_vec()).expect("two names")
}

/// A file whose tensors hold these bytes; an empty one is left out.
fn write(path: &Path, encoding: &str, tensors: [&[u8]; 2]) {
    let present: Vec<_> = SHAPES
        .iter()
        .zip(tensors)
        .filter(|(_, bytes)| !bytes.is_empty())
        .collect();
    let specs = present.iter().map(|((name, _), bytes)| {
        TensorSpec::new(*name, Dtype::U8, vec![bytes.len()]).expect("it is small")
    });
    let schema = Schema::new(specs.collect()).expect("two names");
    let metadata = BTreeMap::from([
        (FORMAT_KEY.to_owned(), CODED_FORMAT.to_owned()),
        (ENCODING_KEY.to_owned(), encoding.to_owned()),
        (DENSITY_KEY.to_owned(), "250000".to_owned()),
        (MASK_SEED_KEY.to_owned(), Digest::of(b"seed").to_string()),
    ]);
    let writer = CheckpointWriter::create(path, &schema, &metadata).expect("the file can be made");
    for (position, (_, bytes)) in present.iter().enumerate() {
        writer
            .write_bytes(position, 0, bytes)
            .expect("it can be written");
    }
    writer.finish().expect("it can be finished");
}

fn read_all(coded: &CodedTaskVector) {
    let most: u64 = SHAPES
        .iter()
        .map(|(_, [rows, columns])| index_bytes(rows * columns))
        .sum();
    assert!(coded.index_bytes() <= most, "more memory than promised");
    let is_canonical = coded.verify(&|| true).is_ok();
    for (tensor, spec) in coded.schema().tensors().iter().enumerate() {
        let mut whole = vec![0.0; spec.elements()];
        let read = coded.read_f32(tensor, 0, &mut whole);
        let mut blocks = vec![0.0; spec.elements()];
        for (number, block) in blocks.chunks_mut(7).enumerate() {
            let read = coded.read_f32(tensor, number * 7, block);
            assert!(
                read.is_ok() || !is_canonical,
                "what was verified cannot be read"
            );
        }
        if is_canonical {
            read.expect("what was verified can be read");
            assert!(whole.iter().all(|value| value.is_finite()), "not finite");
            assert_eq!(whole, blocks, "other values in blocks");
        }
    }
}

thread_local! {
    static FILE: PathBuf = file();
}

fuzz_target!(|bytes: &[u8]| {
    let [encoding, split, rest @ ..] = bytes else {
        return;
    };
    let encoding = ENCODINGS[usize::from(*encoding) % ENCODINGS.len()];
    let tensors = rest.split_at(rest.len() * usize::from(*split) / 256);
    FILE.with(|path| {
        let _old = fs::remove_file(path);
        write(path, encoding, [tensors.0, tensors.1]);
        if let Ok(TaskVector::Coded(coded)) = TaskVector::open(path, &base()) {
            read_all(&coded);
        }
    });
});
