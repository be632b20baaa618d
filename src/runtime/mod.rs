//! The shell: one glommio executor per core, the sockets and files they touch, and nothing that decides.
//!
//! ```text
//!   main thread   plan.rs: names, ports, store · server.rs: starts the rest · life.rs: waits, passes orders on
//!   cores 0..n    core.rs: events ──► shard ──► effects
//!   signals       signals.rs: INT, TERM, HUP, USR1, USR2 as values
//!   watchdog      watchdog.rs: wakes every core now and then
//! ```

#![allow(unsafe_code)]

mod alarm;
pub mod check;
pub mod clients;
pub mod clock;
pub mod core;
pub mod http;
pub mod inbox;
mod judge;
mod life;
pub mod links;
pub mod mesh;
pub mod names;
mod plan;
pub mod ports;
pub mod probe;
mod room;
mod server;
pub mod signals;
pub mod store;
pub mod vitals;
pub mod watchdog;

pub use plan::COMPATIBLE_VERSION;
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
    /// It has recovered its log.
    Ready,
    /// Clients can connect to it.
    Open,
    ClusterFormed(String),
    /// Somebody wants the configuration read again, and to hear how it went.
    ReloadAsked(u64),
    /// Leaving gently: its last client has gone.
    Drained,
    Stopped,
    Fatal(String),
}
