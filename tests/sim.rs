//! A whole federation in one thread under virtual time: the real coordinator, many real agents, and everything that can go wrong.
//!
//! A seed chooses the plan, the clients and the faults: requests and responses that are lost, repeated or late, streams that break,
//! processes that die between any two steps, records that are torn in the middle, clocks that jump, clients that are slow, that flap, that
//! lie. After every event the named invariants hold; when the faults end, everything comes to its end. What a seed does never changes,
//! so a failing one is replayed by the command that it prints, and becomes a named scenario in `sim/scenarios.rs`.
//!
//! Most seeds take for granted that what was written survives, to be fast. Some run on the server's own ledger, of whose files a crash
//! leaves what a power cut would.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed test should panic"
)]

mod sim {
    mod calls;
    mod client;
    mod crash;
    mod disk;
    mod faults;
    mod happening;
    mod ledger;
    mod random;
    mod scenarios;
    mod server;
    mod torn;
    mod verdict;
    mod world;
}
