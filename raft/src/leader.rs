//! Leading: feeding the peers, counting their answers, committing, and stepping down in time.
//!
//! Entries are sent when the caller drains, not when they are proposed: one turn makes one append per peer, carrying the
//! newest commit. A commit that no append carries is told by a heartbeat as soon as the peer has everything, so that
//! busy groups pay nothing for it and quiet ones learn it at once.

use crate::anew::Grant;
use crate::progress::{Forgot, Pace, Progress};
use crate::read::Reads;
use crate::{
    Amnesia, Body, EntryKind, Index, Membership, NUMBER_MAX, Node, NodeId, Now, Output, ProposeError, Role,
    TransferError, quorum,
};

/// Entries of one append. Bounds what a follower must check at once and the message's head (13 bytes each).
pub(crate) const APPEND_ENTRIES_MAX: usize = 4096;
/// Entries that may wait for a quorum. They cost memory even when they carry no bytes.
const UNCOMMITTED_ENTRIES_MAX: u64 = 1 << 20;

/// What only a leader has. Empty on everyone else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leading {
    /// By id; never the node itself.
    pub(crate) peers: Vec<(NodeId, Progress)>,
    /// The noop that opened the term: what is committed from there on is known to be.
    pub(crate) term_start: Index,
    pub(crate) uncommitted: u64,
    pub(crate) transfer: Option<Transfer>,
    pub(crate) reads: Reads,
}

/// A hand-over under way: nothing is proposed until it succeeds or its time is up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub(crate) to: NodeId,
    deadline: Now,
}

impl Leading {
    pub(crate) fn clear(&mut self) {
        *self = Leading::default();
    }

    pub(crate) fn peer(&self, id: NodeId) -> Option<&Progress> {
        self.peers.binary_search_by_key(&id, |peer| peer.0).ok().map(|at| &self.peers[at].1)
    }

    pub(crate) fn place(&self, id: NodeId) -> Option<usize> {
        self.peers.binary_search_by_key(&id, |peer| peer.0).ok()
    }
}

impl Node {
    /// Appends an entry of `len` payload bytes and names its index; the caller keeps the bytes under it.
    pub fn propose(&mut self, now: Now, len: u32) -> Result<Index, ProposeError> {
        self.check_proposal()?;
        let bytes = self.lead.uncommitted + u64::from(len);
        let crowded = self.lead.uncommitted > 0 && bytes > self.options.uncommitted_bytes_max;
        if crowded || self.log.last() - self.commit >= UNCOMMITTED_ENTRIES_MAX || self.log.last() >= NUMBER_MAX {
            return Err(ProposeError::Full);
        }
        self.stir(now);
        Ok(self.append_own(len, EntryKind::Data))
    }

    pub(crate) fn check_proposal(&self) -> Result<(), ProposeError> {
        match (self.role, self.lead.transfer) {
            (Role::Leader, None) => Ok(()),
            (Role::Leader, Some(_)) => Err(ProposeError::Transferring),
            _ => Err(ProposeError::NotLeader { leader: self.leader }),
        }
    }

    pub(crate) fn append_own(&mut self, len: u32, kind: EntryKind) -> Index {
        self.lead.uncommitted += u64::from(len);
        self.gate.mark_append();
        self.log.append(self.hard.term, len, kind)
    }

    pub(crate) fn become_leader(&mut self, now: Now) {
        (self.role, self.leader) = (Role::Leader, Some(self.options.id));
        let anew = (!self.has_full_quorum()).then(|| self.members_anew());
        let votes = std::mem::take(&mut self.votes);
        self.lead.clear();
        self.lead.uncommitted = self.log.bytes(self.commit, self.log.last());
        self.lead.term_start = self.log.last() + 1;
        self.sync_peers(now);
        self.open_term(anew.as_ref());
        self.timing.heartbeat = now.saturating_add(self.options.heartbeat_us);
        self.show_role();
        if anew.is_some() {
            self.output(Output::BeganAnew);
        }
        if self.amnesia.take().is_some() {
            self.output(Output::Healed);
        }
        // Known before any answer of theirs, so that none of a former life is taken for one of this.
        for (id, grant) in votes {
            if let (Grant::Empty(what), Some(at)) = (grant, self.lead.place(id)) {
                self.note_forgot(at, what);
            }
        }
    }

    /// The first entry of a term. The very first of a group names its members: whoever is handed the log from its start
    /// learns them there. So does one of whose log not enough is left to know them from.
    fn open_term(&mut self, anew: Option<&Membership>) {
        match anew.filter(|members| **members != self.membership) {
            Some(members) => drop(self.append_membership(members.clone())),
            None if self.log.last() > 0 => drop(self.append_own(0, EntryKind::Noop)),
            None => drop(self.append_membership(self.membership.clone())),
        }
    }

