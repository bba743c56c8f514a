//! What this site lets out. Every update passes here before a byte of it leaves.
//!
//! So far one rule: the payload must fit what the server says it accepts. The site's own rules (tensors by pattern,
//! bytes a round, norms) have their room here; the site's word is final.

use fedmerge_common::reason::{Decline, DeclineKind};
use fedmerge_common::units::ByteSize;
use fedmerge_common::update::UpdateHeader;

/// What this site lets out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy {}

impl Policy {
    /// Judges an update that is ready to leave.
    ///
    /// # Errors
    /// The decline that says which rule forbids it.
    pub fn check(&self, header: &UpdateHeader, max_update_bytes: ByteSize) -> Result<(), Decline> {
        let size = ByteSize::new(header.payload_bytes);
        if size > max_update_bytes {
            let detail = format!(
                "the update has {} bytes ({size}), the server accepts at most {} ({max_update_bytes})",
                size.get(),
                max_update_bytes.get()
            );
            return Err(Decline::new(DeclineKind::Policy, detail));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fedmerge_common::digest::Digest;
    use fedmerge_common::ids::RoundNumber;
    use fedmerge_common::task_vector::Encoding;

    use super::*;

    fn header(payload_bytes: u64) -> UpdateHeader {
        UpdateHeader {
            round: RoundNumber::new(1),
            base: Digest::of(b"base"),
            encoding: Encoding::F32,
            payload: Digest::of(b"payload"),
            payload_bytes,
            num_examples: 1,
            metrics: BTreeMap::new(),
        }
    }

    #[test]
    fn an_update_up_to_the_limit_may_leave() {
        assert_eq!(
            Policy::default().check(&header(1024), ByteSize::new(1024)),
            Ok(())
        );
        let decline = Policy::default().check(&header(1025), ByteSize::new(1024));
        assert!(decline.is_err_and(|decline| decline.detail.contains("1025 bytes")));
    }
}
