//! Runs the log's operations on one directory.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Result;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::files::{self, OpenFile};
use super::writer::{self, Writer};
use crate::blocking::{error_of, list, read_small};
use crate::lock::{LockError, StoreLock};
use crate::op::{DiskData, DiskDone, DiskOp, DiskOpKind, FileId};

/// The files of one log. Cheap to clone; `run` may be called from as many tasks as there are operations, on the
/// executor of one core. The directory stays locked until the last clone is gone.
#[derive(Clone, Debug)]
pub struct Executor {
    inner: Rc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    /// Segments stay open once used; their number is bounded by the manifest.
    open: RefCell<BTreeMap<FileId, Rc<Segment>>>,
    writer: Writer,
    /// The device was asked what it can do.
    probed: Cell<bool>,
    _lock: StoreLock,
}

/// An open segment.
#[derive(Debug)]
struct Segment {
    reads: OpenFile,
    /// For the writing thread.
    writes: Arc<File>,
}

impl Executor {
    /// Makes the directory if it is not there and takes its lock. Blocks shortly; meant for the start of a core.
    pub fn open(dir: &Path) -> std::result::Result<Executor, LockError> {
        let lock = StoreLock::take(dir)?;
        let writer = Writer::start().map_err(LockError::Io)?;
        let inner =
            Inner { dir: dir.to_path_buf(), open: RefCell::default(), writer, probed: Cell::new(false), _lock: lock };
        Ok(Executor { inner: Rc::new(inner) })
    }

    /// Runs one operation to its end. Errors are part of the answer.
    pub async fn run(&self, op: DiskOp) -> DiskDone {
        let DiskOp { id, kind } = op;
        let result = self.perform(kind).await.map_err(|error| error_of(&error));
        DiskDone { id, result }
    }

    async fn perform(&self, kind: DiskOpKind) -> Result<DiskData> {
        let dir = &self.inner.dir;
        match kind {
            DiskOpKind::Write { file, offset, data } => {
                let writes = self.file(file).await?.writes.clone();
                self.inner.writer.write(writes, offset, data).await?;
            }
            DiskOpKind::Read { file, offset, len } => {
                return Ok(DiskData::Bytes(self.file(file).await?.reads.read(offset, len).await?));
            }
            DiskOpKind::Create { file, bytes } => self.create(file, bytes).await?,
            DiskOpKind::Sync { file } => self.file(file).await?.reads.sync().await?,
            DiskOpKind::Delete { file } => {
                self.inner.open.borrow_mut().remove(&file);
                files::remove(dir, &file.name()).await?;
            }
            DiskOpKind::List => return Ok(DiskData::Files(list(dir)?)),
            DiskOpKind::ReadFile { file } => return Ok(DiskData::Bytes(read_small(&dir.join(file.name()))?)),
            DiskOpKind::WriteFileAtomic { file, data } => files::replace(dir, &file.name(), &data).await?,
        }
        Ok(DiskData::Done)
    }

    async fn create(&self, file: FileId, bytes: u64) -> Result<()> {
        let (dir, name) = (&self.inner.dir, file.name());
        if !self.inner.probed.get() {
            files::probe(dir).await?;
            self.inner.probed.set(true);
        }
        match OpenFile::create(&dir.join(&name), bytes).await {
            Ok(()) => files::sync_dir(dir).await,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(error),
            Err(error) => {
                let _ = files::remove(dir, &name).await;
                Err(error)
            }
        }
    }

    async fn file(&self, file: FileId) -> Result<Rc<Segment>> {
        let known = self.inner.open.borrow().get(&file).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let path = self.inner.dir.join(file.name());
        let opened = Rc::new(Segment { reads: OpenFile::open(&path).await?, writes: writer::open(&path)? });
        // Two tasks may have opened it at the same time; the first stays.
        Ok(self.inner.open.borrow_mut().entry(file).or_insert(opened).clone())
    }
}
