//! What tensors a checkpoint has: names, element types and shapes.
//!
//! A [`Schema`] is sorted by name and its sizes cannot overflow, whatever the element type; both are
//! checked when it is made.
//! Tensors are addressed everywhere by their position in it.

use std::fmt;

use crate::dtype::Dtype;

/// Size of the largest element type: sizes must fit with it, so that a change of type always fits.
const LARGEST_ELEMENT_BYTES: usize = 8;

/// A set of tensors that no checkpoint can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Elements × element size does not fit.
    #[error("tensor `{tensor}`: shape {shape:?} of {dtype} is too large to address")]
    TooLarge {
        /// The tensor.
        tensor: String,
        /// Its element type.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Two tensors have one name.
    #[error("tensor `{tensor}` is there twice")]
    Duplicate {
        /// The name.
        tensor: String,
    },
    /// All tensors together do not fit.
    #[error("the tensors are together too large to address")]
    TotalTooLarge,
}

/// Name, element type and shape of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    elements: usize,
}

impl TensorSpec {
    /// Describes a tensor. A shape without dimensions is a single number; a dimension may be 0.
    ///
    /// # Errors
    /// When the tensor's size in bytes does not fit.
    pub fn new(
        name: impl Into<String>,
        dtype: Dtype,
        shape: Vec<usize>,
    ) -> Result<Self, SchemaError> {
        let name = name.into();
        // Zeros count as ones here, so that no order of dimensions hides an overflow.
        let bytes = shape
            .iter()
            .try_fold(LARGEST_ELEMENT_BYTES, |bytes, &size| {
                bytes.checked_mul(size.max(1))
            });
        if bytes.is_none_or(|bytes| bytes > isize::MAX.unsigned_abs()) {
            return Err(SchemaError::TooLarge {
                tensor: name,
                dtype,
                shape,
            });
        }
        let elements = shape.iter().product();
        Ok(Self {
            name,
            dtype,
            shape,
            elements,
        })
    }

    /// The tensor's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of its elements.
    #[must_use]
    pub const fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Its shape, the slowest dimension first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of its elements.
    #[must_use]
    pub const fn elements(&self) -> usize {
        self.elements
    }

    /// Its size, bytes.
    #[must_use]
    pub const fn byte_len(&self) -> u64 {
        (self.elements * self.dtype.bytes()) as u64
    }

    /// Whether merges touch it.
    #[must_use]
    pub const fn is_mergeable(&self) -> bool {
        self.dtype.is_mergeable()
    }

    /// The same tensor with elements of another type.
    #[must_use]
    pub fn with_dtype(&self, dtype: Dtype) -> Self {
        Self {
            dtype,
            ..self.clone()
        }
    }
}

/// How strictly element types are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtypeRule {
    /// They must be equal.
    Exact,
    /// Mergeable types (F32, F16, BF16) may stand for one another; others must be equal.
    AnyFloat,
}

impl DtypeRule {
    fn accepts(self, expected: Dtype, found: Dtype) -> bool {
        let both_mergeable = expected.is_mergeable() && found.is_mergeable();
        expected == found || self == Self::AnyFloat && both_mergeable
    }
}

/// The first thing in which two schemas differ, in the order of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaDifference {
    /// A tensor is not there.
    Missing {
        /// Its name.
        tensor: String,
    },
    /// A tensor should not be there.
    Unexpected {
        /// Its name.
        tensor: String,
    },
    /// A tensor has another shape.
    Shape {
        /// Its name.
        tensor: String,
        /// The shape it should have.
        expected: Vec<usize>,
        /// The shape it has.
        found: Vec<usize>,
    },
    /// A tensor's elements have another type.
    Dtype {
        /// Its name.
        tensor: String,
        /// The type they should have.
        expected: Dtype,
        /// The type they have.
        found: Dtype,
    },
}

