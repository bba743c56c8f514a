//! A crowd that says nothing, or nonsense, keeps nobody out who has a certificate.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::federation::Federation;
use crate::harness::plan::Plan;
use crate::harness::process::LIMIT;
use crate::harness::raw_client::RawClient;

/// Connections that are opened and then say nothing; more than the server keeps of strangers.
const USUAL_SILENT: usize = 400;
/// Connections that say nonsense, at least.
const USUAL_NONSENSE: usize = 200;
/// Threads that open these, one after another.
const BABBLERS: usize = 4;
/// Connections of an honest client, each a new one, at least.
const TRIES: usize = 20;

/// A number of this environment, for a measurement.
fn wanted(variable: &str, usual: usize) -> usize {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test has no settings but these"
    )]
    let wanted = std::env::var(variable);
    wanted.map_or(usual, |number| number.parse().unwrap())
}

/// The middle one of the times that a new connection and a call on it take, and the longest, for as long as it `goes_on`.
fn latencies(federation: &Federation, goes_on: impl Fn() -> bool) -> [Duration; 2] {
    let mut times = Vec::new();
    while times.len() < TRIES || goes_on() {
        let begun = Instant::now();
        // However often it has to try: that is a part of how long it takes.
        while !RawClient::reaches(federation, "honest") {
            assert!(begun.elapsed() < LIMIT, "an honest client is kept out");
        }
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    [times[times.len() / 2], times[times.len() - 1]]
}

/// Raises a flag when it is dropped, so that a test that fails ends its threads as well.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Opens connections that say nonsense, one after another, until it is over.
fn babble(address: &str, is_over: &AtomicBool, babbled: &AtomicUsize) {
    while !is_over.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(address) else {
            continue;
        };
        // The server may have closed it already.
        let _gone = stream.write_all(&[0x16, 3, 1, 0, 200, 7, 7, 7]);
        babbled.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a measurement is read by a person")]
fn those_who_say_nothing_or_nonsense_keep_nobody_out() {
    fedmerge_server::open_files::allow_all();
    let mut federation = Federation::new(&Plan::of(1));
    federation.start_server();
    federation.enrol(&["honest"]);
    let before = latencies(&federation, || false);
    let silent: Vec<TcpStream> = (0..wanted("FEDMERGE_TEST_SILENT", USUAL_SILENT))
        .map(|_| TcpStream::connect(&federation.address).unwrap())
        .collect();
    let nonsense = wanted("FEDMERGE_TEST_NONSENSE", USUAL_NONSENSE);
    let (is_over, babbled) = (AtomicBool::new(false), AtomicUsize::new(0));
    let during = thread::scope(|scope| {
        for _ in 0..BABBLERS {
            scope.spawn(|| babble(&federation.address, &is_over, &babbled));
        }
        let _raise = Raise(&is_over);
        latencies(&federation, || babbled.load(Ordering::Relaxed) < nonsense)
    });
    let ratio = during[0].as_secs_f64() / before[0].as_secs_f64();
    eprintln!(
        "{} silent and {} nonsensical connections: a new connection and a call take {:?}, at most {:?}; without them {:?}, {:?}: {ratio:.1} \
         times as long",
        silent.len(),
        babbled.into_inner(),
        during[0],
        during[1],
        before[0],
        before[1],
    );
    // Whoever comes without a certificate finds a place among the crowd, too.
    federation.enrol(&["late"]);
    assert!(federation.stop_server().status.success());
}
