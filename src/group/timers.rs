//! When each group wants to be called next: one ordered set for the core, so that a group without a timer costs nothing
//! and the next one due is the first. All steps are O(log n).

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::GroupId;

#[derive(Default)]
pub(crate) struct Timers {
    due: BTreeSet<(u64, GroupId)>,
    by_group: BTreeMap<GroupId, u64>,
}

impl Timers {
    /// Replaces the group's timer; `None` removes it.
    pub fn set(&mut self, group: GroupId, at_us: Option<u64>) {
        let before = match at_us {
            Some(at) => self.by_group.insert(group, at),
            None => self.by_group.remove(&group),
        };
        if before == at_us {
            return;
        }
        if let Some(before) = before {
            self.due.remove(&(before, group));
        }
        if let Some(at) = at_us {
            self.due.insert((at, group));
        }
    }

    /// Takes the next group whose time has come; its timer is gone then.
    pub fn pop(&mut self, now_us: u64) -> Option<GroupId> {
        let &(at, group) = self.due.first()?;
        if at > now_us {
            return None;
        }
        self.due.pop_first();
        self.by_group.remove(&group);
        Some(group)
    }

    pub fn next(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_come_in_the_order_of_their_times_and_only_when_due() {
        let mut timers = Timers::default();
        timers.set(GroupId(1), Some(30));
        timers.set(GroupId(2), Some(10));
        timers.set(GroupId(3), Some(20));
        timers.set(GroupId(1), Some(5));
        timers.set(GroupId(3), None);
        assert_eq!(timers.next(), Some(5));
        assert_eq!(timers.pop(4), None);
        assert_eq!(timers.pop(10), Some(GroupId(1)));
        assert_eq!(timers.pop(10), Some(GroupId(2)));
        assert_eq!(timers.pop(u64::MAX), None);
        assert_eq!((timers.next(), timers.by_group.len()), (None, 0));
    }
}
