//! Task vectors: fine-tuned − base, one tensor for each mergeable tensor of the base.
//!
//! [`delta`] subtracts and [`encode`] makes it small; [`header`] tells what a task vector's file must look like, and [`coded`]
//! reads one whose tensors are encoded. Each is a safetensors file. Nothing here judges the values: the server's
//! intake does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::dtype::Dtype;

pub mod coded;
pub mod delta;
pub mod encode;
pub mod encoding;
pub mod header;
pub mod private;

use encoding::Codec;

/// How a task vector becomes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// Safetensors, every tensor F32.
    F32,
    /// Safetensors, every tensor BF16, rounded to nearest, ties to even.
    Bf16,
    /// Safetensors, every tensor the bytes of [`Codec::Int8`].
    Int8,
    /// Safetensors, every tensor the bytes of [`Codec::TopK`].
    TopK,
    /// Safetensors, every tensor the bytes of [`Codec::Ternary`].
    Ternary,
    /// Safetensors, every tensor the bytes of [`Codec::Sign`].
    Sign,
    /// Safetensors, every tensor the bytes of [`Codec::Masked`].
    SeededMask,
}

/// What the tensors of a task vector's file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Values of this type, in the shapes of the base.
    Floats(Dtype),
    /// Encoded bytes, without the tensors that are all zero.
    Coded(Codec),
}

impl Encoding {
    /// Every encoding.
    pub const ALL: &'static [Self] = &[
        Self::F32,
        Self::Bf16,
        Self::Int8,
        Self::TopK,
        Self::Ternary,
        Self::Sign,
        Self::SeededMask,
    ];

    /// What the tensors of its files are.
    #[must_use]
    pub const fn content(self) -> Content {
        match self {
            Self::F32 => Content::Floats(Dtype::F32),
            Self::Bf16 => Content::Floats(Dtype::Bf16),
            Self::Int8 => Content::Coded(Codec::Int8),
            Self::TopK => Content::Coded(Codec::TopK),
            Self::Ternary => Content::Coded(Codec::Ternary),
            Self::Sign => Content::Coded(Codec::Sign),
            Self::SeededMask => Content::Coded(Codec::Masked),
        }
    }

    /// Whether it keeps only some of the values, so that the plan's density matters.
    #[must_use]
    pub const fn is_sparse(self) -> bool {
        matches!(self, Self::TopK | Self::Ternary | Self::SeededMask)
    }

    /// Whether what it loses is added to the next update. What chance alone leaves out is nothing that is missed: the expectation is right, and
    /// to add it would shift it.
    #[must_use]
    pub const fn has_feedback(self) -> bool {
        matches!(self, Self::Int8 | Self::TopK | Self::Ternary | Self::Sign)
    }

    /// Its stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::TopK => "top-k",
            Self::Ternary => "ternary",
            Self::Sign => "sign",
            Self::SeededMask => "seeded-mask",
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// A name that is no encoding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown encoding `{name}`, known are f32, bf16, int8, top-k, ternary, sign and seeded-mask"
)]
pub struct UnknownEncoding {
    /// What was there.
    pub name: String,
}

impl FromStr for Encoding {
    type Err = UnknownEncoding;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().find(|encoding| encoding.as_str() == name);
        found.copied().ok_or_else(|| UnknownEncoding {
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for encoding in Encoding::ALL {
            assert_eq!(encoding.to_string().parse::<Encoding>().unwrap(), *encoding);
            assert_eq!(
                serde_json::to_string(encoding).unwrap(),
                format!("\"{encoding}\"")
            );
        }
        assert!("int4".parse::<Encoding>().is_err());
    }
}