    /// Gives every member a progress. Peers that are leaving keep theirs until the change is committed.
    pub(crate) fn sync_peers(&mut self, now: Now) {
        for id in self.membership.members() {
            if id != self.options.id
                && let Err(at) = self.lead.peers.binary_search_by_key(&id, |peer| peer.0)
            {
                self.lead.peers.insert(at, (id, Progress::new(self.log.last() + 1, now)));
            }
        }
    }

    /// When a leader must act: peers want heartbeats, a hand-over ends. Alone it need not.
    pub(crate) fn leader_wakeup(&self) -> Option<Now> {
        let heartbeat = (!self.lead.peers.is_empty()).then_some(self.timing.heartbeat);
        heartbeat.into_iter().chain(self.lead.transfer.map(|transfer| transfer.deadline)).min()
    }

    pub(crate) fn on_leader_time(&mut self, now: Now) {
        self.timing.seen = self.timing.seen.max(now);
        self.lead.transfer = self.lead.transfer.filter(|transfer| now < transfer.deadline);
        if now < self.timing.heartbeat {
            return;
        }
        if !self.has_quorum_since(now.saturating_sub(self.options.election_timeout_us)) {
            return self.become_follower(now, self.hard.term, None);
        }
        self.timing.heartbeat = now.saturating_add(self.options.heartbeat_us);
        self.broadcast_heartbeat();
    }

    /// Whether a quorum was heard since then. A leader without one must assume that another leads.
    fn has_quorum_since(&self, since: Now) -> bool {
        let heard = |peer: &Progress| peer.last_contact >= since;
        self.quorum_of(heard) || self.holds_for_all(heard)
    }

    /// Whether this node and those counting peers for which it `holds` form a quorum.
    pub(crate) fn quorum_of(&self, holds: impl Fn(&Progress) -> bool) -> bool {
        quorum::is_quorum(&self.membership, |id| {
            id == self.options.id || self.lead.peer(id).is_some_and(|peer| peer.counts() && holds(peer))
        })
    }

    pub(crate) fn broadcast_heartbeat(&mut self) {
        for at in 0..self.lead.peers.len() {
            self.send_heartbeat(at);
        }
    }

    fn send_heartbeat(&mut self, at: usize) {
        let (to, peer) = &mut self.lead.peers[at];
        let commit = self.commit.min(peer.matched);
        peer.commit_told = peer.commit_told.max(commit);
        let healed = peer.forgot.filter(|forgot| forgot.healed).map(|forgot| forgot.what.nonce);
        let (to, round) = (*to, self.lead.reads.round());
        self.send(to, Body::Heartbeat { commit, round, healed });
    }

    /// The last word to a peer that is no member any more.
    pub(crate) fn send_farewell(&mut self, at: usize) {
        while self.send_append(at, false) {}
        self.send_heartbeat(at);
    }

    /// Sends every peer what it lacks and its window has room for.
    pub(crate) fn replicate(&mut self) {
        for at in 0..self.lead.peers.len() {
            while self.send_append(at, false) {}
            let peer = &self.lead.peers[at].1;
            let complete = peer.pace == Pace::Replicate && peer.matched == self.log.last();
            if complete && peer.commit_told < self.commit {
                self.send_heartbeat(at);
            }
        }
    }

    /// Sends one append, if the peer's pace allows it. `ask`: an empty one, just to learn where the peer stands.
    /// True when more may follow.
    fn send_append(&mut self, at: usize, ask: bool) -> bool {
        let options = &self.options;
        let (to, peer) = &mut self.lead.peers[at];
        let allowed = match peer.pace {
            Pace::Probe { paused } => !paused,
            Pace::Replicate => {
                let full = peer.inflight.is_full(options.inflight_messages_max, options.inflight_bytes_max);
                ask || peer.next <= self.log.last() && !full
            }
            Pace::Snapshot { .. } => false,
        };
        if !allowed {
            return false;
        }
        let prev_index = peer.next - 1;
        let Some(prev_term) = self.log.term_at(prev_index) else {
            self.offer_snapshot(at);
            return false;
        };
        let count_max = if ask { 0 } else { APPEND_ENTRIES_MAX };
        let entries = self.log.entries(peer.next, options.append_bytes_max, count_max);
        let bytes = entries.iter().map(|entry| u64::from(entry.len)).sum();
        let last = prev_index + entries.len() as u64;
        let more = peer.pace == Pace::Replicate && !entries.is_empty();
        peer.on_sent(last, entries.len(), bytes);
        peer.commit_told = peer.commit_told.max(self.commit.min(last));
        let to = *to;
        self.send(to, Body::Append { prev_index, prev_term, commit: self.commit, entries });
        more
    }

