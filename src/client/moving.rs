//! A connection moves to the core that its requests go to: what the core that it leaves does.
//!
//! ```text
//!   old core                         new core                          every other core
//!   stops reading, lets go of the socket
//!   Comes, with all its state ─────► subscribes and tells it, as ever
//!   hears that, too                  Follow ─────────────────────────► has heard the new interest
//!        ◄──────── Followed ─────────────┴──────────── Followed ─────────────┘
//!   Forward, Forward, ...  ────────► delivered at once; what is for it by the new way waits
//!   All ───────────────────────────► what waited is delivered; the socket is read again
//! ```
//! Each core decides for itself by which way its messages go: by the old core until it says Followed, by the new one from
//! then on. It says so to both on the same ordered lanes as its messages, so both know of every message which of them
//! it is for: none is lost and none comes twice, although for a while both listen. What one publisher sends stays in
//! order because the new core delivers nothing by the new way before All, and All comes behind everything that went by the
//! old one.
//!
//! The connection's own publishes stay in order, too: before All the old core has heard of every core that it has taken in
//! all that the old one sent (the mark of [`super::barrier`]).
//!
//! While a connection is on its way, between the decision and All, nothing is taken from it, and whoever wants to close it
//! waits ([`Front::close`]). So each of the two cores only has one thing to do next, and a move that has begun ends.
//! `arriving` is the new core's part.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::arriving::Arriving;
use super::close::CloseReason;
use super::conn::Conn;
use super::front::Front;
use super::output::FrontOutput;
use crate::cluster::interest::{Key, LINK_CORE, Node, Spread};
use crate::config::Config;
use crate::ids::{AccountId, ConnId, CoreId, Now};
use crate::route::{Message, Plan, Target};

/// Reads that must have been requests to one other core before a connection moves there: some milliseconds of a client
/// that waits for each answer, and nobody else does so by chance.
pub const MOVE_AFTER_READS: u32 = 32;

/// Subscriptions of a connection that moves, at most. A requester has one or two; each costs every core two changes of
/// its subject list.
const MOVE_SUBS_MAX: usize = 16;

/// Connections that one core takes in at most. A requester alone gains a fifth; of sixteen at once on two cores each loses
/// a tenth, since they keep the cores awake anyway and share one then. So few that a crowd stays spread.
const LODGERS_MAX: u32 = 4;

/// How often one connection moves in its life, and how soon again, microseconds: a stream's leader may change its place,
/// and a client that asks here and there must not travel all the time.
const MOVES_MAX: u8 = 8;
const MOVE_AGAIN_US: u64 = 1_000_000;

/// What cores tell each other of a connection on its way.
#[derive(Debug)]
pub enum Word {
    /// Old core to new one: the connection is yours.
    Comes(Box<Mover>),
    /// New core to all others, behind the interest that it told before: confirm to me and to the old core.
    Follow { conn: ConnId, old: CoreId },
    /// To the old core and the new one: what I send from now on goes by the new way.
    Followed { conn: ConnId },
    /// Old core to new one: this came for one of its subscriptions.
    Forward { conn: ConnId, sub: u32, message: Message },
    /// Old core to new one: nothing comes from me any more. Somebody wanted it closed meanwhile.
    All { conn: ConnId, fate: Option<CloseReason> },
}

/// A connection between two cores.
#[derive(Debug)]
pub struct Mover {
    pub(super) conn: Conn,
    /// By which it was let in.
    pub(super) config: Arc<Config>,
}

impl Mover {
    pub fn id(&self) -> ConnId {
        self.conn.id
    }
}

/// Where a connection that is on its way stands.
#[derive(Debug)]
pub(super) enum Passage {
    /// The shell was asked to let go of its socket.
    Leaving(CoreId),
    Arriving(Arriving),
}

/// What stays behind of a connection that has left, until all that was sent to it here has followed it.
#[derive(Debug)]
struct Husk {
    cid: u64,
    to: CoreId,
    account: AccountId,
    subs: Vec<(u32, Key)>,
    /// Cores whose messages for it still come here, this one among them.
    awaits: BTreeSet<CoreId>,
    /// Every core has taken in what the connection published from here.
    passed: bool,
    fate: Option<CloseReason>,
}

/// What a core knows of connections that left it and came to it.
#[derive(Debug, Default)]
pub(super) struct Moves {
    husks: BTreeMap<ConnId, Husk>,
    /// Connections here that came from other cores.
    pub(super) lodgers: u32,
    /// The same of the others, as they told.
    elsewhere: BTreeMap<CoreId, u32>,
    /// Whose only operation is just being handed on: see [`Front::asked`].
    asking: Option<u32>,
}

