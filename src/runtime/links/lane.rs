//! One connection of a link, after its handshake: a task that reads, one that writes, and one that asks whether the
//! other side is still there.
//!
//! Frames that arrive before the link as a whole is up wait here: the other side may have seen it up a moment earlier.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::yield_now;
use glommio::timer::Timer;
use net::peer::frame::KIND_MESSAGES_FIRST;
use net::peer::lane::Lane;
use net::peer::link::{Link, LinkError, LinkEvent, Timing};
use net::peer::outbox::{Full, Outbox};
use net::uring::conn::{Closer, Conn, Reader, Writer};

use super::super::clock::Clock;
use super::super::inbox::{Inbox, Notify};
use super::sessions::Side;
use crate::event::Event;
use crate::ids::ServerId;

/// Bytes per write of a lane: a few of them fill any socket buffer.
const WRITE_BYTES: usize = 1024 * 1024;

/// What may wait on the bulk lane. Catch-ups are windowed per group (4 MiB), so this is some sixty of them to one
/// server at once; a side that lets more pile up is not reading.
const BULK_WAITING_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What may arrive on one lane while the other two are still being opened: a turn's announcements.
const EARLY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Between two questions that only measure the round trip.
const MEASURE_EVERY_US: u64 = 2_000_000;

/// The control lane finds out that the other side is gone without a word within little more than a second and two round
/// trips. Heartbeats keep it from ever being silent in between.
const CONTROL_TIMING: Timing = Timing { ping_every_us: 300_000, measure_every_us: MEASURE_EVERY_US, unanswered_max: 3 };

/// The other lanes are asked less often, for an idle cluster should sleep: they end with the control lane anyway.
const OTHER_TIMING: Timing = Timing { ping_every_us: 2_000_000, measure_every_us: MEASURE_EVERY_US, unanswered_max: 3 };

/// The timer of the next question is moved only by more than this: not with every read of a busy lane.
const PULSE_SLACK_US: u64 = 50_000;

/// A server that was heard within this time, and a round trip, on its control lane is alive: two rounds of questions.
const ALIVE_US: u64 = 2 * CONTROL_TIMING.ping_every_us;

/// How a connection that we dial asks; one that was accepted asks as control lanes do, if it turns out to be one.
pub fn timing(lane: Lane) -> Timing {
    if lane == Lane::Control { CONTROL_TIMING } else { OTHER_TIMING }
}

/// One connection of a link.
pub struct LaneConn {
    pub peer: ServerId,
    pub side: Side,
    lane: Lane,
    outbox: RefCell<Outbox>,
    ready: Notify,
    closer: Closer,
    link: RefCell<Link>,
    clock: Clock,
    inbox: Inbox,
    up: Cell<bool>,
    over: Cell<bool>,
    early: RefCell<(usize, Vec<Bytes>)>,
    heard_us: Cell<u64>,
    /// Rings when the other side is to be asked, and when that will be.
    pulse: RefCell<Option<Timer>>,
    pulse_us: Cell<u64>,
}

impl LaneConn {
    pub fn new(peer: ServerId, side: Side, link: Link, conn: &Conn, clock: Clock, inbox: Inbox) -> LaneConn {
        let lane = link.lane();
        let outbox = match lane {
            Lane::Bulk => Outbox::with_bytes_max(lane, BULK_WAITING_BYTES_MAX),
            _ => Outbox::new(lane),
        };
        LaneConn {
            peer,
            side,
            lane,
            outbox: RefCell::new(outbox),
            ready: Notify::default(),
            closer: conn.closer(),
            link: RefCell::new(link),
            clock,
            inbox,
            up: Cell::new(false),
            over: Cell::new(false),
            early: RefCell::default(),
            heard_us: Cell::new(clock.now().us),
            pulse: RefCell::default(),
            pulse_us: Cell::new(0),
        }
    }

    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// This server's data belongs to that cluster now: the other side is told if it was not yet.
    pub fn joined(&self, cluster: &str) {
        self.link.borrow_mut().joined(cluster);
        self.flush_link();
    }

    /// Starts the three tasks. `end` is called once, with the reason, when the connection is over.
    pub fn start(self: &Rc<Self>, conn: Conn, end: impl Fn(&Rc<LaneConn>, &str) + Clone + 'static) {
        let (reader, writer) = conn.split();
        let (one, ended) = (self.clone(), end.clone());
        glommio::spawn_local(async move {
            let why = one.read(reader).await;
            one.finish(&why, ended);
        })
        .detach();
        let one = self.clone();
        glommio::spawn_local(async move { one.write(writer).await }).detach();
        if self.asks() {
            let one = self.clone();
            glommio::spawn_local(async move {
                if let Some(why) = one.pulse().await {
                    one.finish(&why, end);
                }
            })
            .detach();
        }
    }

    /// Of the other lanes the dialling side takes care: one question is enough.
    fn asks(&self) -> bool {
        self.lane == Lane::Control || self.side == Side::Ours
    }

    fn finish(self: &Rc<Self>, why: &str, end: impl Fn(&Rc<LaneConn>, &str)) {
        if !self.over.get() {
            end(self, why);
            self.close();
        }
    }

    /// Ends the connection now.
    pub fn close(&self) {
        self.over.set(true);
        self.ready.raise();
        self.closer.close();
    }

