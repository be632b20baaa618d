//! When which connection must be looked at again: one time per connection, the earliest of all that it waits for.

use std::collections::BTreeSet;

/// Times of connections, ordered.
#[derive(Debug, Default)]
pub struct Timers {
    due: BTreeSet<(u64, u32)>,
}

impl Timers {
    /// Moves a connection's time from `old` to `new`.
    pub fn set(&mut self, slot: u32, old: Option<u64>, new: Option<u64>) {
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.due.remove(&(old, slot));
        }
        if let Some(new) = new {
            self.due.insert((new, slot));
        }
    }

    pub fn next(&self) -> Option<u64> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes out the first connection whose time has come, with that time.
    pub fn pop(&mut self, now_us: u64) -> Option<(u64, u32)> {
        let first = *self.due.first()?;
        if first.0 > now_us {
            return None;
        }
        self.due.remove(&first);
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_in_order_and_can_be_moved() {
        let mut timers = Timers::default();
        timers.set(1, None, Some(50));
        timers.set(2, None, Some(30));
        timers.set(3, None, Some(40));
        timers.set(2, Some(30), Some(60));
        timers.set(3, Some(40), None);
        assert_eq!(timers.next(), Some(50));
        assert_eq!(timers.pop(49), None);
        assert_eq!(timers.pop(100), Some((50, 1)));
        assert_eq!(timers.pop(100), Some((60, 2)));
        assert_eq!(timers.pop(100), None);
    }
}
