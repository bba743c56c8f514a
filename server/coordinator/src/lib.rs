//! The round protocol as a pure state machine.
