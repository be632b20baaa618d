//! Running disk operations with io_uring: the only part of the crate that awaits.

mod exec;

pub use exec::Executor;
