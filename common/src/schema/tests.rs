//! What a schema refuses, and which difference it names first.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use super::*;

type Tensors<'a> = &'a [(&'a str, Dtype, &'a [usize])];

fn spec(name: &str, dtype: Dtype, shape: &[usize]) -> TensorSpec {
    TensorSpec::new(name, dtype, shape.to_vec()).unwrap()
}

fn schema(tensors: Tensors<'_>) -> Schema {
    Schema::new(
        tensors
            .iter()
            .map(|(name, dtype, shape)| spec(name, *dtype, shape))
            .collect(),
    )
    .unwrap()
}

#[test]
fn a_tensor_without_dimensions_is_one_number_and_a_zero_dimension_none() {
    assert_eq!(spec("a", Dtype::F32, &[]).elements(), 1);
    assert_eq!(spec("a", Dtype::F32, &[3, 0]).elements(), 0);
    assert_eq!(spec("a", Dtype::Bf16, &[3, 4]).byte_len(), 24);
}

#[test]
fn a_shape_that_overflows_is_refused_even_beside_a_zero() {
    for shape in [
        vec![usize::MAX, 2],
        vec![1 << 61, 4],
        vec![0, usize::MAX, usize::MAX],
        vec![usize::MAX / 2],
    ] {
        assert!(TensorSpec::new("a", Dtype::F32, shape).is_err());
    }
}

#[test]
fn tensors_are_found_by_name_whatever_their_order() {
    let schema = schema(&[("b", Dtype::F32, &[2]), ("a", Dtype::I64, &[])]);
    assert_eq!(schema.index_of("a"), Some(0));
    assert_eq!(schema.get("b").unwrap().shape(), [2]);
    assert_eq!(schema.get("c"), None);
    assert_eq!(schema.byte_len(), 16);
}

#[test]
fn one_name_twice_is_refused() {
    let tensors = vec![spec("a", Dtype::F32, &[1]), spec("a", Dtype::F32, &[2])];
    assert_eq!(
        Schema::new(tensors),
        Err(SchemaError::Duplicate { tensor: "a".into() })
    );
}

#[test]
fn the_first_difference_is_told() {
    let base = schema(&[("a", Dtype::F32, &[2]), ("b", Dtype::I64, &[3])]);
    let cases: [(Tensors<'_>, &str); 6] = [
        (&[("a", Dtype::F32, &[2])], "tensor `b` is missing"),
        (&[("b", Dtype::I64, &[3])], "tensor `a` is missing"),
        (
            &[("0", Dtype::F32, &[2]), ("a", Dtype::F32, &[2])],
            "tensor `0` is unexpected",
        ),
        (
            &[
                ("a", Dtype::F32, &[2]),
                ("b", Dtype::I64, &[3]),
                ("c", Dtype::F32, &[]),
            ],
            "tensor `c` is unexpected",
        ),
        (
            &[("a", Dtype::F32, &[2, 1]), ("b", Dtype::I64, &[3])],
            "tensor `a` has shape [2, 1], expected [2]",
        ),
        (
            &[("a", Dtype::F32, &[2]), ("b", Dtype::I32, &[3])],
            "tensor `b` is I32, expected I64",
        ),
    ];
    for (found, message) in cases {
        let difference = base.first_difference(&schema(found), DtypeRule::AnyFloat);
        assert_eq!(difference.unwrap().to_string(), message);
    }
}

#[test]
fn mergeable_types_stand_for_one_another_only_under_any_float() {
    let single = schema(&[("a", Dtype::F32, &[2])]);
    let half = schema(&[("a", Dtype::Bf16, &[2])]);
    assert_eq!(single.first_difference(&half, DtypeRule::AnyFloat), None);
    assert!(single.first_difference(&half, DtypeRule::Exact).is_some());
    let double = schema(&[("a", Dtype::F64, &[2])]);
    assert!(
        single
            .first_difference(&double, DtypeRule::AnyFloat)
            .is_some()
    );
}
