//! The services as they are called from outside: decode, call, encode. Nothing is decided here but who may call.

pub mod access;
