//! The write-ordering law, kept in one place: what must still be written, what is being written, and which messages wait
//! for it.
//!
//! Changes gather until the caller polls; then one `Persist` takes them all and gets a ticket. Tickets complete in order,
//! so "durable up to" is a number, and a message needs nothing but the ticket that it waits for.
//!
//! ```text
//!   durable ──── issued ──── issued + 1
//!      │  in flight  │  gathering (dirty)
//!      ▼             ▼
//!   vote replies and everything else of a term wait for the ticket that carries the term or vote (`hard_ticket`);
//!   append replies wait for the newest ticket at the time when they were made
//! ```

use std::collections::VecDeque;

use crate::log::Log;
use crate::{HardState, Index, Message, Output, Ticket};

/// Messages that may wait for the disk. Each answers something that is sent again, so the oldest may go when a disk
/// stalls; 1024 is more than a full window per peer.
const WITHHELD_MAX: usize = 1024;

/// Invariants: `durable ≤ issued`; flights ascend in ticket; `durable_index` and every flight's `last` lie within the log.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    issued: u64,
    durable: u64,
    /// The ticket that makes the current term and vote durable.
    hard_ticket: u64,
    dirty: bool,
    hard_dirty: bool,
    truncate_from: Option<Index>,
    /// The first index that no ticket carries yet.
    next: Index,
    flights: VecDeque<Flight>,
    durable_index: Index,
    withheld: VecDeque<(u64, Message)>,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    ticket: u64,
    /// The log's last index once this ticket is durable, lowered when a later cut reaches below it.
    last: Index,
}

impl Gate {
    /// Everything up to `last` is durable.
    pub(crate) fn new(last: Index) -> Gate {
        Gate {
            issued: 0,
            durable: 0,
            hard_ticket: 0,
            dirty: false,
            hard_dirty: false,
            truncate_from: None,
            next: last + 1,
            flights: VecDeque::new(),
            durable_index: last,
            withheld: VecDeque::new(),
        }
    }

    /// Highest index that is durable here.
    pub(crate) fn durable_index(&self) -> Index {
        self.durable_index
    }

    /// Nothing to write, nothing being written, nothing waiting.
    pub(crate) fn is_idle(&self) -> bool {
        !self.dirty && self.durable == self.issued && self.withheld.is_empty()
    }

    /// The term or the vote changed.
    pub(crate) fn mark_hard(&mut self) {
        (self.dirty, self.hard_dirty) = (true, true);
        self.hard_ticket = self.issued + 1;
    }

    /// The log grew.
    pub(crate) fn mark_append(&mut self) {
        self.dirty = true;
    }

    /// The log was cut: `from` and everything after it is void.
    pub(crate) fn truncate(&mut self, from: Index) {
        self.dirty = true;
        if from < self.next {
            self.truncate_from = Some(self.truncate_from.map_or(from, |at| at.min(from)));
            self.next = from;
        }
        self.lower(from - 1);
    }

    /// The log starts anew after `base`, durably: the caller stored it. Nothing gathered for the old one remains, and no
    /// waiting message may vouch for it any more; a term or vote stays.
    pub(crate) fn restart(&mut self, base: Index) {
        self.lower(0);
        self.withheld.clear();
        self.truncate_from = None;
        self.next = base + 1;
        self.durable_index = base;
    }

    fn lower(&mut self, last: Index) {
        self.durable_index = self.durable_index.min(last);
        for flight in &mut self.flights {
            flight.last = flight.last.min(last);
        }
    }

    /// What there is to write since the last time, as one `Persist`.
    pub(crate) fn take(&mut self, log: &Log, hard: HardState) -> Option<Output> {
        if !std::mem::take(&mut self.dirty) {
            return None;
        }
        self.issued += 1;
        let append = log.entries(self.next, u64::MAX, usize::MAX);
        self.next = log.last() + 1;
        self.flights.push_back(Flight { ticket: self.issued, last: log.last() });
        let hard = std::mem::take(&mut self.hard_dirty).then_some(hard);
        Some(Output::Persist { ticket: Ticket(self.issued), hard, truncate_from: self.truncate_from.take(), append })
    }

    /// Everything up to the ticket is durable.
    pub(crate) fn complete(&mut self, ticket: Ticket) {
        assert!(ticket.0 <= self.issued, "a ticket that was never given");
        self.durable = self.durable.max(ticket.0);
        while let Some(flight) = self.flights.front().filter(|flight| flight.ticket <= ticket.0) {
            self.durable_index = self.durable_index.max(flight.last);
            self.flights.pop_front();
        }
    }

