//! Says what the client waits for, without a flood: a new reason at once, an old one each half minute, and one line
//! when the link is back.

use std::time::Duration;

use tokio::time::Instant;

use super::address::ServerAddress;
use super::trouble::Trouble;

/// Time after which a reason that stays the same is said again.
const REMINDER: Duration = Duration::from_secs(30);

/// What was said, and when.
#[derive(Debug)]
pub(super) struct Announcer {
    address: ServerAddress,
    connections: u64,
    said: Option<(String, Instant)>,
    /// Whether the last trouble was a cut with no success since: the first one alone is not worth a line.
    cut: bool,
}

impl Announcer {
    pub(super) fn new(address: &ServerAddress) -> Self {
        Self {
            address: address.clone(),
            connections: 0,
            said: None,
            cut: false,
        }
    }

    /// Before a wait of `delay`.
    pub(super) fn waiting(&mut self, trouble: &Trouble, delay: Duration, say: impl FnOnce(&str)) {
        let first_cut = matches!(trouble, Trouble::Cut(_)) && !self.cut;
        self.cut = true;
        if first_cut {
            return;
        }
        let what = trouble.waiting_line(&self.address);
        let now = Instant::now();
        let is_old = self
            .said
            .as_ref()
            .is_some_and(|(said, at)| *said == what && now.duration_since(*at) < REMINDER);
        if !is_old {
            say(&format!("{what}; trying again in {}", rounded(delay)));
            self.said = Some((what, now));
        }
    }

    /// After a connection was made; answers its number.
    pub(super) fn connected(&mut self, say: impl FnOnce(&str)) -> u64 {
        if self.connections > 0 {
            say(&format!("connected to {} again", self.address));
        } else if self.said.is_some() {
            say(&format!("connected to {}", self.address));
        }
        self.connections += 1;
        self.said = None;
        self.cut = false;
        self.connections
    }
}

/// `0.3 s` below a second, whole seconds above.
fn rounded(delay: Duration) -> String {
    if delay < Duration::from_secs(1) {
        format!("{:.1} s", delay.as_secs_f64())
    } else {
        format!("{:.0} s", delay.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<T>(deed: impl FnOnce(&mut dyn FnMut(&str)) -> T) -> Vec<String> {
        let mut lines = Vec::new();
        let _number = deed(&mut |line| lines.push(line.to_owned()));
        lines
    }

    fn announcer() -> Announcer {
        Announcer::new(&"h:1".parse::<ServerAddress>().expect("an address"))
    }

    fn refused() -> Trouble {
        Trouble::Unreachable("connection refused".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_said_once_and_again_each_half_minute() {
        let mut announcer = announcer();
        let two = Duration::from_secs(2);
        let first = said(|say| announcer.waiting(&refused(), two, say));
        assert_eq!(
            first,
            ["server at h:1 is not reachable (connection refused); trying again in 2 s"]
        );
        assert!(said(|say| announcer.waiting(&refused(), two, say)).is_empty());
        tokio::time::advance(REMINDER).await;
        assert_eq!(said(|say| announcer.waiting(&refused(), two, say)).len(), 1);
        let other = Trouble::Unreachable("no route".to_owned());
        assert_eq!(said(|say| announcer.waiting(&other, two, say)).len(), 1);
        assert_eq!(
            said(|say| announcer.connected(say)),
            ["connected to https://h:1"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_reconnect_is_one_line() {
        let mut announcer = announcer();
        assert!(said(|say| announcer.connected(say)).is_empty());
        let cut = Trouble::Cut("reset".to_owned());
        assert!(said(|say| announcer.waiting(&cut, Duration::ZERO, say)).is_empty());
        assert_eq!(
            said(|say| announcer.connected(say)),
            ["connected to https://h:1 again"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_that_breaks_again_and_again_is_told() {
        let mut announcer = announcer();
        let cut = Trouble::Cut("reset".to_owned());
        assert!(said(|say| announcer.waiting(&cut, Duration::ZERO, say)).is_empty());
        assert_eq!(
            said(|say| announcer.waiting(&cut, Duration::ZERO, say)).len(),
            1
        );
    }
}
