//! Which connections make up the link to each server: pure bookkeeping, so that its races can be tested.
//!
//! ```text
//!   peer ──► ours   (dialled by us):   control  data  bulk       at most one of the two sets is complete,
//!        └─► theirs (dialled by them): control  data  bulk       and only a complete one carries messages
//! ```
//! Lanes of a link are dialled by one side, control first. When both sides dial at once the two control lanes meet, and
//! both sides keep the same one ([`keeps_our_dial`]); what belongs to the other set is closed. A link that stands is
//! never given up for a new connection of the same boot: the new one is closed. A server that has started anew replaces
//! whatever its former boot left behind.

use std::collections::BTreeMap;

use net::peer::hello::Hello;
use net::peer::lane::Lane;
use net::peer::link::keeps_our_dial;

use crate::ids::ServerId;

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Ours,
    Theirs,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Ours => Side::Theirs,
            Side::Theirs => Side::Ours,
        }
    }
}

/// Lanes by [`Lane::code`].
type Set<L> = [Option<L>; 3];

/// Everything that stands between this server and one other. `L` is a connection.
struct Session<L> {
    hello: Box<Hello>,
    ours: Set<L>,
    theirs: Set<L>,
    /// The set that carries messages.
    up: Option<Side>,
}

impl<L> Session<L> {
    fn new(hello: Box<Hello>) -> Session<L> {
        Session { hello, ours: [None, None, None], theirs: [None, None, None], up: None }
    }

    fn set(&mut self, side: Side) -> &mut Set<L> {
        match side {
            Side::Ours => &mut self.ours,
            Side::Theirs => &mut self.theirs,
        }
    }

    fn drain(&mut self, side: Side) -> impl Iterator<Item = L> + '_ {
        self.set(side).iter_mut().filter_map(Option::take)
    }

    fn is_empty(&self) -> bool {
        self.ours.iter().chain(&self.theirs).all(Option::is_none)
    }
}

/// What came of a change: the connections that must be closed now, and whether the link went down or up, in this order.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome<L> {
    pub close: Vec<L>,
    pub down: bool,
    pub up: bool,
    /// The connection that was offered is part of the link.
    pub kept: bool,
}

impl<L> Outcome<L> {
    fn nothing() -> Outcome<L> {
        Outcome { close: Vec::new(), down: false, up: false, kept: false }
    }
}

/// The links of this server. Every operation costs a lookup.
pub struct Sessions<L> {
    map: BTreeMap<ServerId, Session<L>>,
}

impl<L: PartialEq> Sessions<L> {
    pub fn new() -> Sessions<L> {
        Sessions { map: BTreeMap::new() }
    }

    /// A connection whose handshake succeeded joins the link that it belongs to, or must be closed.
    pub fn offer(&mut self, us: &Hello, hello: Box<Hello>, side: Side, lane: Lane, conn: L) -> Outcome<L> {
        let peer = ServerId(hello.peer_id);
        let mut outcome = self.replace_boot(peer, &hello);
        let session = self.map.entry(peer).or_insert_with(|| Session::new(hello));
        let (slot, other) = (usize::from(lane.code()), side.other());
        let contested = session.set(other).iter().any(Option::is_some);
        let wins = keeps_our_dial(us, &session.hello) == (side == Side::Ours);
        // The lanes are connections of their own: the second may be through its handshake here before the first.
        let unwanted = session.up.is_some() || session.set(side)[slot].is_some() || (contested && !wins);
        if unwanted {
            outcome.close.push(conn);
            if session.is_empty() {
                self.map.remove(&peer);
            }
            return outcome;
        }
        outcome.close.extend(session.drain(other));
        session.set(side)[slot] = Some(conn);
        outcome.kept = true;
        if session.set(side).iter().all(Option::is_some) {
            session.up = Some(side);
            outcome.up = true;
        }
        outcome
    }

    fn replace_boot(&mut self, peer: ServerId, hello: &Hello) -> Outcome<L> {
        match self.map.get(&peer) {
            Some(session) if session.hello.server_id != hello.server_id => self.drop_link(peer),
            _ => Outcome::nothing(),
        }
    }

    /// A connection is over. A link that stood is down as a whole; a set that was being dialled is given up.
    pub fn broken(&mut self, peer: ServerId, side: Side, conn: &L) -> Outcome<L> {
        let Some(session) = self.map.get_mut(&peer) else { return Outcome::nothing() };
        if !session.set(side).iter().flatten().any(|standing| standing == conn) {
            return Outcome::nothing();
        }
        if session.up.is_some() {
            return self.drop_link(peer);
        }
        self.give_up(peer, side)
    }

    /// The lanes of one side are closed unless they are a link that stands.
    pub fn give_up(&mut self, peer: ServerId, side: Side) -> Outcome<L> {
        let mut outcome = Outcome::nothing();
        if let Some(session) = self.map.get_mut(&peer).filter(|session| session.up.is_none()) {
            outcome.close.extend(session.drain(side));
            if session.is_empty() {
                self.map.remove(&peer);
            }
        }
        outcome
    }

    /// Everything between us and a server is closed.
    pub fn drop_link(&mut self, peer: ServerId) -> Outcome<L> {
        let mut outcome = Outcome::nothing();
        if let Some(mut session) = self.map.remove(&peer) {
            outcome.down = session.up.is_some();
            outcome.close.extend(session.drain(Side::Ours));
            outcome.close.extend(session.drain(Side::Theirs));
        }
        outcome
    }

    pub fn is_up(&self, peer: ServerId) -> bool {
        self.map.get(&peer).is_some_and(|session| session.up.is_some())
    }

    /// What a server said of itself.
    pub fn hello(&self, peer: ServerId) -> Option<&Hello> {
        self.map.get(&peer).map(|session| &*session.hello)
    }

    /// The connection of a lane of a link that is up.
    pub fn lane(&self, peer: ServerId, lane: Lane) -> Option<&L> {
        self.map.get(&peer).and_then(|session| lanes_of(session)?[usize::from(lane.code())].as_ref())
    }

    /// Every connection, of links that are up and of those that are being opened.
    pub fn connections(&self) -> impl Iterator<Item = &L> {
        self.map.values().flat_map(|session| session.ours.iter().chain(&session.theirs).flatten())
    }

    /// Each link that is up, with its three lanes.
    pub fn standing(&self) -> impl Iterator<Item = (ServerId, &Hello, &Set<L>)> {
        self.map.iter().filter_map(|(peer, session)| Some((*peer, &*session.hello, lanes_of(session)?)))
    }
}

fn lanes_of<L>(session: &Session<L>) -> Option<&Set<L>> {
    session.up.map(|side| if side == Side::Ours { &session.ours } else { &session.theirs })
}

#[cfg(test)]
mod tests;
