//! Reads that see every acknowledged write: the leader notes its commit, proves by one round of heartbeats that it still
//! leads, and lets the read go (Raft thesis, section 6.4).
//!
//! At most one round is under way. Reads that come meanwhile share the next one, so their number costs no messages.
//! Rounds are numbers that rise within a term; regular heartbeats carry the newest, so a lost one is made up for.

use std::collections::VecDeque;

use crate::{Index, Node, Now, Output, ReadError, Role};

/// Reads that may wait for a round: several turns of a busy core. Each costs 24 bytes.
const READS_MAX: usize = 4096;

#[derive(Clone, Debug, Default)]
pub(crate) struct Reads {
    round: u64,
    waiting: VecDeque<Read>,
}

#[derive(Clone, Copy, Debug)]
struct Read {
    /// The first round that was sent after the read was asked for.
    round: u64,
    context: u64,
    index: Index,
}

impl Reads {
    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Node {
    /// Asks from which applied index on a read sees everything acknowledged before now. [`Output::ReadReady`] answers
    /// under the same context; it never comes when leadership is lost first.
    pub fn read_index(&mut self, now: Now, context: u64) -> Result<(), ReadError> {
        if self.role != Role::Leader {
            return Err(ReadError::NotLeader { leader: self.leader });
        }
        if self.lead.reads.waiting.len() >= READS_MAX {
            return Err(ReadError::Full);
        }
        self.stir(now);
        // All that was ever committed lies before the first entry of this term or is known to be committed.
        let index = self.commit.max(self.lead.term_start);
        if self.quorum_of(|_| false) {
            self.output(Output::ReadReady { context, index });
            return Ok(());
        }
        let idle = self.lead.reads.is_empty();
        let round = if idle { self.start_round() } else { self.lead.reads.round + 1 };
        self.lead.reads.waiting.push_back(Read { round, context, index });
        Ok(())
    }

    /// Sends the next question to everyone.
    pub(crate) fn start_round(&mut self) -> u64 {
        self.lead.reads.round += 1;
        self.broadcast_heartbeat();
        self.lead.reads.round
    }

    /// Lets go what a quorum has answered for, and asks for those who came too late for it.
    pub(crate) fn confirm_reads(&mut self) {
        while let Some(read) = self.lead.reads.waiting.front().copied() {
            if !self.quorum_of(|peer| peer.round >= read.round) {
                break;
            }
            self.lead.reads.waiting.pop_front();
            self.output(Output::ReadReady { context: read.context, index: read.index });
        }
        if self.lead.reads.waiting.front().is_some_and(|read| read.round > self.lead.reads.round) {
            self.start_round();
        }
    }
}
