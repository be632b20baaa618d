//! One core: an executor that gathers what happened, hands it to the shard as one batch, and does what the shard asks.
//!
//! ```text
//! sockets, disk, mail, timer ──► inbox ──► Shard::handle … poll_effect ──► sockets, disk, mail
//! ```
//! Each round is a turn: both clocks are read once, every event that has gathered is handled, every effect is done,
//! and the core sleeps until something pushes into the inbox or the shard's next wakeup is due.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use futures_lite::future::yield_now;
use glommio::timer::Timer;

use super::alarm::Alarm;
use super::clients::Clients;
use super::clock::Clock;
use super::http::Pages;
use super::inbox::{Inbox, Notify};
use super::judge::Judge;
use super::links::Links;
use super::mesh::{Mailbox, Order};
use super::{CoreReport, Report};
use crate::client::auth::Claim;
use crate::event::{Admin, Effect, Event};
use crate::ids::ConnId;
use crate::logging::Logger;
use crate::shard::Shard;

/// How long a stopping core waits for its sockets to take what was queued.
const LINGER_US: u64 = 500_000;

/// How often it looks meanwhile.
const LINGER_POLL: Duration = Duration::from_millis(2);

/// How often a core that is leaving gently looks whether its last client has gone.
const DRAIN_POLL: Duration = Duration::from_millis(50);

/// The parts of a core that effects reach.
pub struct Core {
    pub clock: Clock,
    pub shard: Shard,
    pub inbox: Inbox,
    pub alarm: Alarm,
    pub mailbox: Rc<RefCell<Mailbox>>,
    pub clients: Clients,
    pub links: Links,
    pub pages: Pages,
    pub judge: Judge,
    /// How long a client may take to present itself.
    pub auth_patience: Duration,
    /// `None` without JetStream.
    pub disk: Option<storage::uring::Executor>,
    pub logger: Logger,
    pub teller: Teller,
    /// Raised when clients may come.
    pub open: Notify,
}

/// Tells the main thread what becomes of this core.
pub type Teller = Rc<dyn Fn(CoreReport)>;

/// How a turn ended.
enum After {
    GoOn,
    Stopped,
}

impl Core {
    /// Runs turns until the shard says that it has stopped or cannot go on.
    pub async fn run(mut self) {
        glommio::spawn_local(self.clerk().run()).detach();
        let bell = self.mailbox.borrow().bell();
        let mut batch = Vec::new();
        loop {
            let now = self.clock.now();
            bell.seen(now.us);
            for event in batch.drain(..) {
                self.shard.handle(now, event);
            }
            // However busy the sockets are, what is due is done.
            if self.shard.next_wakeup().is_some_and(|due| due.us <= now.us) {
                self.shard.handle(now, Event::Wakeup);
            }
            if let After::Stopped = self.drain() {
                self.links.stop();
                self.clients.stop_accepting();
                self.linger().await;
                return self.report(Report::Stopped);
            }
            self.wait(&mut batch).await;
        }
    }

    fn clerk(&self) -> Clerk {
        Clerk {
            core: self.shard.core(),
            clock: self.clock,
            inbox: self.inbox.clone(),
            mailbox: self.mailbox.clone(),
            clients: self.clients.clone(),
            links: self.links.clone(),
            teller: self.teller.clone(),
            open: self.open.clone(),
        }
    }

    /// Sleeps until there is a batch or the shard's time has come.
    async fn wait(&mut self, batch: &mut Vec<Event>) {
        let (now, due) = (self.clock.now(), self.shard.next_wakeup());
        if due.is_some_and(|due| due.us <= now.us) {
            self.inbox.push(Event::Wakeup);
        }
        self.alarm.set(now.us, due.map(|due| due.us).filter(|due| *due > now.us));
        if !self.inbox.is_empty() {
            // What this turn left for the next must not keep the sockets' tasks from running in between.
            yield_now().await;
        }
        poll_fn(|cx| {
            if self.inbox.poll_take(cx, batch).is_ready() {
                return Poll::Ready(());
            }
            ready!(self.alarm.poll(cx));
            batch.push(Event::Wakeup);
            Poll::Ready(())
        })
        .await;
    }

    /// What was queued for sockets still leaves, within a bound: goodbyes are the last thing others hear of us.
    async fn linger(&self) {
        let until = self.clock.now().us + LINGER_US;
        while self.clock.now().us < until && !(self.clients.is_flushed() && self.links.is_flushed()) {
            Timer::new(LINGER_POLL).await;
        }
    }

