//! The log of a core: one append path for every group that lives there, and everything needed to get it back.
//!
//! All groups of a core share one log. What they append while a write is on its way goes out with the next one, so one
//! aligned write makes the records of every group durable. The log is pure: it plans operations ([`DiskOp`]) and is
//! told results ([`DiskDone`]); `uring/` runs them on a real machine, [`Blocking`] for tools, a simulator in memory. No
//! clock, no randomness, no locks, no await outside `uring/`.
//!
//! # On disk
//!
//! ```text
//!  store/identity                        who the store belongs to                        identity.rs
//!  store/shard-000/lock                  held while a server uses it                     lock.rs
//!  store/shard-000/manifest              which segments there are                        manifest.rs
//!  store/shard-000/segment-00000001      64 MiB each, zeroed when made, used again       segment.rs
//!
//!  a segment, in blocks of 4096 bytes
//!  0      4096   8192                                                                        64 MiB
//!  ├─head─┼─head─┼─run 17─┼─run 18──────┼─run 19─┼ ... ┼ unused ┼─ footer ───────┼─ trailer ──┤
//!                 │                                              what is in it     once sealed
//!                 ▼
//!  a run, one write:  header 64 │ entries 56 each │ bodies │ zeros to 4096
//!
//!  header   0 "TRSTRUN1"  8 version  12 entries   16 generation   24 run   32 durable     40 session_first
//!          48 session    52 offset  56 bytes      60 checksum
//!  entry    0 group       8 index   16 term       24 lsn          32 epoch 36 kind, flags 40 body offset
//!          44 body bytes 48 checksum of the body  52 checksum of the entry
//! ```
//!
//! `run.rs`, `segment.rs`, `footer.rs` and `manifest.rs` draw their bytes in full; `docs/ON_DISK.md` has it all in one
//! place, with what every state means at a start.
//!
//! # Reading order
//!
//! `record` and `op` (the words), `log` (the face), `append` (runs), `index` and `slots` (what counts), `set` and
//! `space` (segments), `read`, `sweep`; then `recover`, `scan`, `judge`, `restore`, `replay`; then `check` and `uring/`.
//!
//! # Invariants
//!
//! * `durable <= appended`; a run counts as durable only with all runs before it.
//! * Whether a record counts is decided by LSNs, never by where its bytes lie.
//! * A segment is used again only when nothing in it counts and whatever killed it is durable.
//! * Nothing that was read is trusted before its checksum; a damaged record is never handed out.
//! * A start never takes something lost for something empty.

#![deny(unsafe_code)]

mod append;
mod blocking;
mod cache;
pub mod check;
#[cfg(test)]
mod dice;
pub mod event;
mod footer;
pub mod identity;
mod index;
mod judge;
mod layout;
mod lock;
mod log;
mod manifest;
pub mod op;
pub mod options;
mod read;
pub mod record;
mod recover;
mod replay;
mod restore;
mod run;
mod scan;
mod segment;
mod set;
mod slots;
mod space;
mod sweep;
pub mod uring;

pub use append::Claim;
pub use blocking::Blocking;
pub use event::{AppendError, Damage, LogEvent, LogStats, ReadError, ReadResult, ReadTicket};
pub use identity::{Identity, IdentityError};
pub use lock::{LockError, StoreLock};
pub use log::Log;
pub use op::{BLOCK, DiskData, DiskDone, DiskError, DiskOp, DiskOpKind, FileId, OpId};
pub use options::{Replay, StoreOptions};
pub use record::{GroupId, Index, Lsn, Record, RecordKind, Term};
pub use recover::{RecoverError, Recovered, Recovery, RecoveryReport};
