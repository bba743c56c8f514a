//! When packing is worth its time.

use std::time::Duration;

/// Bytes at the beginning of a stream that are packed in any case. The memory between both ends takes that much at once from whoever
/// sends, so nothing is known of the link before; and to pack it takes some milliseconds.
const UNKNOWN_BYTES: u64 = 2 * 1024 * 1024;
/// How much the last measurement counts beside those before.
const NEWEST: f64 = 0.25;

/// How many times as fast as the wire packing must be. A busy machine makes both wait, and the wire longer, because more is done for it.
const FASTER: f64 = 10.0;

/// What a stream has shown of its two ways to spend time: packing bytes, and waiting until the wire takes them.
///
/// The next bytes are packed while these are sent, so packing costs no time where it is much faster than the wire, and only a small part of a
/// processor. Where it is not, as between two processes of one machine, bytes had better travel as they are.
#[derive(Debug, Default)]
pub struct Pace {
    sent_bytes: u64,
    /// Seconds a byte.
    packing: Option<f64>,
    sending: Option<f64>,
}

impl Pace {
    /// Whether the next bytes should be packed.
    #[must_use]
    pub fn should_pack(&self) -> bool {
        let is_known = self.sent_bytes >= UNKNOWN_BYTES;
        match (self.packing, self.sending) {
            (Some(packing), Some(sending)) if is_known => sending > FASTER * packing,
            (Some(_) | None, Some(_) | None) => !is_known || self.packing.is_none(),
        }
    }

    /// So many bytes were tried to be packed, which took so long.
    pub fn note_packed(&mut self, bytes: u64, took: Duration) {
        note(&mut self.packing, bytes, took);
    }

    /// The wire took so many bytes, for which the sender waited so long.
    pub fn note_sent(&mut self, bytes: u64, took: Duration) {
        self.sent_bytes += bytes;
        note(&mut self.sending, bytes, took);
    }
}

fn note(known: &mut Option<f64>, bytes: u64, took: Duration) {
    if bytes == 0 {
        return;
    }
    let newest = took.as_secs_f64() / bytes as f64;
    *known = Some(known.map_or(newest, |known| known + NEWEST * (newest - known)));
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: u64 = 1024 * 1024;

    /// A stream that has sent some jobs, of which each took the wire so many milliseconds, and packing so many.
    fn pace(jobs: usize, packing: u64, sending: u64) -> Pace {
        let mut pace = Pace::default();
        for _ in 0..jobs {
            pace.note_packed(JOB, Duration::from_millis(packing));
            pace.note_sent(JOB, Duration::from_millis(sending));
        }
        pace
    }

    #[test]
    fn the_beginning_is_packed_whatever_the_wire_seems_to_be() {
        assert!(pace(0, 3, 0).should_pack());
        assert!(pace(1, 3, 0).should_pack());
    }

    #[test]
    fn then_packing_goes_on_where_it_is_much_faster_than_the_wire() {
        assert!(pace(4, 3, 400).should_pack());
        assert!(!pace(4, 3, 25).should_pack());
    }

    #[test]
    fn a_wire_that_becomes_slow_is_noticed() {
        let mut pace = pace(4, 3, 1);
        for _ in 0..2 {
            pace.note_sent(JOB, Duration::from_millis(400));
        }
        assert!(pace.should_pack());
    }

    #[test]
    fn what_was_never_tried_is_tried() {
        let mut pace = Pace::default();
        pace.note_sent(8 * JOB, Duration::from_millis(1));
        assert!(pace.should_pack());
    }
}
