//! The window of one peer: appends that were sent and not yet answered, counted in messages and bytes.

use std::collections::VecDeque;

use crate::Index;

#[derive(Clone, Debug, Default)]
pub(crate) struct Inflight {
    /// Last index and payload bytes of each append, in sending order.
    sent: VecDeque<(Index, u64)>,
    bytes: u64,
}

impl Inflight {
    pub(crate) fn add(&mut self, last: Index, bytes: u64) {
        self.sent.push_back((last, bytes));
        self.bytes += bytes;
    }

    /// Everything up to `matched` has arrived.
    pub(crate) fn free_to(&mut self, matched: Index) {
        while let Some((_, bytes)) = self.sent.front().filter(|sent| sent.0 <= matched) {
            self.bytes -= bytes;
            self.sent.pop_front();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.sent.clear();
        self.bytes = 0;
    }

    pub(crate) fn is_full(&self, messages_max: usize, bytes_max: u64) -> bool {
        self.sent.len() >= messages_max || self.bytes >= bytes_max
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    pub(crate) fn messages(&self) -> usize {
        self.sent.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_fills_by_messages_and_by_bytes_and_frees_in_order() {
        let mut window = Inflight::default();
        for index in 1..=3 {
            assert!(!window.is_full(3, 300));
            window.add(index, 100);
        }
        assert!(window.is_full(3, 1_000));
        assert!(window.is_full(9, 300));
        window.free_to(2);
        assert_eq!((window.messages(), window.bytes()), (1, 100));
        window.free_to(9);
        assert!(window.is_empty());
        assert_eq!(window.bytes(), 0);
    }
}
