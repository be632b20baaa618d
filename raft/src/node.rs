//! One replica of one group: its state, its start, and the verbs that every role understands. What a role does with a
//! message is in `step`, `follower`, `candidate` and `leader`.

use std::collections::VecDeque;

use crate::anew::{Anew, Grant};
use crate::gate::Gate;
use crate::leader::Leading;
use crate::log::Log;
use crate::timing::Timing;
use crate::{
    Amnesia, Body, CommitRule, HardState, Index, Installed, Membership, Message, NUMBER_MAX, NodeId, Now, Options,
    Output, PeerStatus, Restore, RestoreError, Role, SpanError, Status, Term, Ticket, quorum,
};

/// A replica. See the crate's head for what its caller owes it.
///
/// Invariants: `applied ≤ commit_given ≤ commit ≤ log.last()`, `commit_given ≤ durable`, `log.base() ≤ commit_given`;
/// `membership` is the newest one in the log; peers are known on a leader only.
#[derive(Clone, Debug)]
pub struct Node {
    pub(crate) options: Options,
    pub(crate) hard: HardState,
    pub(crate) role: Role,
    pub(crate) leader: Option<NodeId>,
    pub(crate) log: Log,
    pub(crate) gate: Gate,
    pub(crate) timing: Timing,
    pub(crate) membership: Membership,
    pub(crate) membership_index: Index,
    /// A leader has said that a membership without this replica is committed at this index.
    pub(crate) removed_at: Index,
    /// The open question whether this replica is a member; 0 if none is.
    pub(crate) question: u64,
    pub(crate) commit: Index,
    /// What `Output::Commit` has said.
    commit_given: Index,
    applied: Index,
    /// On a follower: up to here the log is known to equal this term's leader's.
    pub(crate) verified: Index,
    pub(crate) amnesia: Option<Amnesia>,
    pub(crate) fenced: bool,
    /// See [`Node::set_anew`].
    pub(crate) anew: Option<Box<Anew>>,
    pub(crate) quiet: bool,
    /// On a candidate: who answered what.
    pub(crate) votes: Vec<(NodeId, Grant)>,
    /// Those were asked, too, by whose word alone a group begins anew.
    pub(crate) asked_all: bool,
    pub(crate) lead: Leading,
    shown: (Role, Term, Option<NodeId>),
    outputs: VecDeque<Output>,
    pub(crate) foreign_epochs: u64,
}

impl Node {
    /// Starts from what the disk gave back. Drain [`Node::poll`] afterwards: a single voter leads at once.
    pub fn new(options: Options, restore: Restore, now: Now) -> Result<Node, RestoreError> {
        check_restore(&options, &restore)?;
        let Restore { hard, membership, snapshot, entries, commit, applied, voteless, votes_lost } = restore;
        let mut log = Log::new(snapshot.0, snapshot.1, membership);
        for entry in entries {
            log.append(entry.term, entry.len, entry.kind);
        }
        let mut timing = Timing::new(options.seed, now);
        let nonce = timing.nonce();
        let amnesia = (voteless || votes_lost).then_some(Amnesia { nonce, votes: votes_lost });
        timing.await_leader(&options, now);
        let (membership_index, membership) = log.membership_at(log.last());
        let (membership, epoch) = (membership.clone(), options.epoch);
        let mut node = Node {
            options,
            hard: HardState { epoch, ..hard },
            role: Role::Follower,
            leader: None,
            gate: Gate::new(log.last()),
            log,
            timing,
            membership,
            membership_index,
            removed_at: 0,
            question: 0,
            commit,
            commit_given: applied,
            applied,
            verified: commit,
            amnesia,
            fenced: false,
            anew: None,
            quiet: false,
            votes: Vec::new(),
            asked_all: false,
            lead: Leading::default(),
            shown: (Role::Follower, hard.term, None),
            outputs: VecDeque::new(),
            foreign_epochs: 0,
        };
        if hard.epoch != epoch {
            node.gate.mark_hard();
        }
        node.lead_alone(now);
        Ok(node)
    }

    /// Time has come: call at [`Node::next_wakeup`] or later. Earlier calls do nothing.
    pub fn wakeup(&mut self, now: Now) {
        if self.next_wakeup().is_none_or(|due| now < due) {
            return;
        }
        match self.role {
            Role::Leader => self.on_leader_time(now),
            _ => self.on_election_time(now),
        }
    }

    /// When to call [`Node::wakeup`]. `None`: only a call of another kind can change anything.
    pub fn next_wakeup(&self) -> Option<Now> {
        match self.role {
            _ if self.quiet => None,
            Role::Leader => self.leader_wakeup(),
            _ if self.may_begin_anew() => Some(self.timing.election),
            _ if !self.membership.contains(self.options.id) && !self.is_leaving_voter() => None,
            _ if self.is_alone() && !self.may_campaign() => None,
            _ => Some(self.timing.election),
        }
    }

