//! How a connection works, as far as it matters for where it should be: request by request towards one other core, or
//! any other way.
//!
//! Every publish that goes to another core wakes that core, and its answer wakes this one. Who waits for each answer
//! before the next request pays for both every time; who sends many at once pays once for many, and is better served by
//! two cores. So only the first kind is recognised here, by its reads: each holds one publish that wants an answer.

use crate::ids::CoreId;

/// What the last reads of a connection looked like.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Habit {
    /// Reads one behind the other that held one request towards `toward`, the current one included.
    run: u32,
    toward: Option<CoreId>,
    /// Operations of the current read; two count as many.
    ops: u8,
    /// The current read's operation went to `toward` and nowhere else.
    asked: bool,
}

impl Habit {
    /// Bytes arrived.
    pub fn read(&mut self) {
        if !self.is_request() {
            self.run = 0;
        }
        (self.ops, self.asked) = (0, false);
    }

    /// They held an operation.
    pub fn op(&mut self) {
        self.ops = self.ops.saturating_add(1);
    }

    /// Whether the current operation may be the only one of its read.
    pub fn is_single(&self) -> bool {
        self.ops == 1
    }

    /// The operation wants an answer and went to that core alone.
    pub fn asked(&mut self, core: CoreId) {
        if self.ops != 1 || self.asked {
            return;
        }
        self.asked = true;
        self.run = if self.toward == Some(core) { self.run.saturating_add(1) } else { 1 };
        self.toward = Some(core);
    }

    /// Where its last reads went, if there were so many of that kind.
    pub fn toward(&self, reads: u32) -> Option<CoreId> {
        self.toward.filter(|_| self.is_request() && self.run >= reads)
    }

    fn is_request(&self) -> bool {
        self.ops == 1 && self.asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(habit: &mut Habit, core: CoreId) {
        habit.read();
        habit.op();
        habit.asked(core);
    }

    #[test]
    fn requests_to_one_core_make_a_habit() {
        let mut habit = Habit::default();
        for _ in 0..3 {
            assert_eq!(habit.toward(3), None);
            request(&mut habit, 1);
        }
        assert_eq!(habit.toward(3), Some(1));
        request(&mut habit, 2);
        assert_eq!((habit.toward(3), habit.toward(1)), (None, Some(2)));
    }

    #[test]
    fn whatever_else_is_read_breaks_it() {
        let others: [fn(&mut Habit); 4] = [
            |habit| habit.read(),
            |habit| {
                habit.read();
                habit.op();
            },
            |habit| {
                request(habit, 1);
                habit.op();
            },
            |habit| {
                request(habit, 1);
                habit.op();
                habit.asked(1);
            },
        ];
        for other in others {
            let mut habit = Habit::default();
            (0..5).for_each(|_| request(&mut habit, 1));
            other(&mut habit);
            assert_eq!(habit.toward(1), None);
            request(&mut habit, 1);
            assert_eq!((habit.toward(2), habit.toward(1)), (None, Some(1)));
        }
    }
}
