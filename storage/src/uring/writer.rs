//! A thread that writes a log's runs and waits for the disk, so that the core does neither.
//!
//! Segments are written with `O_DIRECT|O_DSYNC` into blocks that were written before: a write is durable when it
//! returns, without a flush of its own and without a change of the file system's records. For the kernel that is two
//! steps, the data and a flush of the device. Through the ring, the step in between is left to a kernel worker, which on
//! a busy machine waits its turn behind others; a thread that waits for both by itself is woken by the interrupt (see
//! docs/decisions/0016).
//!
//! Writes of one log are done one after the other, as they were asked for; while one is on its way the log gathers the
//! next. Dropping the writer waits for what is on its way: whoever gets the store's lock next meets no late write.

use std::fs::File;
use std::future::poll_fn;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread::{Builder, JoinHandle};

use bytes::Bytes;

use crate::op::BLOCK;

/// Largest single transfer, bytes: what the thread's one buffer holds. Longer runs take several.
const PIECE_BYTES: usize = 1 << 20;

/// A log's writing thread.
#[derive(Debug)]
pub(super) struct Writer {
    /// `None` only while it is dropped.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Job {
    file: Arc<File>,
    offset: u64,
    parts: Vec<Bytes>,
    done: Arc<Mutex<Done>>,
}

#[derive(Debug, Default)]
struct Done {
    result: Option<Result<()>>,
    waker: Option<Waker>,
}

/// Opens a segment for writes that are durable when they return.
pub(super) fn open(path: &Path) -> Result<Arc<File>> {
    let with = |flags| File::options().write(true).custom_flags(flags).open(path);
    let file = match with(nix::libc::O_DSYNC | nix::libc::O_DIRECT) {
        Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => with(nix::libc::O_DSYNC),
        opened => opened,
    };
    file.map(Arc::new)
}

impl Writer {
    pub(super) fn start() -> Result<Writer> {
        let (jobs, todo) = channel();
        let thread = Builder::new().name("disk".into()).spawn(move || work(&todo))?;
        Ok(Writer { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Writes the parts one behind the other; they are durable when it returns.
    pub(super) async fn write(&self, file: Arc<File>, offset: u64, parts: Vec<Bytes>) -> Result<()> {
        let done = Arc::new(Mutex::new(Done::default()));
        let job = Job { file, offset, parts, done: done.clone() };
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if !sent {
            return Err(ErrorKind::BrokenPipe.into());
        }
        poll_fn(|cx| {
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            match done.result.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    done.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // It does not panic; and if it had, nothing would be on its way.
            let _ = thread.join();
        }
    }
}

fn work(todo: &Receiver<Job>) {
    let mut memory = vec![0; PIECE_BYTES + BLOCK];
    // Direct writes want their bytes to begin at a block of memory.
    let start = memory.as_ptr().align_offset(BLOCK);
    let Some(buffer) = memory.get_mut(start..start + PIECE_BYTES) else { return };
    while let Ok(Job { file, offset, parts, done }) = todo.recv() {
        let result = write(&file, offset, parts, buffer);
        let waker = {
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.result = Some(result);
            done.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

fn write(file: &File, mut offset: u64, parts: Vec<Bytes>, buffer: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    for mut part in parts {
        while !part.is_empty() {
            let taken = part.split_to(part.len().min(buffer.len() - filled));
            buffer[filled..filled + taken.len()].copy_from_slice(&taken);
            filled += taken.len();
            if filled == buffer.len() {
                write_piece(file, offset, buffer)?;
                offset += filled as u64;
                filled = 0;
            }
        }
    }
    if filled > 0 { write_piece(file, offset, &buffer[..filled]) } else { Ok(()) }
}

/// A short write of whole blocks into a file of fixed length has only failed half-way: what is on disk is unknown.
fn write_piece(file: &File, offset: u64, piece: &[u8]) -> Result<()> {
    loop {
        match file.write_at(piece, offset) {
            Ok(written) if written == piece.len() => return Ok(()),
            Ok(_) => return Err(Error::from_raw_os_error(nix::libc::EIO)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_any_size_are_on_disk_one_behind_the_other() {
        let path = std::env::temp_dir().join(format!("trestle-writer-{}", std::process::id()));
        let sizes = [1, 4095, PIECE_BYTES, 5000, 3 * BLOCK - 904];
        let parts: Vec<Bytes> = sizes.iter().zip(1..).map(|(&size, fill)| Bytes::from(vec![fill; size])).collect();
        let whole = parts.concat();
        assert!(whole.len().is_multiple_of(BLOCK) && whole.len() > PIECE_BYTES);
        std::fs::write(&path, vec![9; whole.len() + 2 * BLOCK]).unwrap();
        let file = open(&path).unwrap();
        let writer = Writer::start().unwrap();
        let executor = glommio::LocalExecutorBuilder::default().io_memory(1 << 20).make();
        if let Ok(executor) = executor {
            executor.run(writer.write(file, BLOCK as u64, parts)).unwrap();
            drop(writer);
            let found = std::fs::read(&path).unwrap();
            assert_eq!((found[0], found[BLOCK - 1]), (9, 9));
            assert!(found[BLOCK..][..whole.len()] == whole[..], "the bytes differ");
            assert_eq!(found[BLOCK + whole.len()..], [9; BLOCK]);
        } else {
            println!("skipped: no io_uring");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_that_takes_no_writes_is_an_error() {
        let file = Arc::new(File::open("/proc/self/stat").unwrap());
        assert!(write(&file, 0, vec![Bytes::from(vec![0; BLOCK])], &mut [0; BLOCK]).is_err());
    }
}
