//! Noise of a client's own between its message and its type.

use fedmerge_common::task_vector::private::LocalNoise;

use crate::convert::InvalidMessage;
use crate::v1;

impl TryFrom<v1::ClientNoise> for LocalNoise {
    type Error = InvalidMessage;

    fn try_from(message: v1::ClientNoise) -> Result<Self, Self::Error> {
        Self::new(message.clip, message.multiplier)
            .map_err(|error| InvalidMessage::new("noise", error.to_string()))
    }
}

impl From<LocalNoise> for v1::ClientNoise {
    fn from(noise: LocalNoise) -> Self {
        Self {
            clip: noise.clip(),
            multiplier: noise.multiplier(),
        }
    }
}
