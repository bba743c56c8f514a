//! One direction of a link: bytes leave at its rate, arrive after its delay, and in their order.
//!
//! Memory is what is under way: the rate times the delay, and a piece.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::Link;

/// Payload of a segment on an Ethernet.
const SEGMENT_BYTES: usize = 1448;
const MOST_PIECE_BYTES: usize = 64 * 1024;
/// A piece takes so long to leave, where that is at least a segment.
const PIECE: Duration = Duration::from_millis(5);

/// One direction, shared by all connections.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    link: Link,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// When the last byte has left.
    free: Instant,
    chance: ChaCha8Rng,
}

/// Bytes under way.
struct Piece {
    bytes: Vec<u8>,
    arrives: Instant,
}

impl Wire {
    pub(super) fn new(link: Link, seed: u64) -> Self {
        let state = State {
            free: Instant::now(),
            chance: ChaCha8Rng::seed_from_u64(seed),
        };
        Self {
            link,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// When so many bytes have left, and when they are there.
    fn send(&self, bytes: usize) -> (Instant, Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let leaves = state.free.max(Instant::now()) + self.time(bytes);
        state.free = leaves;
        let segments = bytes.div_ceil(SEGMENT_BYTES);
        let lost = (0..segments).any(|_| state.chance.random_bool(self.link.loss));
        let stall = if lost {
            self.link.round_trip
        } else {
            Duration::ZERO
        };
        (leaves, leaves + self.link.round_trip / 2 + stall)
    }

    #[expect(clippy::cast_precision_loss, reason = "a piece is small")]
    fn time(&self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 * 8.0 / self.link.bits_per_second)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, and the length is bounded"
    )]
    fn piece_bytes(&self) -> usize {
        let bytes = self.link.bits_per_second / 8.0 * PIECE.as_secs_f64();
        (bytes as usize).clamp(SEGMENT_BYTES, MOST_PIECE_BYTES)
    }

    /// Pieces that can be under way.
    fn pieces(&self) -> usize {
        let longest = self.link.round_trip.mul_f64(1.5);
        let pieces = longest.div_duration_f64(self.time(self.piece_bytes()));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the cast saturates, and the number is bounded"
        )]
        let pieces = pieces as usize;
        pieces.clamp(1, 1 << 16) + 2
    }
}

/// Carries bytes until their source has no more.
///
/// # Errors
/// When an end breaks.
pub(super) async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    wire: &Wire,
) -> io::Result<()> {
    let (under_way, mut arriving) = mpsc::channel::<Piece>(wire.pieces());
    let sending = async move {
        let mut buffer = vec![0; wire.piece_bytes()];
        loop {
            let bytes = from.read(&mut buffer).await?;
            if bytes == 0 {
                return Ok(());
            }
            let (leaves, arrives) = wire.send(bytes);
            let piece = Piece {
                bytes: buffer[..bytes].to_vec(),
                arrives,
            };
            if under_way.send(piece).await.is_err() {
                return Ok(());
            }
            // The next bytes stay with whoever sends them until these have left.
            sleep_until(leaves).await;
        }
    };
    let delivering = async {
        while let Some(piece) = arriving.recv().await {
            // What follows a lost segment waits behind it.
            sleep_until(piece.arrives).await;
            to.write_all(&piece.bytes).await?;
        }
        to.shutdown().await
    };
    let ((), ()) = tokio::try_join!(sending, delivering)?;
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use tokio::io::duplex;

    use super::*;

    /// Sends so many bytes over a link; how long the first and the last take.
    async fn times(link: &str, bytes: usize) -> (Duration, Duration) {
        let wire = Wire::new(link.parse().unwrap(), 7);
        let (mut near, from) = duplex(1 << 20);
        let (to, mut far) = duplex(1 << 20);
        let begun = Instant::now();
        let sent: Vec<u8> = (0..=250).cycle().take(bytes).collect();
        let expected = sent.clone();
        let writing = async move {
            near.write_all(&sent).await.unwrap();
            near.shutdown().await.unwrap();
        };
        let reading = async {
            let mut received = vec![0; 1];
            far.read_exact(&mut received).await.unwrap();
            let first = begun.elapsed();
            far.read_to_end(&mut received).await.unwrap();
            assert!(received == expected, "other bytes");
            (first, begun.elapsed())
        };
        let (carried, (), times) = tokio::join!(carry(from, to, &wire), writing, reading);
        carried.unwrap();
        times
    }

    fn is_about(found: Duration, expected_ms: u64) -> bool {
        let expected = Duration::from_millis(expected_ms);
        found.abs_diff(expected) <= Duration::from_millis(10) + expected / 50
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_leave_at_the_rate_and_arrive_after_half_a_round_trip() {
        // 2,500,000 bytes a second.
        let (first, last) = times("20mbit,80ms", 5_000_000).await;
        assert!(is_about(first, 40 + 5), "{first:?}");
        assert!(is_about(last, 2000 + 40), "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_loss_stalls_the_stream_for_a_round_trip_and_changes_no_byte() {
        let (_, without) = times("1gbit,100ms", 20_000).await;
        let (_, with) = times("1gbit,100ms,50%", 20_000).await;
        assert!(is_about(without, 50), "{without:?}");
        assert!(is_about(with, 150), "{with:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn connections_share_their_link() {
        let wire = Wire::new("8mbit".parse().unwrap(), 7);
        let begun = Instant::now();
        // 1,000,000 bytes a second.
        let (first, second) = (wire.send(500_000), wire.send(500_000));
        assert!(is_about(first.0 - begun, 500) && is_about(second.0 - begun, 1000));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_is_bounded_by_the_link() {
        let wire = Wire::new("20mbit,80ms".parse().unwrap(), 7);
        let most = wire.pieces() * wire.piece_bytes();
        // The rate times the round trip is 200,000 bytes.
        assert!((200_000..400_000).contains(&most), "{most}");
        let fastest = Wire::new("1000gbit,10s".parse().unwrap(), 7);
        assert!(fastest.pieces() <= (1 << 16) + 2);
    }
}
