//! The log of a core: one append path for every group that lives there.

#![deny(unsafe_code)]

mod append;
mod blocking;
mod cache;
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

pub use blocking::Blocking;
pub use event::{AppendError, Damage, LogEvent, LogStats, ReadError, ReadResult, ReadTicket};
pub use identity::{Identity, IdentityError};
pub use lock::{LockError, StoreLock};
pub use log::Log;
pub use op::{BLOCK, DiskData, DiskDone, DiskError, DiskOp, DiskOpKind, FileId, OpId};
pub use options::{Replay, StoreOptions};
pub use record::{GroupId, Index, Lsn, Record, RecordKind, Term};
pub use recover::{RecoverError, Recovered, Recovery, RecoveryReport};
