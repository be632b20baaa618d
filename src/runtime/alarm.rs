//! Leaves a wakeup in the inbox when the shard's time has come.
//!
//! It is set anew only when the time moves forward: a busy shard names a later time with every turn, and a timer per turn
//! would cost more than the turn. So it may ring early, which is harmless: the shard does what is due and names its time
//! again.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use glommio::Task;
use glommio::timer::Timer;

use super::inbox::Inbox;
use crate::event::Event;

pub struct Alarm {
    inbox: Inbox,
    /// When it rings, microseconds; `None` once it has.
    due_us: Rc<Cell<Option<u64>>>,
    /// Dropping it cancels it.
    ringing: Option<Task<()>>,
}

impl Alarm {
    pub fn new(inbox: Inbox) -> Alarm {
        Alarm { inbox, due_us: Rc::default(), ringing: None }
    }

    /// Makes it ring at `due_us` or earlier.
    pub fn set(&mut self, now_us: u64, due_us: u64) {
        if self.due_us.get().is_some_and(|set| set <= due_us) {
            return;
        }
        let left = Duration::from_micros(due_us.saturating_sub(now_us));
        let (inbox, due) = (self.inbox.clone(), self.due_us.clone());
        due.set(Some(due_us));
        self.ringing = Some(glommio::spawn_local(async move {
            Timer::new(left).await;
            due.set(None);
            inbox.push(Event::Wakeup);
        }));
    }
}
