//! Lies that an update can tell: what each changes in its header, what it sends, and how it is answered.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use fedmerge_common::checkpoint::CheckpointWriter;
use fedmerge_common::digest::Digest;
use fedmerge_common::dtype::Dtype;
use fedmerge_common::schema::{Schema, TensorSpec};
use fedmerge_proto::v1;

use super::GARBAGE;

/// Rejections that a hostile update can earn, each by a client of its own: what it changes in a header, and what it sends.
pub(super) const LIES: &[(&str, Lie, v1::RejectionCode)] = {
    use v1::RejectionCode as Code;
    &[
        (
            "garbage instead of tensors",
            |_, _| GARBAGE.to_vec(),
            Code::Malformed,
        ),
        (
            "a payload cut off",
            |dir, _| true_update(dir)[..60].to_vec(),
            Code::Malformed,
        ),
        ("no bytes at all", |_, _| Vec::new(), Code::Malformed),
        (
            "a header that says to be 2⁶³ bytes long",
            |_, _| [&(1_u64 << 63).to_le_bytes()[..], GARBAGE].concat(),
            Code::Malformed,
        ),
        (
            "a tensor that says to be 2⁶⁰ values long",
            |_, _| {
                let text =
                    r#"{"w":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,16]}}"#;
                [
                    &(text.len() as u64).to_le_bytes()[..],
                    text.as_bytes(),
                    &[0; 16],
                ]
                .concat()
            },
            Code::Malformed,
        ),
        (
            "two tensors in the same bytes",
            |_, _| {
                let text = r#"{"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#;
                [
                    &(text.len() as u64).to_le_bytes()[..],
                    text.as_bytes(),
                    &[0; 16],
                ]
                .concat()
            },
            Code::Malformed,
        ),
        (
            "another digest than that of the bytes",
            |dir, header| {
                header.payload = Some(Digest::of(b"other").into());
                true_update(dir)
            },
            Code::DigestMismatch,
        ),
        (
            "a value that is no number",
            |dir, _| update(dir, &[("w", &[0.0, f32::NAN, 0.0, 0.0])]),
            Code::NonFinite,
        ),
        (
            "an infinite value",
            |dir, _| update(dir, &[("w", &[0.0, 0.0, f32::NEG_INFINITY, 0.0])]),
            Code::NonFinite,
        ),
        (
            "a value beyond all training",
            |dir, _| update(dir, &[("w", &[3e38, 0.0, 0.0, 0.0])]),
            Code::Magnitude,
        ),
        (
            "a tensor of another shape",
            |dir, _| update(dir, &[("w", &[0.0; 5])]),
            Code::SchemaMismatch,
        ),
        (
            "a tensor that the model does not have",
            |dir, _| update(dir, &[("backdoor", &[1.0])]),
            Code::SchemaMismatch,
        ),
        (
            "an encoding that the plan does not take",
            |dir, header| {
                header.encoding = v1::Encoding::TopK.into();
                true_update(dir)
            },
            Code::EncodingNotAllowed,
        ),
        (
            "a task vector from another base",
            |dir, header| {
                header.base = Some(Digest::of(b"another base").into());
                true_update(dir)
            },
            Code::BaseMismatch,
        ),
        (
            "a claim of no examples",
            |dir, header| {
                header.num_examples = 0;
                true_update(dir)
            },
            Code::Examples,
        ),
        (
            "a claim of all examples there are",
            |dir, header| {
                header.num_examples = u64::MAX;
                true_update(dir)
            },
            Code::Examples,
        ),
        (
            "an update for a round to come",
            |dir, header| {
                header.round = 99;
                true_update(dir)
            },
            Code::RoundClosed,
        ),
    ]
};

pub(super) type Lie = fn(&Path, &mut v1::UpdateHeader) -> Vec<u8>;

/// An update with these tensors.
fn update(dir: &Path, tensors: &[(&str, &[f32])]) -> Vec<u8> {
    let specs = tensors
        .iter()
        .map(|(name, values)| TensorSpec::new(*name, Dtype::F32, vec![values.len()]).unwrap());
    let schema = Schema::new(specs.collect()).unwrap();
    let path = dir.join("hostile.safetensors");
    let writer = CheckpointWriter::create(&path, &schema, &BTreeMap::new()).unwrap();
    for (name, values) in tensors {
        let index = schema.index_of(name).unwrap();
        writer.write_f32(index, 0, values).unwrap();
    }
    writer.finish().unwrap();
    fs::read(path).unwrap()
}

fn true_update(dir: &Path) -> Vec<u8> {
    update(dir, &[("b", &[1.0, 1.0]), ("w", &[1.0, 1.0, 1.0, 1.0])])
}
