//! Where in which file something stands, and remarks and refusals that point there.
//!
//! Positions are for people: they are printed as `file:line:col`, counted from 1, and decide nothing.

use std::fmt;
use std::sync::Arc;

/// One character of one configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's path as the operator wrote it; empty for text that came from no file.
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub col: u32,
}

impl Place {
    /// `file:line`, the short form that refusals of whole directives use.
    pub fn line_text(&self) -> String {
        if self.file.is_empty() { format!("line {}", self.line) } else { format!("{}:{}", self.file, self.line) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.file.is_empty() {
            write!(f, "line {}:{}", self.line, self.col)
        } else {
            write!(f, "{}:{}:{}", self.file, self.line, self.col)
        }
    }
}

/// A remark about the configuration that stops nothing; the start-up log shows it as a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub text: String,
}
