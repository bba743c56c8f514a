//! How often what goes wrong, of a thousand times.

use super::random::Random;

/// The faults of one simulation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// A request never arrives.
    pub(crate) lost_request: u64,
    /// A response never arrives.
    pub(crate) lost_response: u64,
    /// A request arrives twice.
    pub(crate) repeated: u64,
    /// A message takes far longer than others.
    pub(crate) late: u64,
    /// A stream of notices breaks after a notice.
    pub(crate) broken_stream: u64,
    /// The server dies before, in the middle of, or after it stores its record.
    pub(crate) server_death: u64,
    /// The ledger cannot be written for a while.
    pub(crate) busy_ledger: u64,
    /// A client dies after a step.
    pub(crate) client_death: u64,
    /// A merge or a publication fails.
    pub(crate) failed_deed: u64,
    /// An accepted update is not there when it is to be merged.
    pub(crate) lost_update: u64,
    /// A trainer fails.
    pub(crate) failed_training: u64,
    /// The server's clock jumps, at each of its steps.
    pub(crate) clock_jump: u64,
    /// A person wants an older model back, after each merge.
    pub(crate) rollback: u64,
}

impl Faults {
    /// None at all.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// Each kind of fault is absent, rare or frequent.
    pub(crate) fn of(random: &mut Random) -> Self {
        let mut some = |rare: u64, frequent: u64| *random.pick(&[0, rare, rare, frequent]);
        Self {
            lost_request: some(20, 200),
            lost_response: some(20, 200),
            repeated: some(20, 200),
            late: some(10, 100),
            broken_stream: some(10, 100),
            server_death: some(5, 40),
            busy_ledger: some(5, 50),
            client_death: some(3, 20),
            failed_deed: some(20, 200),
            lost_update: some(20, 200),
            failed_training: some(10, 100),
            clock_jump: some(2, 20),
            rollback: some(200, 600),
        }
    }
}
