//! Trestle: a NATS-compatible server whose streams are stretched over data centers.
//!
//! Reading order: [`ids`] and [`event`] (the seam), [`shard`] (the hub that only dispatches), then along the path of a
//! publish: [`client`], [`route`], [`stream`], [`group`], and back. `docs/ARCHITECTURE.md` is the map.

pub mod account;
pub mod api;
pub mod args;
pub mod client;
pub mod cluster;
pub mod config;
pub mod consumer;
pub mod event;
pub mod group;
pub mod ids;
pub mod jetstream;
pub mod lab;
pub mod limits;
pub mod logging;
pub mod reply;
pub mod route;
pub mod runtime;
pub mod shard;
pub mod stream;
pub mod system;
