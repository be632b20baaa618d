//! Where the tasks of one core leave events for the shard: gathered while the shard is busy or asleep, taken as one
//! batch by its next turn.
//!
//! It has no bound of its own and needs none: between two turns a socket's task leaves at most one read (64 KiB) before
//! it lets the others run, a disk operation one completion, a timer one event.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::event::Event;

#[derive(Clone, Default)]
pub struct Inbox(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    events: Vec<Event>,
    waker: Option<Waker>,
}

impl Inbox {
    pub fn push(&self, event: Event) {
        let mut inner = self.0.borrow_mut();
        inner.events.push(event);
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.borrow().events.is_empty()
    }

    /// Swaps the gathered events into `batch` (which must be empty); pending when there are none.
    pub fn poll_take(&self, cx: &mut Context<'_>, batch: &mut Vec<Event>) -> Poll<()> {
        let mut inner = self.0.borrow_mut();
        if inner.events.is_empty() {
            inner.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        std::mem::swap(&mut inner.events, batch);
        Poll::Ready(())
    }
}

/// A flag that one task raises and another waits for; raising it twice is raising it once.
#[derive(Clone, Default)]
pub struct Notify(Rc<RefCell<(bool, Option<Waker>)>>);

impl Notify {
    pub fn raise(&self) {
        let mut inner = self.0.borrow_mut();
        inner.0 = true;
        if let Some(waker) = inner.1.take() {
            waker.wake();
        }
    }

    pub async fn wait(&self) {
        std::future::poll_fn(|cx| {
            let mut inner = self.0.borrow_mut();
            if std::mem::take(&mut inner.0) {
                return Poll::Ready(());
            }
            inner.1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
