//! A crowd that says nothing, or nonsense, keeps nobody out who has a certificate.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::federation::Federation;
use crate::harness::plan::Plan;
use crate::harness::raw_client::RawClient;

/// Connections that are opened and then say nothing; more than the server keeps of strangers.
const USUAL_SILENT: usize = 400;
/// Connections that say nonsense, one after another on each of so many threads, as long as the honest try.
const BABBLERS: usize = 4;
/// Connections of an honest client, each a new one.
const TRIES: usize = 20;

/// How many say nothing: `FEDMERGE_TEST_SILENT`, for a measurement.
fn silent() -> usize {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test has no settings but these"
    )]
    let wanted = std::env::var("FEDMERGE_TEST_SILENT");
    wanted.map_or(USUAL_SILENT, |number| number.parse().unwrap())
}

/// The middle one of the times that a new connection and a call on it take, and the longest.
fn latencies(federation: &Federation) -> [Duration; 2] {
    let mut times: Vec<Duration> = (0..TRIES)
        .map(|_| {
            let begun = Instant::now();
            let client = RawClient::with_certificate_of(federation, "honest");
            client.report_progress(1).unwrap();
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    [times[TRIES / 2], times[TRIES - 1]]
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
    let before = latencies(&federation);
    let silent: Vec<TcpStream> = (0..silent())
        .map(|_| TcpStream::connect(&federation.address).unwrap())
        .collect();
    let (is_over, babbled) = (AtomicBool::new(false), AtomicUsize::new(0));
    let during = thread::scope(|scope| {
        for _ in 0..BABBLERS {
            scope.spawn(|| babble(&federation.address, &is_over, &babbled));
        }
        let during = latencies(&federation);
        is_over.store(true, Ordering::Relaxed);
        during
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
