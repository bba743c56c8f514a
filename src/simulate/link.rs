//! A slow link between each client and the server: so many bits a second in each direction, a delay, and losses.
//!
//! It is a proxy in this process, and so above TCP: it cannot drop a packet. A loss is what TCP makes of one: the stream stands still for a
//! round trip, because what comes after a lost segment waits until that was sent again. TCP's slower sending after losses is not imitated.

mod wire;

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use fedmerge_common::units::Millis;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use wire::{Wire, carry};

/// Slowest link: less is no link.
const LEAST_BITS: f64 = 1e3;
const MOST_BITS: f64 = 1e12;
const LONGEST_DELAY: Duration = Duration::from_secs(10);
const MOST_LOSS: f64 = 0.5;
/// What a socket of the proxy keeps, so that the link's queue is not the system's.
const BUFFER_BYTES: u32 = 64 * 1024;

/// What every client's link is like: `20mbit,80ms,1%`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Link {
    /// In each direction.
    bits_per_second: f64,
    /// There and back.
    round_trip: Duration,
    /// Chance that a segment is lost.
    loss: f64,
}

impl FromStr for Link {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(',').map(str::trim);
        let rate = parts.next().unwrap_or_default();
        let link = Self {
            bits_per_second: bits(rate)?,
            round_trip: parts.next().map_or(Ok(Duration::ZERO), delay)?,
            loss: parts.next().map_or(Ok(0.0), loss)?,
        };
        match parts.next() {
            None => Ok(link),
            Some(more) => Err(format!(
                "{more:?} is one part too many: write RATE,DELAY,LOSS as in 20mbit,80ms,1%"
            )),
        }
    }
}

/// Units of a rate, and how many bits a second each is.
const RATES: [(&str, f64); 3] = [("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)];

fn bits(text: &str) -> Result<f64, String> {
    let wrong = || {
        format!(
            "the rate {text:?} must be a number of kbit, mbit or gbit a second, as in 20mbit, from 1kbit to 1000gbit"
        )
    };
    let mut units = RATES.iter();
    let found = units.find_map(|(unit, bits)| Some((text.strip_suffix(unit)?, bits)));
    let (number, unit) = found.ok_or_else(wrong)?;
    let bits = number.trim().parse::<f64>().map_err(|_| wrong())? * unit;
    if (LEAST_BITS..=MOST_BITS).contains(&bits) {
        Ok(bits)
    } else {
        Err(wrong())
    }
}

fn delay(text: &str) -> Result<Duration, String> {
    let found = text.parse::<Millis>().ok().map(Millis::to_duration);
    found
        .filter(|delay| *delay <= LONGEST_DELAY)
        .ok_or_else(|| format!("the delay {text:?} must be a time, as in 80ms, of at most 10s"))
}

fn loss(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').map(str::trim);
    let share = number
        .and_then(|number| number.parse::<f64>().ok())
        .map(|percent| percent / 100.0);
    share
        .filter(|share| (0.0..=MOST_LOSS).contains(share))
        .ok_or_else(|| {
            format!("the loss {text:?} must be a share of the segments, as in 1%, of at most 50%")
        })
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, bits) = RATES
            .iter()
            .rfind(|(_, bits)| self.bits_per_second >= *bits)
            .unwrap_or(&RATES[0]);
        write!(f, "{}{unit}", self.bits_per_second / bits)?;
        write!(f, ", {} there and back", Millis::from(self.round_trip))?;
        write!(f, ", {}% lost", self.loss * 100.0)
    }
}

/// The links of all clients, until dropped.
#[derive(Debug, Default)]
pub(super) struct Links(JoinSet<()>);

impl Links {
    /// Lays a client's link to the server; answers where the client finds it. Its losses are those of the seed.
    ///
    /// # Errors
    /// When no port can be had.
    pub(super) fn lay(
        &mut self,
        link: Link,
        server: SocketAddr,
        seed: u64,
    ) -> std::io::Result<SocketAddr> {
        let socket = TcpSocket::new_v4()?;
        keep_little(&socket);
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let listener = socket.listen(64)?;
        let address = listener.local_addr()?;
        self.0.spawn(accept(listener, server, link, seed));
        Ok(address)
    }
}

/// A system that keeps more makes the link's queue longer, and no other difference.
fn keep_little(socket: &TcpSocket) {
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
}

/// Takes connections for as long as the link is wanted; they share it.
async fn accept(listener: TcpListener, server: SocketAddr, link: Link, seed: u64) {
    let (up, down) = (Wire::new(link, seed), Wire::new(link, seed.wrapping_add(1)));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((near, _)) = accepted {
                    connections.spawn(connect(near, server, up.clone(), down.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(near: TcpStream, server: SocketAddr, up: Wire, down: Wire) {
    let Ok(socket) = TcpSocket::new_v4() else {
        return;
    };
    keep_little(&socket);
    // A server that is gone shows as one that hangs up.
    let Ok(far) = socket.connect(server).await else {
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (from_near, to_near) = near.into_split();
    let (from_far, to_far) = far.into_split();
    // The end of either direction by an error ends both.
    let _ended = tokio::try_join!(
        carry(from_near, to_far, &up),
        carry(from_far, to_near, &down)
    );
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_a_rate_a_delay_and_losses() {
        let link: Link = "20mbit,80ms,1%".parse().unwrap();
        assert_eq!(
            link,
            Link {
                bits_per_second: 20e6,
                round_trip: Duration::from_millis(80),
                loss: 0.01
            }
        );
        assert_eq!(link.to_string(), "20mbit, 80ms there and back, 1% lost");
        let link: Link = "1.5gbit".parse().unwrap();
        assert_eq!((link.round_trip, link.loss), (Duration::ZERO, 0.0));
        assert!(link.to_string().starts_with("1.5gbit"));
    }

    #[test]
    fn what_is_no_link_is_refused_with_the_part_and_an_example() {
        for (text, words) in [
            ("", "the rate \"\" must be a number of kbit"),
            ("20", "as in 20mbit"),
            ("0mbit", "from 1kbit"),
            ("-1mbit", "from 1kbit"),
            ("nanmbit", "from 1kbit"),
            ("infgbit", "from 1kbit"),
            ("20mbit,80", "the delay \"80\" must be a time"),
            ("20mbit,1h", "at most 10s"),
            ("20mbit,80ms,1", "the loss \"1\" must be a share"),
            ("20mbit,80ms,51%", "at most 50%"),
            ("20mbit,80ms,-1%", "at most 50%"),
            ("20mbit,80ms,1%,2", "one part too many"),
        ] {
            let error = text.parse::<Link>().unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
