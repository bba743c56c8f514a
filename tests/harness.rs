//! Real federations for the stories: the built program's processes, TLS, port 0, files in a temporary directory.
//!
//! Start with `federation`. Invariant: a story waits on conditions (a line, a file, an end), never on time alone, and leaves no
//! process, mount or file behind, however it ends.

pub(crate) mod command;
pub(crate) mod events;
pub(crate) mod federation;
pub(crate) mod loris;
pub(crate) mod machine;
pub(crate) mod network;
pub(crate) mod plan;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod raw_client;
pub(crate) mod trainer;
pub(crate) mod values;
pub(crate) mod watch;
