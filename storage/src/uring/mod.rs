//! Running disk operations with io_uring: the only part of the crate that awaits and that names glommio.

mod exec;
mod files;
mod writer;

pub use exec::Executor;
