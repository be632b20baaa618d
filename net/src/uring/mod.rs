//! Sockets on a glommio executor, and nothing more: listen, dial, read, write.
//!
//! The only part of this crate that awaits. It decides nothing: when to accept, whom to dial, how long to wait and what
//! the bytes mean is up to the caller. Everything here must be called on a glommio executor unless said otherwise.
//!
//! Reading order: [`conn`] → [`buffers`] → [`listen`] → [`dial`].

#![allow(unsafe_code)]

pub mod buffers;
pub mod conn;
pub mod dial;
pub mod listen;

#[cfg(test)]
mod tests;
