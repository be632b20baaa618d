//! Bringing a replica up to date that the raft log can no longer serve: the leader streams the machine's state and the
//! entries that are still alive, the replica stores them beside what it has, and only a whole state replaces its own.
//!
//! ```text
//!   leader                                             replica
//!   Begin (index, term, members, start of the state) ──► marker on disk: "entries above my own last are not mine yet"
//!                                              ◄── Ack 0   (or Ack n: I still have n parts of this session)
//!   Entries 1, 2, 3 ... (state, then entries)      ──► log
//!                                              ◄── Ack n   once durable
//!   End (parts)                                    ──► checkpoint ──► machine ──► raft
//!                                              ◄── Ack ∞
//! ```
//!
//! A window bounds what is under way. Lost, doubled or late steps do no harm: parts are taken in order only, and a sender
//! that hears nothing asks with `Begin` again and goes on after the last acknowledged part, over broken links too. A
//! replica that restarted begins anew, but does not store again what it has.
//!
//! In a part, an entry with index 0 carries the next piece of the state.

pub(super) mod receive;
pub(super) mod send;

use super::core::Core;
use super::output::LogLevel;
use super::replica::Replica;
use crate::cluster::wire::CatchupStep;
use crate::ids::{Now, ServerId};

/// Acknowledges the whole catch-up.
pub(super) const ALL: u32 = u32::MAX;

impl Replica {
    /// One step of a peer, of this or the other side's part.
    pub(super) fn on_catchup(&mut self, core: &mut Core, now: Now, from: ServerId, step: CatchupStep) {
        match step {
            CatchupStep::Begin { session, index, term, membership, checkpoint } => {
                self.on_begin(core, from, receive::Begin { session, index, term, membership, head: checkpoint });
            }
            CatchupStep::Entries { session, part, entries } => self.on_part(core, from, session, part, entries),
            CatchupStep::End { session, parts } => self.on_end(core, now, from, session, parts),
            CatchupStep::Ack { session, part } => self.on_ack(core, now, from, session, part),
            CatchupStep::Abort { session, why } => {
                core.log_of(self.id, LogLevel::Warn, format!("{from} gives the catch-up up: {why}"));
                self.on_abort(core, now, from, session);
            }
            CatchupStep::Want { first, last } => self.on_want(core, from, first, last),
            CatchupStep::Have { entries } => self.on_have(core, now, entries),
        }
        core.dirty.insert(self.id);
    }
}
