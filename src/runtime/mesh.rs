//! How cores hand each other mail: one ring per ordered pair of cores, and one waker per core that is rung once per
//! batch.
//!
//! A ring that is full never drops: what does not fit waits with its sender, in order, and goes out at its next turn.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::event::{Admin, Mail};
use crate::ids::CoreId;

/// What the main thread wants of a core.
#[derive(Debug, Clone)]
pub enum Order {
    /// Every core is ready: accept clients.
    Open,
    /// An operator's wish, for the shard.
    Admin(Admin),
    /// What the process uses: percent of one CPU, and bytes of memory.
    Vitals { cpu_percent: f64, memory_bytes: u64 },
}

/// Mail that fits between two turns of a busy pair; beyond it the sender keeps it.
const RING_SLOTS: usize = 4096;

/// What others need in order to wake a core, and what the watchdog reads: when it last ran.
#[derive(Default)]
pub struct Bell {
    waker: AtomicWaker,
    /// When the core's tasks last ran, microseconds: a core that is rung and does not move is stuck.
    seen_us: AtomicU64,
    /// What the main thread wants of this core; few and far between, hence a lock.
    orders: Mutex<Vec<Order>>,
}

impl Bell {
    pub fn ring(&self) {
        self.waker.wake();
    }

    /// The core's own: its tasks run.
    pub fn seen(&self, now_us: u64) {
        self.seen_us.store(now_us, Ordering::Relaxed);
    }

    pub fn seen_us(&self) -> u64 {
        self.seen_us.load(Ordering::Relaxed)
    }

    pub fn order(&self, order: Order) {
        self.orders.lock().expect("nobody panics with this lock").push(order);
        self.ring();
    }
}

/// One core's ends of all rings.
pub struct Mailbox {
    core: CoreId,
    bells: Vec<Arc<Bell>>,
    out: Vec<Outgoing>,
    incoming: Vec<Option<Consumer<Mail>>>,
}

struct Outgoing {
    ring: Option<Producer<Mail>>,
    waiting: VecDeque<Mail>,
    touched: bool,
}

/// Builds the mailboxes of `cores` cores.
pub fn mesh(cores: CoreId) -> Vec<Mailbox> {
    let n = usize::from(cores);
    let bells: Vec<Arc<Bell>> = (0..n).map(|_| Arc::new(Bell::default())).collect();
    let mut boxes: Vec<Mailbox> = (0..cores)
        .map(|core| Mailbox { core, bells: bells.clone(), out: Vec::new(), incoming: (0..n).map(|_| None).collect() })
        .collect();
    for from in 0..n {
        for to in 0..n {
            let ring = (from != to).then(|| {
                let (producer, consumer) = RingBuffer::new(RING_SLOTS);
                boxes[to].incoming[from] = Some(consumer);
                producer
            });
            boxes[from].out.push(Outgoing { ring, waiting: VecDeque::new(), touched: false });
        }
    }
    boxes
}

impl Mailbox {
    pub fn bell(&self) -> Arc<Bell> {
        self.bells[usize::from(self.core)].clone()
    }

    pub fn send(&mut self, to: CoreId, mail: Mail) {
        let out = &mut self.out[usize::from(to)];
        out.waiting.push_back(mail);
        out.touched = true;
    }

    /// Moves what was sent into the rings and rings each receiver once. True if something still waits for room.
    pub fn flush(&mut self) -> bool {
        let mut left = false;
        for (to, out) in self.out.iter_mut().enumerate() {
            let Some(ring) = out.ring.as_mut() else { continue };
            while let Some(mail) = out.waiting.pop_front() {
                if let Err(rtrb::PushError::Full(mail)) = ring.push(mail) {
                    out.waiting.push_front(mail);
                    break;
                }
            }
            if std::mem::take(&mut out.touched) || !out.waiting.is_empty() {
                self.bells[to].ring();
            }
            left |= !out.waiting.is_empty();
        }
        left
    }

    /// Takes everything that has arrived, by sender; pending (and registered with the bell) when there is nothing.
    pub fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<(CoreId, Vec<Mail>)>,
        orders: &mut Vec<Order>,
    ) -> Poll<()> {
        let bell = self.bell();
        bell.waker.register(cx.waker());
        for (from, ring) in self.incoming.iter_mut().enumerate() {
            let Some(ring) = ring else { continue };
            let count = ring.slots();
            if count == 0 {
                continue;
            }
            let mut mail = Vec::with_capacity(count);
            while let Ok(one) = ring.pop() {
                mail.push(one);
            }
            into.push((from as CoreId, mail));
        }
        orders.append(&mut bell.orders.lock().expect("nobody panics with this lock"));
        if into.is_empty() && orders.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ServerId;
    use std::task::Waker;

    fn gone(n: u64) -> Mail {
        Mail::PeerGone { peer: ServerId(n) }
    }

    fn numbers(mail: &[Mail]) -> Vec<u64> {
        mail.iter()
            .map(|m| match m {
                Mail::PeerGone { peer } => peer.0,
                other => panic!("unexpected {other:?}"),
            })
            .collect()
    }

    #[test]
    fn mail_arrives_in_order_per_pair_and_a_full_ring_keeps_the_rest() {
        let mut boxes = mesh(3);
        let many = RING_SLOTS as u64 + 10;
        for n in 0..many {
            boxes[0].send(2, gone(n));
        }
        boxes[1].send(2, gone(7));
        assert!(boxes[0].flush());
        assert!(!boxes[1].flush());
        let mut cx = Context::from_waker(Waker::noop());
        let mut got = Vec::new();
        assert!(boxes[2].poll_take(&mut cx, &mut got, &mut Vec::new()).is_ready());
        assert!(!boxes[0].flush());
        let mut rest = Vec::new();
        assert!(boxes[2].poll_take(&mut cx, &mut rest, &mut Vec::new()).is_ready());
        let mut from_0 = numbers(&got[0].1);
        assert_eq!((got[1].0, numbers(&got[1].1)), (1, vec![7]));
        from_0.extend(numbers(&rest[0].1));
        assert_eq!(from_0, (0..many).collect::<Vec<_>>());
        let mut none = Vec::new();
        assert!(boxes[2].poll_take(&mut cx, &mut none, &mut Vec::new()).is_pending());
    }
}
