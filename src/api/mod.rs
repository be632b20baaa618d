//! JetStream API: subject to handler.
pub mod errors;
