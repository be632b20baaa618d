//! The operator's words: from a file in the peer's configuration language, or the same keys as TOML, to the checked
//! `Config` that the rest of the server reads.
//!
//! ```text
//!   .conf ──► lang ──┐                 flags
//!                    ├──► tree ──► build ──► Config ──► reload (compares two)
//!   .toml ──► toml ──┘
//! ```

pub mod build;
pub mod cursor;
pub mod duration;
pub mod lang;
mod near;
pub mod options;
pub mod place;
pub mod reload;
pub mod report;
pub mod scalar;
pub mod source;
pub mod summary;
pub mod toml;
pub mod tree;

pub use build::{LoadError, load};
pub use options::Config;