impl Front {
    /// Notes a client's publish whose way decides where the client should be: it wants an answer and went to one place.
    pub(super) fn watch(&mut self, from: Option<u32>, asks: bool, plan: &Plan) {
        self.moves.asking = None;
        let Some(slot) = from.filter(|_| asks && self.options.cores > 1) else { return };
        if !self.conn(slot).is_some_and(|conn| conn.habit.is_single()) {
            return;
        }
        let elsewhere = plan.clients.len() + plan.moved.len();
        match (&plan.shares[..], plan.services.len() + plan.streams.len(), elsewhere) {
            ([share], 0, 0) => {
                let core = if let Node::Core(core) = share.node { core } else { LINK_CORE };
                self.moves.asking = Some(slot);
                self.asked(core);
            }
            ([], 1, 0) => self.moves.asking = Some(slot),
            _ => {}
        }
    }

    /// What a client published just now was handed on to that core, whose answer it will wait for.
    pub fn asked(&mut self, core: CoreId) {
        let Some(slot) = self.moves.asking.take() else { return };
        if let Some(conn) = self.conn(slot) {
            conn.habit.asked(core);
        }
    }

    /// Another core says how many connections it took in.
    pub fn lodgers(&mut self, core: CoreId, lodgers: u32) {
        self.moves.elsewhere.insert(core, lodgers);
    }

    /// Begins to move a connection if it would gain by it. Called when everything that it was told has reached its
    /// socket: then it is likeliest to have nothing under way.
    pub(super) fn consider_move(&mut self, now: Now, slot: u32) {
        let after = self.options.move_after;
        let Some(conn) = self.conns.get(slot as usize).and_then(Option::as_ref) else { return };
        let Some(to) = conn.habit.toward(after).filter(|to| *to != self.options.place.core) else { return };
        let room = self.moves.elsewhere.get(&to).is_none_or(|lodgers| *lodgers < LODGERS_MAX);
        let awaited = self.barrier.awaits(conn.id);
        if !room || awaited || self.lame_duck.is_some() || !conn.may_move(now) {
            return;
        }
        let id = conn.id;
        if let Some(conn) = self.conn(slot) {
            conn.passage = Some(Box::new(Passage::Leaving(to)));
        }
        self.outputs.push_back(FrontOutput::Release { conn: id });
    }

    /// The answer to [`FrontOutput::Release`]: the shell lets go of the socket, and all that was read has been handed
    /// in; or (not `ok`) it could not, and goes on with it.
    pub fn released(&mut self, now: Now, conn: ConnId, ok: bool) {
        let Some(slot) = self.by_id.get(&conn).copied() else { return };
        let lame_duck = self.lame_duck.is_some();
        let Some(state) = self.conn(slot) else { return };
        let Some(Passage::Leaving(to)) = state.passage.as_deref() else { return };
        let to = *to;
        if ok && state.fate.is_none() && !lame_duck {
            return self.depart(now, slot, to);
        }
        state.passage = None;
        if ok {
            self.outputs.push_back(FrontOutput::Adopt { conn });
        }
        self.settle_in(now, slot);
    }

    /// Leaves a husk in the connection's place and sends the connection itself on its way.
    fn depart(&mut self, now: Now, slot: u32, to: CoreId) {
        let Some(mut conn) = self.conns.get_mut(slot as usize).and_then(Option::take) else { return };
        self.conns_free.push(slot);
        self.by_id.remove(&conn.id);
        self.timers.set(slot, conn.due.take(), None);
        self.open -= 1;
        self.moves.lodgers -= u32::from(conn.lodger);
        self.census_changed = true;
        let exchange = &mut self.exchanges[conn.account.0 as usize];
        exchange.connections -= 1;
        exchange.subscriptions -= conn.subs.len() as u64;
        let subs: Vec<(u32, Key)> = conn.subs.iter().map(|(place, sub)| (place, sub.key.clone())).collect();
        for (sub, key) in &subs {
            exchange.list.remove(key.subject(), None, Target::Client { conn: slot, sub: *sub });
            exchange.list.insert(key.subject(), None, Target::Moved { conn: conn.id, sub: *sub });
        }
        let awaits = (0..self.options.cores).collect();
        let husk = Husk { cid: conn.cid, to, account: conn.account, subs, awaits, passed: false, fate: None };
        self.moves.husks.insert(conn.id, husk);
        // Until its census comes: a crowd that leaves at once must not find the same room.
        *self.moves.elsewhere.entry(to).or_default() += 1;
        self.barrier.said();
        let others = usize::from(self.options.cores - 1);
        let passed = self.barrier.admits(others, conn.id);
        debug_assert!(!passed, "a mark that was not sent yet cannot have come back");
        conn.habit = Default::default();
        conn.moves += 1;
        conn.moved_us = now.us;
        (conn.passage, conn.dirty) = (None, false);
        let config = Arc::clone(&self.config);
        self.say(to, Word::Comes(Box::new(Mover { conn, config })));
    }

