//! The simulator: the shards of a whole cluster under a shell without threads, sockets, files or a clock.
//!
//! Reading order: [`options`], [`run`], [`world`] (the loop), then what surrounds the shards ([`net`], [`disk`],
//! [`server`], [`people`], [`workload`], [`faults`]), and what is checked ([`oracle`], [`check`], [`mutants`]).
//! `docs/SIMULATION.md` says how to use it.

#![forbid(unsafe_code)]

pub mod check;
pub mod client;
pub mod dice;
pub mod disk;
pub mod faults;
pub mod lost;
pub mod mutants;
pub mod net;
pub mod options;
pub mod oracle;
pub mod people;
pub mod run;
pub mod server;
pub mod trace;
pub mod workload;
pub mod world;
