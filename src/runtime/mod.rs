//! The shell: one glommio executor per core, the sockets and files they touch, and nothing that decides.
//!
//! ```text
//!   main thread   config, ports, store, logs; starts the rest; waits
//!   cores 0..n    core.rs: events ──► shard ──► effects
//!   signals       signals.rs: INT, TERM, HUP, USR1, USR2 as values
//!   watchdog      watchdog.rs: wakes every core now and then
//! ```

#![allow(unsafe_code)]

pub mod clients;
pub mod clock;
pub mod core;
pub mod http;
pub mod inbox;
pub mod links;
pub mod mesh;
pub mod names;
pub mod ports;
pub mod probe;
mod server;
pub mod signals;
pub mod store;
pub mod watchdog;

pub use server::serve;

use crate::ids::CoreId;

/// What a core tells the main thread.
#[derive(Debug)]
pub struct CoreReport {
    pub core: CoreId,
    pub report: Report,
}

#[derive(Debug)]
pub enum Report {
    Ready,
    ClusterFormed(String),
    Stopped,
    Fatal(String),
}
