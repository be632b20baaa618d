//! Rings when the shard's time has come: polled by the core's own task, so that it costs no task and no hop.
//!
//! It is set anew when the time moves forward, or back by more than [`SLACK_US`]: a busy shard names a later time with
//! every turn, and moving a timer with each would be felt. So it may ring a little early, which is harmless: the shard
//! does what is due and names its time again. Much too early it must not ring, for each ring wakes a processor.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use glommio::timer::Timer;

/// Later by less than this is not worth moving the timer.
const SLACK_US: u64 = 1_000;

#[derive(Default)]
pub struct Alarm {
    timer: Option<Timer>,
    /// When it rings, microseconds; `None` once it has, and while nobody wants to be woken.
    due_us: Option<u64>,
}

impl Alarm {
    /// Makes it ring at `due_us` or a little earlier; never, for `None`.
    pub fn set(&mut self, now_us: u64, due_us: Option<u64>) {
        let kept = match (self.due_us, due_us) {
            (Some(set), Some(due)) => (set..=set + SLACK_US).contains(&due),
            (set, due) => set == due,
        };
        if kept {
            return;
        }
        self.due_us = due_us;
        let Some(due_us) = due_us else {
            self.timer = None;
            return;
        };
        let left = Duration::from_micros(due_us.saturating_sub(now_us));
        self.timer.get_or_insert_with(|| Timer::new(left)).reset(left);
    }

    /// Ready once when it rings.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(timer), Some(_)) = (&mut self.timer, self.due_us) else { return Poll::Pending };
        let rings = Pin::new(timer).poll(cx).map(drop);
        if rings.is_ready() {
            self.due_us = None;
        }
        rings
    }
}
