//! A crowd that says nothing, or nonsense, keeps nobody out who has a certificate.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fedmerge_common::clock::Clock;
use fedmerge_common::join::JoinString;
use fedmerge_common::tls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::harness::federation::Federation;
use crate::harness::loris::Loris;
use crate::harness::plan::Plan;
use crate::harness::process::LIMIT;
use crate::harness::raw_client::{RawClient, tls_of};

/// Connections that are opened and then say nothing; more than the server keeps of strangers.
const USUAL_SILENT: usize = 400;
/// Connections that say nonsense, at least.
const USUAL_NONSENSE: usize = 200;
/// Connections whose headers never end.
const USUAL_SLOW: usize = 200;
/// Streams of chunks on which nothing comes, on each of so many connections of one client.
const SILENT_STREAMS: [usize; 2] = [4, 64];
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

/// A federation of one honest client, whose server takes as many handshakes as come: the crowd has its address here.
fn federation() -> Federation {
    let mut federation = Federation::new(&Plan::of(1));
    let settings = "[limits]\nhandshakes = 1_000_000\n";
    fs::write(federation.path("server/server.toml"), settings).unwrap();
    federation.start_server();
    federation.enrol(&["honest", "eve"]);
    federation
}

#[expect(clippy::print_stderr, reason = "a measurement is read by a person")]
fn tell(who: &str, during: [Duration; 2], before: [Duration; 2]) {
    let ratio = during[0].as_secs_f64() / before[0].as_secs_f64();
    eprintln!(
        "{who}: a new connection and a call take {:?}, at most {:?}; without them {:?}, {:?}: {ratio:.1} times as long",
        during[0], during[1], before[0], before[1],
    );
}

#[test]
fn those_whose_headers_or_streams_never_end_keep_nobody_waiting() {
    let mut federation = federation();
    let join: JoinString = federation.token().parse().unwrap();
    let before = latencies(&federation, || false);
    let slow = wanted("FEDMERGE_TEST_SLOW", USUAL_SLOW);
    let unknown = tls::client_config_pinned(join.authority_pin, Clock::system()).unwrap();
    let mut strangers = Loris::start(&federation.address, unknown, slow);
    let mut members = Loris::start(&federation.address, tls_of(&federation, "eve"), 8);
    strangers.wait_for(slow);
    members.wait_for(8);
    let [connections, streams] = SILENT_STREAMS;
    let eves: Vec<_> = (0..connections)
        .map(|_| RawClient::with_certificate_of(&federation, "eve"))
        .collect();
    let held: Vec<_> = eves.iter().map(|eve| eve.hold_silent(streams)).collect();
    let during = latencies(&federation, || false);
    let silent = connections * streams;
    tell(
        &format!(
            "{slow} strangers and a client whose headers never end, and {silent} silent streams"
        ),
        during,
        before,
    );
    // Whoever comes without a certificate finds a place among them, too.
    federation.enrol(&["late"]);
    drop(held);
    assert!(federation.stop_server().status.success());
}

/// Connections from another address of this machine, one after another: how many the server closed before it said anything.
fn knock(address: &str, count: usize) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let knocking = async {
        let mut closed = 0;
        for _ in 0..count {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
            // Nonsense, which is answered with an alert where it is looked at.
            let _gone = stream.write_all(&[0x16, 3, 1, 0, 200, 7, 7, 7]).await;
            let _gone = stream.shutdown().await;
            let mut answer = Vec::new();
            let read = stream.read_to_end(&mut answer).await;
            closed += usize::from(read.is_err() || answer.is_empty());
        }
        closed
    };
    runtime.block_on(knocking)
}

#[test]
fn an_address_that_shakes_hands_too_often_is_not_answered_and_others_are() {
    let mut federation = Federation::new(&Plan::of(1));
    let settings = "[limits]\nhandshakes = 20\n";
    fs::write(federation.path("server/server.toml"), settings).unwrap();
    federation.start_server();
    federation.enrol(&["honest"]);
    let closed = knock(&federation.address, 400);
    assert!(closed > 100, "{closed} of 400");
    assert!(RawClient::reaches(&federation, "honest"));
    let status = federation.run(&["server", "status", "--dir", "server", "--format", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status.well().stdout).unwrap();
    let refused = status["refusals"]["too-many-handshakes"].as_u64();
    assert!(refused.is_some_and(|count| count > 100), "{status}");
    assert!(federation.stop_server().status.success());
}

#[test]
fn those_who_say_nothing_or_nonsense_keep_nobody_out() {
    fedmerge_server::open_files::allow_all();
    let mut federation = federation();
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
    let (silent, babbled) = (silent.len(), babbled.into_inner());
    tell(
        &format!("{silent} silent and {babbled} nonsensical connections"),
        during,
        before,
    );
    // Whoever comes without a certificate finds a place among the crowd, too.
    federation.enrol(&["late"]);
    assert!(federation.stop_server().status.success());
}
