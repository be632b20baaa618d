//! The JetStream API: subjects, errors, and what answers each call.
//!
//! ```text
//!  subject ─► call ─► enter ─► meta leader ─► meta ─┬─ edit, enlist, evict   entries for the table
//!                       │                           ├─ list, account         names, or a gather
//!                       │                           └─ stepdown
//!                       ├────► stream leader ────► stream, message
//!                       └────► consumer leader ──► consumer
//! ```
//!
//! Handlers are functions of [`facts`], the machine they are about and the request; they return a [`verdict`] that the
//! hub carries out. They follow the peer's `jetstream_api.go` and ADR-1 (JSON API), ADR-2 (types), ADR-31 (direct get).

mod account;
pub mod call;
mod choose;
pub mod cluster_info;
pub mod consumer;
mod edit;
mod enlist;
pub mod enter;
pub mod errors;
mod evict;
pub mod facts;
mod in_flight;
pub mod json;
pub mod list;
pub mod mend;
pub mod message;
pub mod meta;
pub mod pause;
pub mod render;
pub mod request;
mod stepdown;
pub mod stream;
pub mod verdict;

#[cfg(test)]
mod tests;