    /// Does everything the shard wants after a batch.
    fn drain(&mut self) -> After {
        let mut after = After::GoOn;
        while let Some(effect) = self.shard.poll_effect() {
            match effect {
                Effect::ClientWrite { conn, data } => self.clients.write(conn, data),
                Effect::ClientClose { conn } => self.clients.close(conn),
                Effect::ClientRelease { conn } => self.clients.release(conn, &self.inbox),
                Effect::ClientAdopt { conn } => self.clients.adopt(conn, self.inbox.clone()),
                Effect::ReadPause { conn, paused } => self.clients.pause(conn, paused),
                Effect::Compare { conn, claim } => self.compare(conn, claim),
                Effect::HttpReply { conn, status, content_type, body } => {
                    self.pages.reply(conn, status, content_type, body);
                }
                Effect::Dial { route } => self.links.dial(route, true),
                Effect::DialOnce { route } => self.links.dial(route, false),
                Effect::Undial { route } => self.links.undial(&route),
                Effect::PeerSend { peer, lane, frame } => self.links.send(peer, lane, frame),
                Effect::PeerClose { peer, why } => self.links.close(peer, &why),
                Effect::Disk(op) => self.start_disk(op),
                Effect::Mail { to, mail } => self.mailbox.borrow_mut().send(to, mail),
                Effect::Log { level, text } => self.logger.log(level, &text),
                Effect::Ready => self.report(Report::Ready),
                Effect::ClusterFormed { cluster_id } => {
                    // Before anybody can read of it on disk.
                    self.links.joined(&cluster_id);
                    self.report(Report::ClusterFormed(cluster_id));
                }
                Effect::Reload { id } => self.report(Report::ReloadAsked(id)),
                Effect::ClusterNamed { name, made_up } => self.links.named(name, made_up),
                Effect::Stopped => after = After::Stopped,
                Effect::Fatal { text } => self.report(Report::Fatal(text)),
            }
        }
        if self.mailbox.borrow_mut().flush() {
            // A ring was full: come back soon even if nothing else happens here.
            self.inbox.push(Event::Wakeup);
        }
        after
    }

    fn compare(&self, conn: ConnId, claim: Box<Claim>) {
        let (judge, inbox, patience) = (self.judge.clone(), self.inbox.clone(), self.auth_patience);
        glommio::spawn_local(async move {
            // Unanswered, the client is closed by its own deadline.
            if let Some(right) = judge.ask(claim, patience).await {
                inbox.push(Event::Compared { conn, right });
            }
        })
        .detach();
    }

    fn report(&self, report: Report) {
        (self.teller)(CoreReport { core: self.shard.core(), report });
    }

    fn start_disk(&self, op: storage::DiskOp) {
        let disk = self.disk.clone().expect("a shard without a store asks for no disk");
        let inbox = self.inbox.clone();
        glommio::spawn_local(async move { inbox.push(Event::DiskDone(disk.run(op).await)) }).detach();
    }
}

/// Takes in what other threads leave for this core: mail of other cores, and orders of the main thread.
struct Clerk {
    core: crate::ids::CoreId,
    clock: Clock,
    inbox: Inbox,
    mailbox: Rc<RefCell<Mailbox>>,
    clients: Clients,
    links: Links,
    teller: Teller,
    open: Notify,
}

impl Clerk {
    async fn run(self) {
        let (mut arrived, mut orders) = (Vec::new(), Vec::new());
        let bell = self.mailbox.borrow().bell();
        loop {
            poll_fn(|cx| {
                bell.seen(self.clock.now().us);
                self.mailbox.borrow_mut().poll_take(cx, &mut arrived, &mut orders)
            })
            .await;
            for order in orders.drain(..) {
                self.obey(order);
            }
            for (from, mail) in arrived.drain(..) {
                self.inbox.push(Event::Mail { from, mail });
            }
        }
    }

    fn obey(&self, order: Order) {
        match order {
            Order::Open => self.open.raise(),
            Order::Vitals { cpu_percent, memory_bytes } => {
                self.inbox.push(Event::Vitals { cpu_percent, memory_bytes });
            }
            Order::Admin(admin) => {
                match &admin {
                    Admin::Reload(config) => self.links.reload(config.server_tags.clone(), config.cluster.clone()),
                    Admin::LameDuck => self.leave_gently(),
                    Admin::Stop => self.clients.stop_accepting(),
                    Admin::ReloadDone { .. } => {}
                }
                self.inbox.push(Event::Admin(admin));
            }
        }
    }

    /// No new clients; the main thread hears when the last one has gone.
    fn leave_gently(&self) {
        self.clients.stop_accepting();
        self.links.leaving();
        let (core, clients, teller) = (self.core, self.clients.clone(), self.teller.clone());
        glommio::spawn_local(async move {
            while !clients.is_empty() {
                Timer::new(DRAIN_POLL).await;
            }
            teller(CoreReport { core, report: Report::Drained });
        })
        .detach();
    }
}