    /// A core has something to say of a connection on its way.
    pub fn on_word(&mut self, now: Now, from: CoreId, word: Word) {
        match word {
            Word::Comes(mover) => self.arrive(from, *mover),
            Word::Follow { conn, old } => self.on_follow(from, conn, old),
            Word::Followed { conn } => {
                self.followed(from, conn);
                self.source_followed(now, from, conn);
            }
            Word::Forward { conn, sub, message } => self.forwarded(now, conn, sub, &message),
            Word::All { conn, fate } => self.all_came(now, conn, fate),
        }
    }

    /// From here on what this core has for the connection goes by its new core.
    fn on_follow(&mut self, new: CoreId, conn: ConnId, old: CoreId) {
        let own = self.options.place.core;
        self.say(new, Word::Followed { conn });
        if own == old {
            // Everything that the new core sent this way came before this word.
            self.followed(new, conn);
            self.followed(own, conn);
        } else {
            self.say(old, Word::Followed { conn });
        }
    }

    /// A message found a subscription that has left; true when it still goes this way.
    pub(super) fn forward(&mut self, source: CoreId, conn: ConnId, sub: u32, message: &Message) -> bool {
        let Some(husk) = self.moves.husks.get(&conn).filter(|husk| husk.awaits.contains(&source)) else { return false };
        let to = husk.to;
        self.say(to, Word::Forward { conn, sub, message: message.clone() });
        true
    }

    /// Nothing more comes this way from that core.
    fn followed(&mut self, core: CoreId, conn: ConnId) {
        if let Some(husk) = self.moves.husks.get_mut(&conn) {
            husk.awaits.remove(&core);
            self.bury(conn);
        }
    }

    /// Every core has what the connection published from here; false when none of that name has left.
    pub(super) fn passed(&mut self, conn: ConnId) -> bool {
        let Some(husk) = self.moves.husks.get_mut(&conn) else { return false };
        husk.passed = true;
        self.bury(conn);
        true
    }

    /// Ends the husk once nothing comes this way any more.
    fn bury(&mut self, conn: ConnId) {
        let done = |husk: &Husk| husk.passed && husk.awaits.is_empty();
        if !self.moves.husks.get(&conn).is_some_and(done) {
            return;
        }
        let Some(husk) = self.moves.husks.remove(&conn) else { return };
        for (sub, key) in &husk.subs {
            let exchange = &mut self.exchanges[husk.account.0 as usize];
            exchange.list.remove(key.subject(), None, Target::Moved { conn, sub: *sub });
            let spread: Spread = exchange.interest.unsubscribe(key);
            self.tell(husk.account, key, false, spread);
        }
        self.say(husk.to, Word::All { conn, fate: husk.fate });
    }

    /// Somebody wants a client closed that has just left: its new core is told.
    pub(super) fn close_husk(&mut self, cid: u64, reason: CloseReason) -> bool {
        let Some(husk) = self.moves.husks.values_mut().find(|husk| husk.cid == cid) else { return false };
        husk.fate.get_or_insert(reason);
        true
    }

    /// Whether a client of that number is here, or has just left.
    pub fn knows(&self, cid: u64) -> bool {
        self.slot_of(cid).is_some() || self.moves.husks.values().any(|husk| husk.cid == cid)
    }

    pub(super) fn say(&mut self, core: CoreId, word: Word) {
        self.outputs.push_back(FrontOutput::Word { core, word });
    }
}

impl Conn {
    /// Whether it could leave now: nothing is under way for it, and it is simple enough to be taken along.
    fn may_move(&self, now: Now) -> bool {
        let idle =
            self.is_open() && self.counted && !self.is_held() && self.intake.is_empty() && self.out.pending() == 0;
        let again = self.moves < MOVES_MAX && (self.moves == 0 || now.us >= self.moved_us + MOVE_AGAIN_US);
        let plain = || self.subs.iter().all(|(_, sub)| sub.key.queue().is_none());
        idle && again && self.subs.len() <= MOVE_SUBS_MAX && plain()
    }
}