    /// Everything that [`Output::Persist`] asked for, up to this ticket, is durable.
    pub fn persisted(&mut self, _now: Now, ticket: Ticket) {
        self.gate.complete(ticket);
        while let Some(message) = self.gate.release() {
            self.outputs.push_back(Output::Send(message));
        }
        if self.role == Role::Leader {
            self.advance_commit();
        }
    }

    /// Everything committed up to `index` is applied.
    pub fn applied(&mut self, index: Index) {
        self.applied = self.applied.max(index.min(self.commit_given));
    }

    /// The caller's log no longer has the entries up to and with `to`. At most what was applied is forgotten here.
    pub fn compact(&mut self, to: Index) {
        self.log.compact(to.min(self.applied));
    }

    /// The caller has received and durably stored the state as of `index`. When the answer is [`Installed::Restarted`],
    /// the log starts anew after `index` and everything up to it counts as applied; otherwise nothing has changed but,
    /// perhaps, the commit. Ask [`Node::wants_snapshot`] first to spare the work.
    pub fn install_snapshot(&mut self, now: Now, index: Index, term: Term, membership: Membership) -> Installed {
        let bad = membership.check().is_err() || index > NUMBER_MAX || term > NUMBER_MAX;
        if bad || self.role == Role::Leader || index <= self.commit {
            return Installed::Stale;
        }
        if term > self.hard.term {
            self.become_follower(now, term, None);
        }
        let installed = if self.wants_snapshot(index, term) {
            self.log = Log::new(index, term, membership);
            self.gate.restart(index);
            (self.applied, self.commit_given) = (index, index);
            Installed::Restarted
        } else {
            Installed::Matched
        };
        self.commit = index;
        self.verified = self.verified.max(index);
        self.adopt_membership();
        if let Some(leader) = self.leader {
            self.send_durable(leader, Body::SnapshotReply { index, amnesia: self.amnesia });
        }
        installed
    }

    /// Whether the state as of `index` would replace this replica's log.
    pub fn wants_snapshot(&self, index: Index, term: Term) -> bool {
        index > self.commit && self.log.term_at(index) != Some(term)
    }

    /// Follows a link's measured round trip. Values of [`Options`]; refused ones change nothing and give false.
    pub fn set_timing(&mut self, now: Now, election_timeout_us: u64, heartbeat_us: u64) -> bool {
        if check_timing(election_timeout_us, heartbeat_us).is_err() {
            return false;
        }
        (self.options.election_timeout_us, self.options.heartbeat_us) = (election_timeout_us, heartbeat_us);
        self.timing.heartbeat = self.timing.heartbeat.min(now.saturating_add(heartbeat_us));
        self.timing.await_leader(&self.options, self.timing.contact.max(now));
        true
    }

    /// Changes when entries count as committed. What is committed stays so.
    pub fn set_commit_rule(&mut self, rule: CommitRule) -> Result<(), SpanError> {
        quorum::check_rule(&self.membership, &rule)?;
        self.options.commit_rule = rule;
        if self.role == Role::Leader {
            self.advance_commit();
        }
        Ok(())
    }