    /// Gives the message back when its term and vote are durable, keeps it until then otherwise.
    pub(crate) fn pass(&mut self, message: Message) -> Option<Message> {
        self.pass_after(self.hard_ticket, message)
    }

    /// The same for a message that also vouches for everything in the log.
    pub(crate) fn pass_durable(&mut self, message: Message) -> Option<Message> {
        self.pass_after(self.issued + u64::from(self.dirty), message)
    }

    fn pass_after(&mut self, ticket: u64, message: Message) -> Option<Message> {
        if ticket <= self.durable {
            return Some(message);
        }
        if self.withheld.len() == WITHHELD_MAX {
            self.withheld.pop_front();
        }
        self.withheld.push_back((ticket, message));
        None
    }

    /// The next message whose wait is over, in the order in which they were made.
    pub(crate) fn release(&mut self) -> Option<Message> {
        let at = self.withheld.iter().position(|(ticket, _)| *ticket <= self.durable)?;
        self.withheld.remove(at).map(|(_, message)| message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Body, EntryKind, Membership, NodeId};

    fn message(term: u64) -> Message {
        Message { from: NodeId(1), to: NodeId(2), epoch: 0, term, body: Body::TimeoutNow }
    }

    fn log(entries: u64) -> Log {
        let mut log = Log::new(0, 0, Membership::default());
        for _ in 0..entries {
            log.append(1, 1, EntryKind::Data);
        }
        log
    }

    fn taken(gate: &mut Gate, log: &Log) -> (u64, bool, Option<Index>, usize) {
        match gate.take(log, HardState::default()) {
            Some(Output::Persist { ticket, hard, truncate_from, append }) => {
                (ticket.0, hard.is_some(), truncate_from, append.len())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_of_a_term_waits_for_that_term() {
        let (mut gate, log) = (Gate::new(0), log(0));
        assert_eq!(gate.pass(message(1)), Some(message(1)));
        gate.mark_hard();
        assert_eq!(gate.pass(message(2)), None);
        assert_eq!(taken(&mut gate, &log), (1, true, None, 0));
        assert_eq!(gate.release(), None);
        gate.complete(Ticket(1));
        assert_eq!(gate.release(), Some(message(2)));
        assert!(gate.is_idle());
    }

    #[test]
    fn a_vouching_message_waits_for_entries_and_others_do_not() {
        let (mut gate, log) = (Gate::new(0), log(3));
        gate.mark_append();
        assert_eq!(gate.pass_durable(message(1)), None);
        assert_eq!(gate.pass(message(1)), Some(message(1)));
        assert_eq!(taken(&mut gate, &log), (1, false, None, 3));
        assert_eq!(gate.durable_index(), 0);
        gate.complete(Ticket(1));
        assert_eq!(gate.durable_index(), 3);
        assert_eq!(gate.release(), Some(message(1)));
    }

    #[test]
    fn a_cut_takes_back_what_is_in_flight() {
        let (mut gate, mut log) = (Gate::new(0), log(5));
        gate.mark_append();
        taken(&mut gate, &log);
        log.truncate(3);
        gate.truncate(3);
        log.append(2, 1, EntryKind::Data);
        gate.mark_append();
        assert_eq!(taken(&mut gate, &log), (2, false, Some(3), 1));
        gate.complete(Ticket(1));
        assert_eq!(gate.durable_index(), 2);
        gate.complete(Ticket(2));
        assert_eq!(gate.durable_index(), 3);
    }

    #[test]
    fn a_cut_of_what_was_never_given_out_is_not_asked_for() {
        let (mut gate, mut log) = (Gate::new(2), log(5));
        gate.mark_append();
        log.truncate(4);
        gate.truncate(4);
        assert_eq!(taken(&mut gate, &log), (1, false, None, 1));
    }

    #[test]
    fn a_full_gate_drops_the_oldest() {
        let mut gate = Gate::new(0);
        gate.mark_hard();
        for term in 0..=WITHHELD_MAX as u64 {
            assert_eq!(gate.pass(message(term)), None);
        }
        taken(&mut gate, &log(0));
        gate.complete(Ticket(1));
        assert_eq!(gate.release(), Some(message(1)));
    }
}
