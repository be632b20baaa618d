//! Where configuration text comes from: files and the environment, behind a trait so that everything that reads
//! the language is a function of values and can be tested without either.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// What the readers may ask of the outside.
pub trait Source {
    /// The whole file. It must not return more than `bytes_max` bytes; a longer file is an error.
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>>;
    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;
}

/// The real files and environment of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Source for Disk {
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        use std::io::Read;
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > bytes_max {
            return Err(io::Error::other(format!("the file is longer than {bytes_max} bytes")));
        }
        Ok(bytes)
    }

    fn variable(&self, name: &str) -> Option<String> {
        // The standard library panics on a name with `=` or NUL in it.
        if name.is_empty() || name.contains(['=', '\0']) {
            return None;
        }
        std::env::var(name).ok()
    }
}

/// Files and variables that exist in memory only.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    pub variables: BTreeMap<String, String>,
}

impl Source for Memory {
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        match self.files.get(path) {
            Some(bytes) if bytes.len() <= bytes_max => Ok(bytes.clone()),
            Some(_) => Err(io::Error::other(format!("the file is longer than {bytes_max} bytes"))),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}