    /// Gives out the next thing to do. What a turn produced is put together when the queue runs dry, so drain it once
    /// per turn, until `None`.
    pub fn poll(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.gather();
        }
        self.outputs.pop_front()
    }

    fn gather(&mut self) {
        if self.role == Role::Leader {
            self.replicate();
        }
        if let Some(persist) = self.gate.take(&self.log, self.hard) {
            // Before the appends of the same entries: the caller sees the write first and can start both together.
            self.outputs.push_front(persist);
        }
        let ready = self.commit.min(self.gate.durable_index());
        if ready > self.commit_given {
            self.commit_given = ready;
            self.outputs.push_back(Output::Commit(ready));
        }
    }

    /// The term at an index; known from the compacted end to the last entry.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.term_at(index)
    }

    /// The membership in force at an index of the log: what belongs into a snapshot's head. `None` below the log.
    pub fn membership_at(&self, index: Index) -> Option<&Membership> {
        (index >= self.log.base()).then(|| self.log.membership_at(index).1)
    }

    pub fn id(&self) -> NodeId {
        self.options.id
    }

    pub fn role(&self) -> Role {
        self.role
    }

    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    pub fn term(&self) -> Term {
        self.hard.term
    }

    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    pub fn commit(&self) -> Index {
        self.commit
    }

    pub fn applied_index(&self) -> Index {
        self.applied
    }

    pub fn last_index(&self) -> Index {
        self.log.last()
    }

    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// A copy of everything.
    pub fn status(&self) -> Status {
        let waits = self.role != Role::Leader && self.next_wakeup().is_some();
        Status {
            id: self.options.id,
            epoch: self.options.epoch,
            role: self.role,
            term: self.hard.term,
            vote: self.hard.vote,
            leader: self.leader,
            first: self.log.first(),
            last: self.log.last(),
            commit: self.commit,
            applied: self.applied,
            durable: self.gate.durable_index(),
            membership: self.membership.clone(),
            membership_index: self.membership_index,
            removed: self.is_removed(),
            voteless: self.amnesia.is_some(),
            fenced: self.fenced,
            quiet: self.quiet,
            transferring: self.lead.transfer.map(|transfer| transfer.to),
            uncommitted_bytes: self.lead.uncommitted,
            election_deadline: waits.then_some(self.timing.election),
            foreign_epochs: self.foreign_epochs,
            peers: self.peer_status(),
        }
    }

    fn peer_status(&self) -> Vec<PeerStatus> {
        let status = |(id, peer): &(NodeId, crate::progress::Progress)| PeerStatus {
            id: *id,
            matched: peer.matched,
            next: peer.next,
            state: peer.state(),
            last_contact: peer.last_contact,
            inflight_messages: peer.inflight.messages(),
            inflight_bytes: peer.inflight.bytes(),
            counts: peer.counts(),
            forgot: peer.forgot.is_some(),
        };
        self.lead.peers.iter().map(status).collect()
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.commit == self.log.last() && self.applied == self.commit && self.gate.is_idle() && self.outputs.is_empty()
    }

    pub(crate) fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Tells the caller when role, term or leader changed.
    pub(crate) fn show_role(&mut self) {
        let (role, term, leader) = (self.role, self.hard.term, self.leader);
        if std::mem::replace(&mut self.shown, (role, term, leader)) != (role, term, leader) {
            self.output(Output::Role { role, term, leader });
        }
    }

    fn message(&self, to: NodeId, term: Term, body: Body) -> Message {
        Message { from: self.options.id, to, epoch: self.options.epoch, term, body }
    }

    /// Sends once the term and vote are durable.
    pub(crate) fn send(&mut self, to: NodeId, body: Body) {
        self.send_of(self.hard.term, to, body);
    }

    /// The same for another term than the own: pre-votes speak of the next.
    pub(crate) fn send_of(&mut self, term: Term, to: NodeId, body: Body) {
        if let Some(message) = self.gate.pass(self.message(to, term, body)) {
            self.output(Output::Send(message));
        }
    }

    /// Sends once everything in the log is durable too: the message vouches for it.
    pub(crate) fn send_durable(&mut self, to: NodeId, body: Body) {
        if let Some(message) = self.gate.pass_durable(self.message(to, self.hard.term, body)) {
            self.output(Output::Send(message));
        }
    }
}

fn check_timing(election_timeout_us: u64, heartbeat_us: u64) -> Result<(), RestoreError> {
    if heartbeat_us == 0 || election_timeout_us / 2 < heartbeat_us { Err(RestoreError::Timing) } else { Ok(()) }
}

fn check_restore(options: &Options, restore: &Restore) -> Result<(), RestoreError> {
    check_timing(options.election_timeout_us, options.heartbeat_us)?;
    if restore.hard.epoch > options.epoch {
        return Err(RestoreError::EpochBehind { stored: restore.hard.epoch });
    }
    let (base, base_term) = restore.snapshot;
    if base > NUMBER_MAX || base_term > NUMBER_MAX || restore.hard.term > NUMBER_MAX {
        return Err(RestoreError::Number);
    }
    let mut membership = &restore.membership;
    let mut before = (base, base_term);
    for entry in &restore.entries {
        if entry.index != before.0 + 1 || entry.term < before.1 {
            return Err(RestoreError::EntryOrder { index: entry.index });
        }
        if entry.index > NUMBER_MAX || entry.term > NUMBER_MAX {
            return Err(RestoreError::Number);
        }
        if let crate::EntryKind::Membership(change) = &entry.kind {
            change.check().map_err(RestoreError::Membership)?;
            membership = change;
        }
        before = (entry.index, entry.term);
    }
    if restore.commit < base || restore.commit > before.0 {
        return Err(RestoreError::Commit);
    }
    if restore.applied < base || restore.applied > restore.commit {
        return Err(RestoreError::Applied);
    }
    if !restore.membership.is_empty() {
        restore.membership.check().map_err(RestoreError::Membership)?;
    }
    quorum::check_rule(membership, &options.commit_rule).map_err(RestoreError::Span)
}

#[cfg(test)]
mod tests;
