//! The wait for room on a full disk: what clients sent is kept, and the deed is done again from its beginning.

use std::error::Error;
use std::io;
use std::time::Duration;

/// The first pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Whether something failed because a disk is full.
pub(super) fn is_for_want_of_room(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            );
        }
        next = error.source();
    }
    false
}

/// How long the next wait is.
#[derive(Debug)]
pub(super) struct WaitForRoom {
    pause: Duration,
}

impl Default for WaitForRoom {
    fn default() -> Self {
        Self { pause: FIRST_PAUSE }
    }
}

impl WaitForRoom {
    /// Waits until someone may have made room, each time longer: a merge that fails at its end is much work for nothing.
    pub(super) async fn wait(&mut self, error: String) {
        tracing::warn!(%error, "the disk is full, trying again");
        tokio::time::sleep(self.pause).await;
        self.pause = LONGEST_PAUSE.min(self.pause * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::PublishError;

    fn failed(kind: io::ErrorKind) -> PublishError {
        PublishError::File {
            path: "models/1".into(),
            source: kind.into(),
        }
    }

    #[test]
    fn a_full_disk_is_known_by_its_cause_and_nothing_else_is_one() {
        for (kind, expected) in [
            (io::ErrorKind::StorageFull, true),
            (io::ErrorKind::QuotaExceeded, true),
            (io::ErrorKind::NotFound, false),
            (io::ErrorKind::ReadOnlyFilesystem, false),
        ] {
            assert_eq!(is_for_want_of_room(&failed(kind)), expected, "{kind}");
        }
        let missing = PublishError::Missing {
            candidate: "a".into(),
            published: "b".into(),
        };
        assert!(!is_for_want_of_room(&missing));
    }

    #[tokio::test(start_paused = true)]
    async fn the_waits_grow_up_to_a_minute() {
        let begun = tokio::time::Instant::now();
        let mut room = WaitForRoom::default();
        for _ in 0..8 {
            room.wait("full".to_owned()).await;
        }
        let waited = begun.elapsed().as_secs();
        assert_eq!(waited, 1 + 2 + 4 + 8 + 16 + 32 + 60 + 60);
    }
}