    fn offer_snapshot(&mut self, at: usize) {
        let index = self.log.base();
        let (term, membership) = (self.log.term_at(index).unwrap_or(0), self.log.membership_at(index).1.clone());
        let (to, peer) = &mut self.lead.peers[at];
        peer.await_snapshot(index);
        let to = *to;
        self.send(to, Body::Snapshot { index, term, membership: Box::new(membership) });
        self.output(Output::SendSnapshot { to });
    }

    /// The caller has streamed the state as of `index` to the peer, or failed to.
    pub fn snapshot_sent(&mut self, now: Now, to: NodeId, index: Index, ok: bool) {
        self.stir(now);
        let ok = ok && self.log.term_at(index).is_some();
        if let Some(at) = self.lead.place(to) {
            self.lead.peers[at].1.on_snapshot_sent(index, ok);
        }
    }

    /// The transport lost the peer: what is in flight to it may be gone.
    pub fn report_unreachable(&mut self, now: Now, peer: NodeId) {
        self.timing.seen = self.timing.seen.max(now);
        let Some(at) = self.lead.place(peer) else { return };
        let peer = &mut self.lead.peers[at].1;
        if peer.pace == Pace::Replicate && !peer.inflight.is_empty() {
            peer.probe();
        }
    }

    /// A peer answered, `round` being the latest question that it had heard. Its place among the peers, or `None` when
    /// the answer must not be used.
    fn hear(&mut self, now: Now, from: NodeId, amnesia: Option<Amnesia>, round: u64) -> Option<usize> {
        let at = self.lead.place(from)?;
        self.lead.peers[at].1.last_contact = now;
        let known = self.lead.peers[at].1.forgot;
        match (amnesia, known) {
            (Some(what), Some(forgot)) if forgot.what == what => {}
            (Some(what), _) => self.note_forgot(at, what),
            // Said before it forgot, unless it heard a question that was asked after it had said so: then that was old
            // news, from before it was healed.
            (None, Some(forgot)) if !forgot.healed && round < forgot.round => return None,
            (None, _) => self.lead.peers[at].1.forgot = None,
        }
        Some(at)
    }

    fn note_forgot(&mut self, at: usize, what: Amnesia) {
        let (round, last) = (self.start_round(), self.log.last());
        self.lead.peers[at].1.forget(Forgot { what, until: last, round, healed: false }, last);
    }

    pub(crate) fn on_append_reply(
        &mut self,
        now: Now,
        from: NodeId,
        matched: Index,
        commit: Index,
        amnesia: Option<Amnesia>,
    ) {
        let Some(at) = self.hear(now, from, amnesia, 0).filter(|_| matched <= self.log.last()) else { return };
        let peer = &mut self.lead.peers[at].1;
        peer.on_matched(matched);
        peer.commit = peer.commit.max(commit.min(matched));
        self.advance_commit();
        if self.role == Role::Leader {
            self.heal_forgetful();
            self.finish_transfer();
        }
    }

    pub(crate) fn on_append_reject(
        &mut self,
        now: Now,
        from: NodeId,
        rejected: Index,
        hint: (Index, u64),
        amnesia: Option<Amnesia>,
    ) {
        let Some(at) = self.hear(now, from, amnesia, 0).filter(|_| rejected <= self.log.last()) else { return };
        let agree = self.log.agree_at_most(hint.0, hint.1);
        self.lead.peers[at].1.on_rejected(rejected, agree);
    }

    pub(crate) fn on_heartbeat_reply(
        &mut self,
        now: Now,
        from: NodeId,
        commit: Index,
        round: u64,
        amnesia: Option<Amnesia>,
    ) {
        let forgot = |node: &Node| node.lead.peer(from).is_some_and(|peer| peer.forgot.is_some());
        let had_forgotten = forgot(self);
        let Some(at) = self.hear(now, from, amnesia, round) else { return };
        let last = self.log.last();
        let rounds = self.lead.reads.round();
        let peer = &mut self.lead.peers[at].1;
        peer.round = peer.round.max(round.min(rounds));
        // It knows less than it has said before: it started anew, and heartbeats alone cannot tell it how far its log is
        // this one's.
        let restarted = peer.pace == Pace::Replicate && commit < peer.commit;
        peer.commit = if restarted { commit } else { peer.commit.max(commit.min(peer.matched)) };
        // It was away when the commit was told, and the heartbeats since cannot tell it for the same reason.
        let deaf = peer.pace == Pace::Replicate && commit < peer.commit_told.min(peer.matched);
        if peer.on_heartbeat(last) || restarted || deaf {
            self.send_append(at, true);
        }
        self.confirm_reads();
        self.heal_forgetful();
        if had_forgotten && !forgot(self) {
            // Its log counts from now on.
            self.advance_commit();
        }
    }

