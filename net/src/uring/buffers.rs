//! The memory that sockets of one core are read into.
//!
//! ```text
//!   one buffer of 128 KiB:   │ handed out │ handed out │ free, initialised ................ │
//!                              read of A    read of B    the next read of any connection
//! ```
//!
//! A read gets up to 64 KiB of the current buffer and hands on exactly what arrived, as a slice. A connection that
//! waits holds no memory at all. A buffer that is used up is set aside and, once nobody holds a slice of it any more,
//! used again; only its first use pays for zeroing.
//!
//! A slice keeps its whole buffer alive: whoever wants to keep a few bytes for long copies them.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// One buffer. Two full reads fit, so that small reads of many connections share it.
const BUFFER_BYTES: usize = 128 * 1024;

/// Offered to one read: what measured as enough for a read to be limited by the copy and not by the call.
pub const READ_BYTES_MAX: usize = 64 * 1024;

/// A smaller rest of a buffer is not worth a read.
const READ_BYTES_MIN: usize = 16 * 1024;

/// Used buffers that are remembered for another use, 4 MiB per core. Beyond it they are freed when their last slice is.
const USED_MAX: usize = 32;

/// The read buffers of one core.
#[derive(Debug, Default)]
pub struct Buffers {
    /// Initialised and free, all of its length. `None` before the first read.
    current: Option<BytesMut>,
    /// Emptied; slices of them may still be out.
    used: VecDeque<BytesMut>,
}

impl Buffers {
    /// Where the next read may put its bytes; never empty.
    pub fn window(&mut self) -> &mut [u8] {
        if self.current.as_ref().is_none_or(|current| current.len() < READ_BYTES_MIN) {
            self.replace();
        }
        let current = self.current.get_or_insert_default();
        let len = current.len().min(READ_BYTES_MAX);
        &mut current[..len]
    }

    /// Hands on the first bytes of the window.
    pub fn take(&mut self, bytes: usize) -> Bytes {
        self.current.as_mut().map(|current| current.split_to(bytes).freeze()).unwrap_or_default()
    }

    fn replace(&mut self) {
        if let Some(mut spent) = self.current.take()
            && self.used.len() < USED_MAX
        {
            spent.clear();
            self.used.push_back(spent);
        }
        let next = self.recycled().unwrap_or_else(|| BytesMut::zeroed(BUFFER_BYTES));
        self.current = Some(next);
    }

    /// A used buffer of which no slice is out any more.
    fn recycled(&mut self) -> Option<BytesMut> {
        // The oldest is the likeliest to be free; the others get their turn when they are the oldest.
        let mut oldest = self.used.pop_front()?;
        if !oldest.try_reclaim(BUFFER_BYTES) {
            self.used.push_back(oldest);
            return None;
        }
        // SAFETY: `try_reclaim` allocates nothing: true means that the BytesMut covers its own allocation again, which
        // `zeroed` initialised in full and which only ever held initialised bytes since.
        unsafe { oldest.set_len(BUFFER_BYTES) };
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(buffers: &mut Buffers, fill: u8, bytes: usize) -> Bytes {
        buffers.window()[..bytes].fill(fill);
        buffers.take(bytes)
    }

    #[test]
    fn slices_stay_as_they_were_read() {
        let mut buffers = Buffers::default();
        let kept: Vec<Bytes> = (0..200).map(|n| read(&mut buffers, n, 10_000)).collect();
        for (n, slice) in kept.iter().enumerate() {
            assert_eq!(slice.len(), 10_000);
            assert!(slice.iter().all(|byte| usize::from(*byte) == n));
        }
    }

    #[test]
    fn a_buffer_that_nobody_holds_is_used_again() {
        let mut buffers = Buffers::default();
        let mut starts = std::collections::BTreeSet::new();
        for n in 0..1_000u32 {
            starts.insert(read(&mut buffers, n as u8, READ_BYTES_MAX).as_ptr() as usize);
        }
        assert!(starts.len() <= 4, "{} places", starts.len());
    }

    #[test]
    fn the_window_is_never_too_small() {
        let mut buffers = Buffers::default();
        for n in 0..2_000 {
            assert!(buffers.window().len() >= READ_BYTES_MIN);
            read(&mut buffers, 1, 1 + n % 9_000);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut buffers = Buffers::default();
        let kept: Vec<Bytes> = (0..400).map(|n| read(&mut buffers, n as u8, READ_BYTES_MAX)).collect();
        assert!(buffers.used.len() <= USED_MAX);
        drop(kept);
        assert!(read(&mut buffers, 0, 1).len() == 1);
    }
}
