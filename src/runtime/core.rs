//! One core: an executor that gathers what happened, hands it to the shard as one batch, and does what the shard asks.
//!
//! ```text
//! sockets, disk, mail, timer ──► inbox ──► Shard::handle … poll_effect ──► sockets, disk, mail
//! ```
//! Each round is a turn: both clocks are read once, every event that has gathered is handled, every effect is done,
//! and the core sleeps until something pushes into the inbox or the shard's next wakeup is due.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::FutureExt;
use glommio::timer::Timer;

use super::clients::Clients;
use super::clock::Clock;
use super::http::Pages;
use super::inbox::Inbox;
use super::links::Links;
use super::mesh::Mailbox;
use super::{CoreReport, Report};
use crate::event::{Effect, Event};
use crate::ids::Now;
use crate::logging::Logger;
use crate::shard::Shard;

/// The parts of a core that effects reach.
pub struct Core {
    pub clock: Clock,
    pub shard: Shard,
    pub inbox: Inbox,
    pub mailbox: Rc<std::cell::RefCell<Mailbox>>,
    pub clients: Clients,
    pub links: Links,
    pub pages: Pages,
    /// `None` without JetStream.
    pub disk: Option<storage::uring::Executor>,
    pub logger: Logger,
    pub reports: Box<dyn Fn(CoreReport)>,
}

/// How long a stopping core waits for its sockets to take what was queued.
const LINGER_US: u64 = 500_000;

/// How a turn ended.
enum After {
    GoOn,
    Stopped,
}

impl Core {
    /// Runs turns until the shard says that it has stopped or cannot go on.
    pub async fn run(mut self) {
        spawn_mail(self.inbox.clone(), self.mailbox.clone());
        let mut batch = Vec::new();
        loop {
            let now = self.clock.now();
            for event in batch.drain(..) {
                self.shard.handle(now, event);
            }
            // Under a constant flow of events the wait below never gets to its timer.
            if self.shard.next_wakeup().is_some_and(|due| due.us <= now.us) {
                self.shard.handle(now, Event::Wakeup);
            }
            if let After::Stopped = self.drain() {
                self.linger().await;
                return self.report(Report::Stopped);
            }
            self.wait(&mut batch).await;
        }
    }

    /// Sleeps until there is a batch or the shard's time has come.
    async fn wait(&self, batch: &mut Vec<Event>) {
        let gathered = poll_fn(|cx| self.inbox.poll_take(cx, batch));
        let Some(due) = self.shard.next_wakeup() else { return gathered.await };
        let Now { us, .. } = self.clock.now();
        let left = Duration::from_micros(due.us.saturating_sub(us));
        let timer = async {
            Timer::new(left).await;
        };
        gathered.or(timer).await;
        if batch.is_empty() {
            batch.push(Event::Wakeup);
        }
    }

    /// What was queued for sockets still leaves, within a bound: goodbyes are the last thing others hear of us.
    async fn linger(&self) {
        let until = self.clock.now().us + LINGER_US;
        while self.clock.now().us < until && !(self.clients.is_flushed() && self.links.is_flushed()) {
            Timer::new(Duration::from_millis(2)).await;
        }
    }

    /// Does everything the shard wants after a batch.
    fn drain(&mut self) -> After {
        let mut after = After::GoOn;
        while let Some(effect) = self.shard.poll_effect() {
            match effect {
                Effect::ClientWrite { conn, data } => self.clients.write(conn, data),
                Effect::ClientClose { conn } => self.clients.close(conn),
                Effect::ReadPause { conn, paused } => self.clients.pause(conn, paused),
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
                Effect::ClusterFormed { cluster_id } => self.report(Report::ClusterFormed(cluster_id)),
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

    fn report(&self, report: Report) {
        (self.reports)(CoreReport { core: self.shard.core(), report });
    }

    fn start_disk(&self, op: storage::DiskOp) {
        let disk = self.disk.clone().expect("a shard without a store asks for no disk");
        let inbox = self.inbox.clone();
        glommio::spawn_local(async move { inbox.push(Event::DiskDone(disk.run(op).await)) }).detach();
    }
}

/// Mail from other cores becomes events.
fn spawn_mail(inbox: Inbox, mailbox: Rc<std::cell::RefCell<Mailbox>>) {
    glommio::spawn_local(async move {
        let (mut arrived, mut wishes) = (Vec::new(), Vec::new());
        loop {
            poll_fn(|cx| mailbox.borrow_mut().poll_take(cx, &mut arrived, &mut wishes)).await;
            for admin in wishes.drain(..) {
                inbox.push(Event::Admin(admin));
            }
            for (from, mail) in arrived.drain(..) {
                inbox.push(Event::Mail { from, mail });
            }
        }
    })
    .detach();
}
