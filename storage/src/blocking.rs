//! Runs disk operations with plain blocking calls, for tools and tests.
//!
//! The same files and the same promises as `uring/`, without an executor and without O_DIRECT: `trestle check` uses it on
//! a store that no server has open.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};

use crate::op::{DiskData, DiskDone, DiskError, DiskOp, DiskOpKind, FileId, SMALL_FILE_BYTES_MAX};

/// Zeros are written in pieces of this size, in bytes.
const ZERO_BYTES: usize = 1 << 20;

/// The files of one directory.
#[derive(Debug)]
pub struct Blocking {
    dir: PathBuf,
}

impl Blocking {
    /// Uses a directory as it is; take a [`StoreLock`](crate::StoreLock) where a server might be at work.
    pub fn new(dir: &Path) -> Blocking {
        Blocking { dir: dir.to_path_buf() }
    }

    /// Runs one operation to its end.
    pub fn run(&self, op: DiskOp) -> DiskDone {
        DiskDone { id: op.id, result: self.perform(op.kind).map_err(|error| error_of(&error)) }
    }

    fn perform(&self, kind: DiskOpKind) -> std::io::Result<DiskData> {
        match kind {
            DiskOpKind::Create { file, bytes } => self.create(file, bytes)?,
            DiskOpKind::Write { file, offset, data } => {
                let file = OpenOptions::new().write(true).open(self.path(file))?;
                file.write_all_at(&data.concat(), offset)?;
                file.sync_data()?;
            }
            DiskOpKind::Read { file, offset, len } => {
                let mut bytes = BytesMut::zeroed(len);
                File::open(self.path(file))?.read_exact_at(&mut bytes, offset)?;
                return Ok(DiskData::Bytes(bytes.freeze()));
            }
            DiskOpKind::Sync { file } => File::open(self.path(file))?.sync_data()?,
            DiskOpKind::Delete { file } => match std::fs::remove_file(self.path(file)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => sync_dir(&self.dir)?,
            },
            DiskOpKind::List => return Ok(DiskData::Files(list(&self.dir)?)),
            DiskOpKind::ReadFile { file } => return Ok(DiskData::Bytes(read_small(&self.path(file))?)),
            DiskOpKind::WriteFileAtomic { file, data } => self.replace(file, &data)?,
        }
        Ok(DiskData::Done)
    }

    fn create(&self, file: FileId, bytes: u64) -> std::io::Result<()> {
        let path = self.path(file);
        let new = OpenOptions::new().write(true).create_new(true).open(&path)?;
        let zeros = vec![0; ZERO_BYTES];
        let filled = (|| {
            let mut at = 0;
            while at < bytes {
                let piece = zeros.len().min((bytes - at) as usize);
                new.write_all_at(&zeros[..piece], at)?;
                at += piece as u64;
            }
            new.sync_all()
        })();
        if let Err(error) = filled {
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        sync_dir(&self.dir)
    }

    fn replace(&self, file: FileId, data: &[u8]) -> std::io::Result<()> {
        let (path, new) = (self.path(file), self.dir.join(format!("{}.new", file.name())));
        let mut out = File::create(&new)?;
        out.write_all(data)?;
        out.sync_all()?;
        std::fs::rename(new, path)?;
        sync_dir(&self.dir)
    }

    fn path(&self, file: FileId) -> PathBuf {
        self.dir.join(file.name())
    }
}

/// The files of ours in a directory, with their lengths.
pub(crate) fn list(dir: &Path) -> std::io::Result<Vec<(FileId, u64)>> {
    let mut files = Vec::new();
    for found in std::fs::read_dir(dir)? {
        let found = found?;
        if let Some(file) = found.file_name().to_str().and_then(FileId::from_name) {
            files.push((file, found.metadata()?.len()));
        }
    }
    Ok(files)
}

/// The whole of a small file.
pub(crate) fn read_small(path: &Path) -> std::io::Result<Bytes> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    if bytes > SMALL_FILE_BYTES_MAX {
        return Err(std::io::Error::from(ErrorKind::FileTooLarge));
    }
    let mut data = BytesMut::zeroed(bytes as usize);
    file.read_exact_at(&mut data, 0)?;
    Ok(data.freeze())
}

fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The operating system's error in the log's words.
pub(crate) fn error_of(error: &std::io::Error) -> DiskError {
    match error.kind() {
        ErrorKind::NotFound => DiskError::Missing,
        ErrorKind::AlreadyExists => DiskError::Exists,
        ErrorKind::UnexpectedEof => DiskError::Short,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => DiskError::NoSpace,
        ErrorKind::FileTooLarge => DiskError::Io(nix::libc::EFBIG),
        _ => DiskError::Io(error.raw_os_error().unwrap_or(nix::libc::EIO)),
    }
}
