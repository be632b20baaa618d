//! Where configuration text comes from: files and the environment, behind a trait so that everything that reads
//! the language is a function of values and can be tested without either.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

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

/// Takes the digest of every file that is read through it, in their order: the same digest, the same texts.
pub struct Digested<'s> {
    source: &'s dyn Source,
    hash: RefCell<Sha256>,
}

impl<'s> Digested<'s> {
    pub fn new(source: &'s dyn Source) -> Digested<'s> {
        Digested { source, hash: RefCell::new(Sha256::new()) }
    }

    /// `sha256:` and the digest so far.
    pub fn digest(&self) -> String {
        let hash = self.hash.borrow().clone().finalize();
        hash.iter().fold("sha256:".to_string(), |text, byte| text + &format!("{byte:02x}"))
    }
}

impl Source for Digested<'_> {
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let bytes = self.source.read(path, bytes_max)?;
        // The length keeps two files apart from one that is both.
        self.hash.borrow_mut().update((bytes.len() as u64).to_le_bytes());
        self.hash.borrow_mut().update(&bytes);
        Ok(bytes)
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.source.variable(name)
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
