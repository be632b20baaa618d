//! A connection moves: what the core that it comes to does. See [`super::moving`] for the whole way.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::close::CloseReason;
use super::front::Front;
use super::moving::{Mover, Passage, Word};
use super::output::{FrontOutput, Level};
use crate::config::Config;
use crate::ids::{ConnId, CoreId, Now};
use crate::route::{Message, Target};

/// A connection that has come and may not act yet.
#[derive(Debug)]
pub(super) struct Arriving {
    from: CoreId,
    /// Cores whose messages for it still go by the old core.
    awaits: BTreeSet<CoreId>,
    /// The old core has sent everything.
    all: bool,
    /// What came for its subscriptions by the new way, in order; bounded like what waits for its socket.
    held: VecDeque<(u32, Message)>,
    held_bytes: u64,
    /// By which the old core let it in.
    config: Arc<Config>,
}

impl Arriving {
    fn new(from: CoreId, awaits: BTreeSet<CoreId>, config: Arc<Config>) -> Arriving {
        Arriving { from, awaits, all: false, held: VecDeque::new(), held_bytes: 0, config }
    }

    /// Whether a message that this core has from there is for it by this way.
    pub fn takes(&self, source: CoreId) -> bool {
        !self.awaits.contains(&source)
    }

    /// Keeps a message until the old core has sent everything. Bytes that wait.
    pub fn hold(&mut self, sub: u32, message: &Message) -> u64 {
        self.held_bytes += (message.subject.len() + message.len()) as u64;
        self.held.push_back((sub, message.clone()));
        self.held_bytes
    }
}

impl Front {
    /// A connection comes from another core. It is counted and subscribed here from now on; its socket is not touched
    /// before everything that was sent to it elsewhere has followed.
    pub(super) fn arrive(&mut self, from: CoreId, mover: Mover) {
        let Mover { mut conn, config } = mover;
        let own = self.options.place.core;
        let (id, account) = (conn.id, conn.account);
        let awaits = (0..self.options.cores).filter(|core| *core != own).collect();
        conn.passage = Some(Box::new(Passage::Arriving(Arriving::new(from, awaits, config))));
        conn.lodger = true;
        self.moves.lodgers += 1;
        self.open += 1;
        self.census_changed = true;
        let subs: Vec<(u32, crate::cluster::interest::Key)> =
            conn.subs.iter().map(|(place, sub)| (place, sub.key.clone())).collect();
        let slot = self.seat(conn);
        // A core knows every account that another core's clients can ask anything of here.
        let exchange = &mut self.exchanges[account.0 as usize];
        exchange.connections += 1;
        exchange.subscriptions += subs.len() as u64;
        for (place, key) in subs {
            let exchange = &mut self.exchanges[account.0 as usize];
            let (key, spread) = exchange.interest.subscribe(key.subject(), None);
            exchange.list.insert(key.subject(), None, Target::Client { conn: slot, sub: place });
            self.tell(account, &key, true, spread);
        }
        for core in (0..self.options.cores).filter(|core| *core != own) {
            self.say(core, Word::Follow { conn: id, old: from });
        }
    }

    /// Messages of that core for the connection come by this way from now on.
    pub(super) fn source_followed(&mut self, now: Now, core: CoreId, conn: ConnId) {
        if let Some(arriving) = self.arriving(conn) {
            arriving.awaits.remove(&core);
            self.admit_mover(now, conn);
        }
    }

    /// The old core passes on what was sent to it there.
    pub(super) fn forwarded(&mut self, now: Now, conn: ConnId, sub: u32, message: &Message) {
        let Some(slot) = self.by_id.get(&conn).copied() else { return };
        if self.conn(slot).is_some_and(|conn| conn.takes(sub, false, message.address())) {
            self.hand(now, None, None, slot, sub, message);
        }
    }

    /// The old core has passed on everything.
    pub(super) fn all_came(&mut self, now: Now, conn: ConnId, fate: Option<CloseReason>) {
        let Some(arriving) = self.arriving(conn) else { return };
        arriving.all = true;
        if let Some(slot) = self.by_id.get(&conn).copied()
            && let Some(conn) = self.conn(slot)
        {
            conn.fate = conn.fate.or(fate);
        }
        self.admit_mover(now, conn);
    }

    /// Lets a connection act here once nothing can come by the old way: it takes its socket over.
    fn admit_mover(&mut self, now: Now, id: ConnId) {
        let Some(slot) = self.by_id.get(&id).copied() else { return };
        let Some(conn) = self.conn(slot) else { return };
        let ready = |passage: &Passage| matches!(passage, Passage::Arriving(on) if on.all && on.awaits.is_empty());
        if !conn.passage.as_deref().is_some_and(ready) {
            return;
        }
        let Some(passage) = conn.passage.take() else { return };
        let Passage::Arriving(arriving) = *passage else { return };
        conn.paused = false;
        self.outputs.push_back(FrontOutput::Adopt { conn: id });
        let text = format!("Client connection moved from core {} to core {}", arriving.from, self.options.place.core);
        self.log_of(slot, Level::Debug, &text);
        for (sub, message) in arriving.held {
            if self.conn(slot).is_some_and(|conn| conn.takes(sub, false, message.address())) {
                self.hand(now, None, None, slot, sub, &message);
            }
        }
        if !Arc::ptr_eq(&arriving.config, &self.config) {
            self.renew(now, slot);
        }
        self.settle_in(now, slot);
    }

    /// A connection is no longer on its way: what had to wait for that happens.
    pub(super) fn settle_in(&mut self, now: Now, slot: u32) {
        self.mark(slot);
        self.rearm(slot);
        let Some(conn) = self.conn(slot) else { return };
        if let Some(reason) = conn.fate.take() {
            return self.close(now, slot, reason);
        }
        self.lame_duck_late(now);
        self.drain(now, slot);
    }

    fn arriving(&mut self, conn: ConnId) -> Option<&mut Arriving> {
        let slot = self.by_id.get(&conn).copied()?;
        match self.conn(slot)?.passage.as_deref_mut()? {
            Passage::Arriving(arriving) => Some(arriving),
            Passage::Leaving(_) => None,
        }
    }
}
