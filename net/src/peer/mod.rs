//! The protocol between Trestle servers: frames on three lanes, and how a link comes to stand.
//!
//! Reading order: [`lane`] → [`frame`] → [`hello`] → [`link`] → [`outbox`]. The bytes are drawn in docs/WIRE.md.
//! What the frames carry is not known here: that is the business of whoever owns the nodes.

pub mod frame;
pub mod hello;
pub mod lane;
pub mod link;
pub mod outbox;