    /// The link is up: what waited here is handed on, and what comes goes straight on.
    pub fn set_up(&self) {
        self.up.set(true);
        for frame in self.early.take().1 {
            self.hand_on(frame);
        }
    }

    pub fn is_up(&self) -> bool {
        self.up.get()
    }

    /// Queues one frame. False: the other side does not keep up, and the link must go.
    pub fn send(&self, frame: Bytes) -> bool {
        let sent = self.outbox.borrow_mut().push(KIND_MESSAGES_FIRST, 0, frame);
        self.ready.raise();
        !matches!(sent, Err(Full::Break | Full::Later))
    }

    pub fn is_flushed(&self) -> bool {
        self.outbox.borrow().bytes() == 0
    }

    /// Something was heard a moment ago.
    pub fn is_alive(&self) -> bool {
        self.clock.now().us.saturating_sub(self.heard_us.get()) <= ALIVE_US + self.link.borrow().rtt_us()
    }

    fn hand_on(&self, frame: Bytes) {
        self.inbox.push(Event::PeerFrame { peer: self.peer, lane: self.lane, frame });
    }

    /// Reads until the connection is over; why it is.
    async fn read(&self, mut reader: Reader) -> String {
        loop {
            if let Err(why) = self.take_events() {
                return why;
            }
            // A lane that always has more must not keep the shard from its turn.
            yield_now().await;
            match reader.read().await {
                Ok(data) if data.is_empty() => return "closed by the other side".into(),
                Ok(data) => {
                    self.heard_us.set(self.clock.now().us);
                    self.link.borrow_mut().push(data);
                }
                Err(error) => return error.to_string(),
            }
        }
    }

    fn take_events(&self) -> Result<(), String> {
        loop {
            let event = self.link.borrow_mut().poll(self.clock.now().us).map_err(|e| e.to_string())?;
            match event {
                Some(LinkEvent::Frame(frame)) if frame.kind != KIND_MESSAGES_FIRST => {
                    return Err(LinkError::Unexpected { kind: frame.kind }.to_string());
                }
                Some(LinkEvent::Frame(frame)) if self.up.get() => self.hand_on(frame.body),
                Some(LinkEvent::Frame(frame)) => self.keep_early(frame.body)?,
                Some(LinkEvent::Rtt { rtt_us }) if self.lane == Lane::Control && self.up.get() => {
                    self.inbox.push(Event::PeerRtt { peer: self.peer, rtt_us });
                }
                Some(LinkEvent::Refused { refusal, .. }) => return Err(refusal.text),
                Some(_) => {}
                None => break,
            }
        }
        if self.asks() {
            // A question that is due leaves while this core is awake, and the next one is put off.
            self.link.borrow_mut().on_timer(self.clock.now().us).map_err(|e| e.to_string())?;
            self.put_off();
        }
        self.flush_link();
        Ok(())
    }

    fn keep_early(&self, frame: Bytes) -> Result<(), String> {
        let mut early = self.early.borrow_mut();
        early.0 += frame.len();
        if early.0 > EARLY_BYTES_MAX {
            return Err("too many messages before the link was up".into());
        }
        early.1.push(frame);
        Ok(())
    }

    /// PINGs and PONGs leave ahead of what is queued from now on.
    fn flush_link(&self) {
        let out = self.link.borrow_mut().take_output();
        if !out.is_empty() {
            self.outbox.borrow_mut().push_link(out);
            self.ready.raise();
        }
    }

    /// Asks a silent other side until it does not answer; why the connection is over, or `None` if it was closed by
    /// somebody else.
    async fn pulse(&self) -> Option<String> {
        loop {
            let due_us = self.link.borrow().next_timer()?;
            self.set_pulse(due_us);
            poll_fn(|cx| match self.pulse.borrow_mut().as_mut() {
                Some(timer) => Pin::new(timer).poll(cx).map(drop),
                None => Poll::Ready(()),
            })
            .await;
            if self.over.get() {
                return None;
            }
            let alive = self.link.borrow_mut().on_timer(self.clock.now().us);
            if let Err(error) = alive {
                return Some(error.to_string());
            }
            self.flush_link();
        }
    }

    /// Something was heard: the timer of the next question moves on, for one that rings for nothing wakes the core.
    fn put_off(&self) {
        let due_us = self.link.borrow().next_timer().unwrap_or(0);
        if due_us > self.pulse_us.get() + PULSE_SLACK_US {
            self.set_pulse(due_us);
        }
    }

    fn set_pulse(&self, due_us: u64) {
        self.pulse_us.set(due_us);
        let left = Duration::from_micros(due_us.saturating_sub(self.clock.now().us));
        self.pulse.borrow_mut().get_or_insert_with(|| Timer::new(left)).reset(left);
    }

    /// Writes the queue, batch by batch, until the connection is over.
    async fn write(&self, mut writer: Writer) {
        let mut parts = Vec::new();
        while !self.over.get() {
            let bytes = self.outbox.borrow_mut().take(&mut parts, WRITE_BYTES);
            if bytes == 0 {
                self.ready.wait().await;
                continue;
            }
            if writer.write_parts(&parts).await.is_err() {
                // The reading half learns it, too, and says why.
                return self.closer.close();
            }
            parts.clear();
            self.outbox.borrow_mut().on_written(bytes);
        }
    }
}
