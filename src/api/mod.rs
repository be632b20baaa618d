//! The JetStream API: subjects, errors, and what answers each call.

pub mod call;
pub mod errors;