impl fmt::Display for SchemaDifference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { tensor } => write!(formatter, "tensor `{tensor}` is missing"),
            Self::Unexpected { tensor } => write!(formatter, "tensor `{tensor}` is unexpected"),
            Self::Shape {
                tensor,
                expected,
                found,
            } => {
                write!(
                    formatter,
                    "tensor `{tensor}` has shape {found:?}, expected {expected:?}"
                )
            }
            Self::Dtype {
                tensor,
                expected,
                found,
            } => {
                write!(
                    formatter,
                    "tensor `{tensor}` is {found}, expected {expected}"
                )
            }
        }
    }
}

/// The tensors of a checkpoint, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schema {
    tensors: Vec<TensorSpec>,
}

impl Schema {
    /// Sorts the tensors and checks that their names differ and their sizes add up.
    ///
    /// # Errors
    /// When two tensors have one name, or all are together too large.
    pub fn new(mut tensors: Vec<TensorSpec>) -> Result<Self, SchemaError> {
        tensors.sort_by(|left, right| left.name.cmp(&right.name));
        if let Some(pair) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(SchemaError::Duplicate {
                tensor: pair[0].name.clone(),
            });
        }
        let total = tensors
            .iter()
            .try_fold(0_usize, |total, tensor| total.checked_add(tensor.elements));
        if total.is_none_or(|elements| elements > isize::MAX.unsigned_abs() / LARGEST_ELEMENT_BYTES)
        {
            return Err(SchemaError::TotalTooLarge);
        }
        Ok(Self { tensors })
    }

    /// The tensors in the order of their names.
    pub fn iter(&self) -> std::slice::Iter<'_, TensorSpec> {
        self.tensors.iter()
    }

    /// The tensors in the order of their names.
    #[must_use]
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// The tensor with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&TensorSpec> {
        self.index_of(name).map(|index| &self.tensors[index])
    }

    /// Position of the tensor with this name.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.tensors
            .binary_search_by(|tensor| tensor.name.as_str().cmp(name))
            .ok()
    }

    /// Number of tensors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is no tensor.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Size of all tensors, bytes.
    #[must_use]
    pub fn byte_len(&self) -> u64 {
        self.iter().map(TensorSpec::byte_len).sum()
    }

    /// The first thing in which `found` differs from `self`, in the order of names.
    #[must_use]
    pub fn first_difference(&self, found: &Self, rule: DtypeRule) -> Option<SchemaDifference> {
        let missing = |tensor: &TensorSpec| SchemaDifference::Missing {
            tensor: tensor.name.clone(),
        };
        let unexpected = |tensor: &TensorSpec| SchemaDifference::Unexpected {
            tensor: tensor.name.clone(),
        };
        let (mut wanted, mut given) = (self.iter(), found.iter());
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return None,
                (Some(tensor), None) => return Some(missing(tensor)),
                (None, Some(tensor)) => return Some(unexpected(tensor)),
                (Some(left), Some(right)) if left.name < right.name => return Some(missing(left)),
                (Some(left), Some(right)) if left.name > right.name => {
                    return Some(unexpected(right));
                }
                (Some(left), Some(right)) => {
                    if let Some(difference) = tensor_difference(left, right, rule) {
                        return Some(difference);
                    }
                }
            }
        }
    }
}

fn tensor_difference(
    expected: &TensorSpec,
    found: &TensorSpec,
    rule: DtypeRule,
) -> Option<SchemaDifference> {
    let tensor = expected.name.clone();
    if expected.shape != found.shape {
        let (expected, found) = (expected.shape.clone(), found.shape.clone());
        return Some(SchemaDifference::Shape {
            tensor,
            expected,
            found,
        });
    }
    if !rule.accepts(expected.dtype, found.dtype) {
        return Some(SchemaDifference::Dtype {
            tensor,
            expected: expected.dtype,
            found: found.dtype,
        });
    }
    None
}

impl<'a> IntoIterator for &'a Schema {
    type Item = &'a TensorSpec;
    type IntoIter = std::slice::Iter<'a, TensorSpec>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests;
