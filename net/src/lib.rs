//! How Trestle talks: subjects and who is interested in them, the NATS client protocol, the framed protocol
//! between Trestle servers, and a thin io_uring face for the sockets underneath.
//!
//! Reading order: [`subject`] → [`sublist`] → [`client`] → [`peer`] → [`uring`].
//!
//! Everything but [`uring`] is pure: bytes, times and seeds come in as values, operations and bytes go out, nothing
//! reads a clock or touches a socket, and no byte that a stranger sends can make it panic. The crate knows neither
//! consensus nor storage.

#![deny(unsafe_code)]

pub mod client;
pub mod peer;
pub mod subject;
pub mod sublist;
pub mod uring;

#[cfg(test)]
mod dice;
