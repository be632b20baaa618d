//! One process per directory.
//!
//! An advisory lock (`flock`) on the file `lock`, held as long as the value lives and given back by the kernel when the
//! process ends, however it ends. The file holds the owner's process id, for the message that the second one prints.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// A held lock.
#[derive(Debug)]
pub struct StoreLock {
    _file: File,
}

/// Why a directory cannot be used.
#[derive(Debug)]
pub enum LockError {
    /// Another process holds it; its id, if the file says so.
    Taken {
        pid: Option<u32>,
    },
    Io(std::io::Error),
}

impl std::fmt::Display for LockError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LockError::Taken { pid: Some(pid) } => write!(f, "another server uses this store (pid {pid})"),
            LockError::Taken { pid: None } => f.write_str("another server uses this store"),
            LockError::Io(error) => write!(f, "the store cannot be locked: {error}"),
        }
    }
}

impl std::error::Error for LockError {}

impl From<std::io::Error> for LockError {
    fn from(error: std::io::Error) -> LockError {
        LockError::Io(error)
    }
}

impl StoreLock {
    /// Makes the directory if it is not there and takes its lock.
    pub fn take(dir: &Path) -> Result<StoreLock, LockError> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join("lock");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = (&file).take(32).read_to_string(&mut text);
                return Err(LockError::Taken { pid: text.trim().parse().ok() });
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        // Only for the message of the second one: a full disk is no reason not to start.
        let noted = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0)));
        match noted.and_then(|_| writeln!(file, "{}", std::process::id())) {
            Err(error) if error.kind() != ErrorKind::StorageFull => return Err(error.into()),
            _ => {}
        }
        Ok(StoreLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let dir = std::env::temp_dir().join(format!("trestle-lock-{}", std::process::id()));
        let first = StoreLock::take(&dir).unwrap();
        let refusal = StoreLock::take(&dir).unwrap_err().to_string();
        assert_eq!(refusal, format!("another server uses this store (pid {})", std::process::id()));
        drop(first);
        drop(StoreLock::take(&dir).unwrap());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
