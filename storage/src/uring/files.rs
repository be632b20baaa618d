//! Files as io_uring sees them.
//!
//! Segments are made, read and flushed here; their runs are written by [`super::writer`]. They are opened `O_DIRECT`,
//! which leaves the page cache alone; a file system that refuses it gets the same through the page cache. Both read and
//! write whole blocks. Reads are copied once, out of the ring's own buffers, because those cannot leave the core.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use glommio::GlommioError;
use glommio::io::{BufferedFile, Directory, DmaFile, OpenOptions};

use crate::op::BLOCK;

/// Largest single transfer: what the ring's buffers are cut into, in bytes.
const PIECE_BYTES: usize = 1 << 20;

/// An open segment.
#[derive(Debug)]
pub(super) enum OpenFile {
    Direct(DmaFile),
    Buffered(BufferedFile),
}

impl OpenFile {
    /// Opens a file that exists.
    pub async fn open(path: &Path) -> Result<OpenFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        match options.dma_open(path).await {
            Ok(file) => Ok(OpenFile::Direct(file)),
            Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => {
                Ok(OpenFile::Buffered(options.buffered_open(path).await.map_err(plain)?))
            }
            Err(error) => Err(plain(error)),
        }
    }

    /// Makes a file of `bytes` zeros, durable with its length; written through, so that later writes need no change
    /// of the file system's own records.
    pub async fn create(path: &Path, bytes: u64) -> Result<()> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = match options.dma_open(path).await {
            Ok(file) => OpenFile::Direct(file),
            Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => {
                options.create_new(false).create(true);
                OpenFile::Buffered(options.buffered_open(path).await.map_err(plain)?)
            }
            Err(error) => return Err(plain(error)),
        };
        file.allocate(bytes).await?;
        let mut at = 0;
        while at < bytes {
            let len = PIECE_BYTES.min((bytes - at) as usize);
            file.write_zeros(at, len).await?;
            at += len as u64;
        }
        file.sync().await?;
        file.close().await
    }

    /// Reserves the space, so that a full disk is noticed before anything is written. File systems that cannot are
    /// asked by the zeros.
    async fn allocate(&self, bytes: u64) -> Result<()> {
        let asked = match self {
            OpenFile::Direct(file) => file.pre_allocate(bytes, false).await,
            OpenFile::Buffered(file) => file.pre_allocate(bytes, false).await,
        };
        match asked.map_err(plain) {
            Err(error) if error.raw_os_error() != Some(nix::libc::EOPNOTSUPP) => Err(error),
            _ => Ok(()),
        }
    }

    async fn write_zeros(&self, offset: u64, len: usize) -> Result<()> {
        let written = match self {
            OpenFile::Direct(file) => {
                let mut buffer = file.alloc_dma_buffer(len);
                buffer.as_bytes_mut().fill(0);
                file.write_at(buffer, offset).await
            }
            OpenFile::Buffered(file) => file.write_at(vec![0; len], offset).await,
        };
        // A short write of whole blocks into a file of fixed length has only failed half-way; what is on disk is
        // unknown.
        if written.map_err(plain)? == len { Ok(()) } else { Err(Error::from_raw_os_error(nix::libc::EIO)) }
    }

    /// Exactly `len` bytes; `UnexpectedEof` when the file ends before.
    pub async fn read(&self, offset: u64, len: usize) -> Result<Bytes> {
        let mut bytes = BytesMut::with_capacity(len);
        while bytes.len() < len {
            let at = offset + bytes.len() as u64;
            let piece = PIECE_BYTES.min((len - bytes.len()).next_multiple_of(BLOCK));
            let read = match self {
                OpenFile::Direct(file) => file.read_at_aligned(at, piece).await,
                OpenFile::Buffered(file) => file.read_at(at, piece).await,
            };
            let read = read.map_err(plain)?;
            if read.is_empty() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let wanted = read.len().min(len - bytes.len());
            bytes.extend_from_slice(read.get(..wanted).unwrap_or_default());
        }
        Ok(bytes.freeze())
    }

    pub async fn sync(&self) -> Result<()> {
        match self {
            OpenFile::Direct(file) => file.fdatasync().await.map_err(plain),
            OpenFile::Buffered(file) => file.fdatasync().await.map_err(plain),
        }
    }

    async fn close(self) -> Result<()> {
        match self {
            OpenFile::Direct(file) => file.close().await.map_err(plain),
            OpenFile::Buffered(file) => file.close().await.map_err(plain),
        }
    }
}

/// Has glommio find out whether the device can be polled, on a file with real content.
///
/// It asks once per device, with the first file that is opened, by reading that file's first sector; on an empty file
/// the read succeeds without reaching the device, and every later read fails with EOPNOTSUPP.
pub(super) async fn probe(dir: &Path) -> Result<()> {
    let path = dir.join("probe");
    std::fs::write(&path, [1; BLOCK])?;
    std::fs::File::open(&path)?.sync_all()?;
    let file = OpenFile::open(&path).await?;
    let read = file.read(0, BLOCK).await;
    file.close().await?;
    std::fs::remove_file(&path)?;
    read.map(drop)
}

/// Writes a small file beside its place and moves it there.
pub(super) async fn replace(dir: &Path, name: &str, data: &[u8]) -> Result<()> {
    let (path, new) = (dir.join(name), dir.join(format!("{name}.new")));
    let file = BufferedFile::create(&new).await.map_err(plain)?;
    let written = file.write_at(data.to_vec(), 0).await.map_err(plain)?;
    if written != data.len() {
        return Err(ErrorKind::StorageFull.into());
    }
    file.fdatasync().await.map_err(plain)?;
    file.close().await.map_err(plain)?;
    glommio::io::rename(&new, &path).await.map_err(plain)?;
    sync_dir(dir).await
}

/// Removes a file; one that is not there is fine.
pub(super) async fn remove(dir: &Path, name: &str) -> Result<()> {
    match glommio::io::remove(dir.join(name)).await.map_err(plain) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => sync_dir(dir).await,
    }
}

/// Makes names in a directory durable.
pub(super) async fn sync_dir(dir: &Path) -> Result<()> {
    let dir = Directory::open(dir).await.map_err(plain)?;
    dir.sync().await.map_err(plain)?;
    dir.close().await.map_err(plain)
}

fn plain(error: GlommioError<()>) -> Error {
    match error.raw_os_error() {
        Some(errno) => Error::from_raw_os_error(errno),
        None => Error::from(error),
    }
}
