//! The log of a core: one append path for every group that lives there.

#![deny(unsafe_code)]

pub mod event;
pub mod identity;
mod log;
pub mod op;
pub mod options;
pub mod record;
mod recover;
pub mod uring;

pub use event::{AppendError, Damage, LogEvent, LogStats, ReadError, ReadResult, ReadTicket};
pub use identity::{Identity, IdentityError};
pub use log::Log;
pub use op::{BLOCK, DiskData, DiskDone, DiskError, DiskOp, DiskOpKind, FileId, OpId};
pub use options::{Replay, StoreOptions};
pub use record::{GroupId, Index, Lsn, Record, RecordKind, Term};
pub use recover::{RecoverError, Recovered, Recovery, RecoveryReport};
