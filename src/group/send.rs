//! Messages to peers: raft says which entries an append carries, this file adds their bodies.
//!
//! Bodies that are still in memory go at once. Older ones are read back from the log; until they arrive, the append and
//! those behind it to the same peer wait in order. What can wait is bounded by raft's window per peer. An append whose
//! entries are gone meanwhile is dropped, and raft is told that the peer was not reached.

use bytes::Bytes;
use raft::{Entry, Message};

use super::core::{Core, Reader};
use super::log::{Fetch, ReadTicket, Stored};
use super::replica::{ReadOutcome, Replica, server};
use crate::cluster::wire::NodeMsg;
use crate::ids::{Now, ServerId};
use crate::limits::GROUP_READ_BYTES_MAX;

/// An append that waits for bodies.
pub(super) struct Parked {
    message: Message,
    /// Those found so far.
    bodies: Vec<Bytes>,
    /// The read that will bring the next ones; only the first of a peer has one.
    ticket: Option<ReadTicket>,
}

enum Gather {
    Whole,
    Wait(ReadTicket),
    Lost,
}

impl Replica {
    pub(super) fn send(&mut self, core: &mut Core, now: Now, message: Message) {
        let to = server(message.to);
        if core.place(to, self.id).is_none() {
            return;
        }
        let Some(entries) = carried(&message) else {
            core.send(to, self.id, NodeMsg::Raft { group: self.id, message, bodies: Vec::new() });
            return;
        };
        let mut parked = Parked { bodies: Vec::with_capacity(entries.len()), message, ticket: None };
        if let Some(queue) = self.parked.get_mut(&to) {
            queue.push_back(parked);
            return;
        }
        match self.gather(core, now, &mut parked) {
            Gather::Whole => self.post(core, to, parked),
            Gather::Wait(ticket) => {
                parked.ticket = Some(ticket);
                core.reads.insert(ticket, (self.id, Reader::Append(to)));
                self.parked.entry(to).or_default().push_back(parked);
            }
            Gather::Lost => self.unreachable(core, now, to),
        }
    }

    /// The bodies that the first parked append of a peer waited for.
    pub(super) fn unpark(&mut self, core: &mut Core, now: Now, to: ServerId, ticket: ReadTicket, result: ReadOutcome) {
        let Some(mut queue) = self.parked.remove(&to) else { return };
        let Some(first) = queue.front_mut().filter(|parked| parked.ticket == Some(ticket)) else {
            self.parked.insert(to, queue);
            return;
        };
        first.ticket = None;
        if !result.is_ok_and(|list| first.take(&list)) {
            return self.unreachable(core, now, to);
        }
        while let Some(mut parked) = queue.pop_front() {
            match self.gather(core, now, &mut parked) {
                Gather::Whole => self.post(core, to, parked),
                Gather::Wait(ticket) => {
                    parked.ticket = Some(ticket);
                    core.reads.insert(ticket, (self.id, Reader::Append(to)));
                    queue.push_front(parked);
                    self.parked.insert(to, queue);
                    return;
                }
                Gather::Lost => return self.unreachable(core, now, to),
            }
        }
    }

    /// What was parked for the peer is void; raft looks again for the place where the logs agree.
    pub(super) fn unreachable(&mut self, core: &mut Core, now: Now, to: ServerId) {
        self.parked.remove(&to);
        if let Some(node) = self.running() {
            node.report_unreachable(now.us, raft::NodeId(to.0));
            core.dirty.insert(self.id);
        }
    }

    fn post(&mut self, core: &mut Core, to: ServerId, parked: Parked) {
        let Parked { message, bodies, .. } = parked;
        core.send(to, self.id, NodeMsg::Raft { group: self.id, message, bodies });
    }

    fn gather(&mut self, core: &mut Core, now: Now, parked: &mut Parked) -> Gather {
        while let Some((from, to)) = parked.missing() {
            match self.fetch(core, from, to, GROUP_READ_BYTES_MAX) {
                Fetch::Ready(list) if parked.take(&list) => {}
                Fetch::Pending(ticket) => return Gather::Wait(ticket),
                Fetch::Damaged(index) => {
                    self.damaged(core, now, index);
                    return Gather::Lost;
                }
                Fetch::Ready(_) | Fetch::Missing | Fetch::Busy => return Gather::Lost,
            }
        }
        Gather::Whole
    }
}

impl Parked {
    fn entries(&self) -> &[Entry] {
        carried(&self.message).unwrap_or_default()
    }

    /// First and last entry without a body.
    fn missing(&self) -> Option<(u64, u64)> {
        let rest = self.entries().get(self.bodies.len()..)?;
        Some((rest.first()?.index, rest.last()?.index))
    }

    /// Adds bodies; false if they are not the next entries of the message.
    fn take(&mut self, list: &[Stored]) -> bool {
        for stored in list {
            let Some(entry) = self.entries().get(self.bodies.len()) else { break };
            if (entry.index, entry.term) != (stored.index, stored.term) {
                return false;
            }
            self.bodies.push(stored.body.clone());
        }
        !list.is_empty()
    }
}

/// The entries of an append that has some.
fn carried(message: &Message) -> Option<&[Entry]> {
    match &message.body {
        raft::Body::Append { entries, .. } if !entries.is_empty() => Some(entries),
        _ => None,
    }
}