    /// A member that may not campaign looks for its leader, or somebody asks whether it still is a member. What this leader
    /// found in its log it may take as the present only once an entry of its own term is committed.
    pub(crate) fn on_seek(&mut self, now: Now, from: NodeId, question: u64) {
        if self.role != Role::Leader {
            return;
        }
        if let Some(at) = self.lead.place(from) {
            self.stir(now);
            return self.send_heartbeat(at);
        }
        let settled = self.commit >= self.lead.term_start.max(self.membership_index);
        if settled && !self.membership.contains(from) {
            self.send(from, Body::Removed { index: self.membership_index, question });
        }
    }

    /// Tells forgetful peers that they have everything again. See [`crate::Restore::voteless`] for when that is.
    fn heal_forgetful(&mut self) {
        for at in 0..self.lead.peers.len() {
            let peer = &self.lead.peers[at].1;
            let Some(forgot) = peer.forgot.filter(|forgot| !forgot.healed && peer.matched >= forgot.until) else {
                continue;
            };
            let confirmed = || self.commit >= forgot.until && self.quorum_of(|peer| peer.round >= forgot.round);
            // Nobody was following another leader when all had answered, so no vote that was forgotten made one.
            let unanimous = || self.holds_for_all(|peer| peer.round >= forgot.round);
            if !forgot.what.votes || confirmed() || unanimous() {
                self.lead.peers[at].1.forgot = Some(Forgot { healed: true, ..forgot });
                self.send_heartbeat(at);
            }
        }
    }

    /// Commits what the rule allows. Entries of former terms count only together with one of this term (Raft, 5.4.2).
    pub(crate) fn advance_commit(&mut self) {
        let durable = self.gate.durable_index();
        let matched = |id| {
            if id == self.options.id { durable } else { self.lead.peer(id).map_or(0, Progress::counted_match) }
        };
        let index = quorum::committed(&self.membership, &self.options.commit_rule, matched);
        if index <= self.commit || self.log.term_at(index) != Some(self.hard.term) {
            return;
        }
        self.lead.uncommitted = self.lead.uncommitted.saturating_sub(self.log.bytes(self.commit, index));
        self.commit = index;
        self.on_committed();
    }

    /// Hands leadership to a voter: it gets what it lacks, then starts an election that nobody's lease refuses. Until it
    /// succeeds, or one election timeout has passed, nothing is proposed.
    pub fn transfer(&mut self, now: Now, to: NodeId) -> Result<(), TransferError> {
        if self.role != Role::Leader {
            return Err(TransferError::NotLeader { leader: self.leader });
        }
        if !self.membership.voters.contains(&to) {
            return Err(TransferError::NotVoter);
        }
        if to == self.options.id {
            self.lead.transfer = None;
            return Ok(());
        }
        if self.lead.peer(to).is_none_or(|peer| peer.forgot.is_some()) {
            return Err(TransferError::NotVoter);
        }
        self.stir(now);
        self.lead.transfer = Some(Transfer { to, deadline: now.saturating_add(self.options.election_timeout_us) });
        self.finish_transfer();
        Ok(())
    }

    /// Asks a voter to lead with what it has, though it may lack the end of this log: for a leader whose newest entries cannot be
    /// stored by a quorum. Who may win is decided by the votes, as ever; until somebody has, this leader goes on.
    pub fn ask_to_lead(&mut self, now: Now, to: NodeId) -> Result<(), TransferError> {
        if self.role != Role::Leader {
            return Err(TransferError::NotLeader { leader: self.leader });
        }
        if !self.membership.voters.contains(&to) || self.lead.peer(to).is_none_or(|peer| peer.forgot.is_some()) {
            return Err(TransferError::NotVoter);
        }
        self.stir(now);
        self.send(to, Body::TimeoutNow);
        Ok(())
    }

    fn finish_transfer(&mut self) {
        let Some(Transfer { to, .. }) = self.lead.transfer else { return };
        if self.lead.peer(to).is_some_and(|peer| peer.matched == self.log.last()) {
            self.send(to, Body::TimeoutNow);
        }
    }

    /// Steps down at once, asking the voter with the longest log to take over.
    pub(crate) fn hand_over(&mut self, now: Now) {
        let voters =
            self.lead.peers.iter().filter(|(id, peer)| peer.forgot.is_none() && self.membership.voters.contains(id));
        if let Some(to) = voters.max_by_key(|(_, peer)| peer.matched).map(|(id, _)| *id) {
            self.send(to, Body::TimeoutNow);
        }
        self.become_follower(now, self.hard.term, None);
    }
}
