//! Task vectors: fine-tuned − base, one tensor for each mergeable tensor of the base.
//!
//! [`delta`] subtracts and encodes; [`header`] tells what an encoded task vector must look like.
//! An encoded task vector is a safetensors file. Nothing here judges the values: the server's
//! intake does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::dtype::Dtype;

pub mod delta;
pub mod header;

/// How a task vector becomes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Safetensors, every tensor F32.
    F32,
    /// Safetensors, every tensor BF16, rounded to nearest, ties to even.
    Bf16,
}

impl Encoding {
    /// Every encoding.
    pub const ALL: &'static [Self] = &[Self::F32, Self::Bf16];

    /// Element type of the encoded tensors.
    #[must_use]
    pub const fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::Bf16,
        }
    }

    /// Its stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
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
#[error("unknown encoding `{name}`, known are f32 and bf16")]
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
        assert!("int8".parse::<Encoding>().is_err());
    }
}
