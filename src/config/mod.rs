//! The operator's words: from a file in the peer's configuration language, or the same keys as TOML, to the checked
//! `Config` that the rest of the server reads.
//!
//! ```text
//!   .conf ──► lang ──┐                        flags
//!                    ├──► tree ──► build ──► Config ──► reload (compares two)
//!   .toml ──► toml ──┘
//! ```

pub mod options;
pub mod place;
