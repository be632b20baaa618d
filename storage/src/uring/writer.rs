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

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::future::poll_fn;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    answers: Arc<Answers>,
    /// Who waits for a write, in the order in which they asked, which is the order of the answers.
    waiting: Rc<RefCell<VecDeque<Rc<RefCell<Slot>>>>>,
    /// The task that brings the answers runs.
    brings: Cell<bool>,
}

#[derive(Debug)]
struct Job {
    file: Arc<File>,
    offset: u64,
    parts: Vec<Bytes>,
}

/// What the thread leaves for the core. It wakes one task, which outlives the thread: in glommio 0.9 a task whose end
/// is awaited may be gone while another thread is still about to let go of its waker.
#[derive(Debug, Default)]
struct Answers(Mutex<Left>);

#[derive(Debug, Default)]
struct Left {
    results: Vec<Result<()>>,
    waker: Option<Waker>,
    /// The thread has ended.
    over: bool,
}

/// One write's place for its answer, on the core.
#[derive(Debug, Default)]
struct Slot {
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
        let answers = Arc::new(Answers::default());
        let left = answers.clone();
        let thread = Builder::new().name("disk".into()).spawn(move || work(&todo, &left))?;
        let (waiting, brings) = (Rc::default(), Cell::new(false));
        Ok(Writer { jobs: Some(jobs), thread: Some(thread), answers, waiting, brings })
    }

    /// Writes the parts one behind the other; they are durable when it returns. Every call comes from the same
    /// executor.
    pub(super) async fn write(&self, file: Arc<File>, offset: u64, parts: Vec<Bytes>) -> Result<()> {
        if !self.brings.replace(true) {
            glommio::spawn_local(bring(self.answers.clone(), self.waiting.clone())).detach();
        }
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(Job { file, offset, parts }).is_ok());
        if !sent {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let slot = Rc::new(RefCell::new(Slot::default()));
        self.waiting.borrow_mut().push_back(slot.clone());
        poll_fn(|cx| {
            let mut slot = slot.borrow_mut();
            match slot.result.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    slot.waker = Some(cx.waker().clone());
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
        self.answers.leave(|left| left.over = true);
    }
}

impl Answers {
    fn lock(&self) -> MutexGuard<'_, Left> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, what: impl FnOnce(&mut Left)) {
        let waker = {
            let mut left = self.lock();
            what(&mut left);
            left.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Hands answers to those who wait, until the thread has ended.
async fn bring(answers: Arc<Answers>, waiting: Rc<RefCell<VecDeque<Rc<RefCell<Slot>>>>>) {
    let mut over = false;
    while !over {
        let results = poll_fn(|cx| {
            let mut left = answers.lock();
            if left.results.is_empty() && !left.over {
                left.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            over = left.over;
            Poll::Ready(std::mem::take(&mut left.results))
        });
        for result in results.await {
            let Some(slot) = waiting.borrow_mut().pop_front() else { return };
            let waker = {
                let mut slot = slot.borrow_mut();
                slot.result = Some(result);
                slot.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

fn work(todo: &Receiver<Job>, answers: &Answers) {
    let mut memory = vec![0; PIECE_BYTES + BLOCK];
    // Direct writes want their bytes to begin at a block of memory.
    let start = memory.as_ptr().align_offset(BLOCK);
    let Some(buffer) = memory.get_mut(start..start + PIECE_BYTES) else { return };
    while let Ok(Job { file, offset, parts }) = todo.recv() {
        let result = write(&file, offset, parts, buffer);
        answers.leave(|left| left.results.push(result));
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

    /// The core spins, so that a task ends at the very moment in which the thread is through with waking.
    #[test]
    fn an_awaited_task_may_end_with_its_answer() {
        let Ok(executor) = glommio::LocalExecutorBuilder::default()
            .io_memory(1 << 20)
            .spin_before_park(std::time::Duration::from_millis(10))
            .make()
        else {
            println!("skipped: no io_uring");
            return;
        };
        let null = Arc::new(File::options().write(true).open("/dev/null").unwrap());
        let answered = executor.run(async {
            let writer = Rc::new(Writer::start().unwrap());
            let mut answered = 0;
            for _ in 0..40_000 {
                let (one, null) = (writer.clone(), null.clone());
                let part = Bytes::from_static(&[0; BLOCK]);
                let task = glommio::spawn_local(async move { one.write(null, 0, vec![part]).await });
                answered += usize::from(task.await.is_ok());
            }
            answered
        });
        assert_eq!(answered, 40_000);
    }

    #[test]
    fn a_file_that_takes_no_writes_is_an_error() {
        let file = Arc::new(File::open("/proc/self/stat").unwrap());
        assert!(write(&file, 0, vec![Bytes::from(vec![0; BLOCK])], &mut [0; BLOCK]).is_err());
    }
}
