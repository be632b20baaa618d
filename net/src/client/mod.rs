//! The NATS client protocol, both ends of it: reading operations out of a byte stream and writing them.
//!
//! Reading order: [`op`] → [`parse`] → [`intake`] → [`mod@write`] → [`headers`].

pub mod headers;
pub mod intake;
pub mod op;
pub mod parse;
pub mod write;
