//! Records beside the entries that cannot be read any more: written anew at once, from what the replica knows.
//!
//! Found while it runs, nothing is lost: its state is in memory, and the next record of the kind, which may be far off, is
//! brought forward. Found at a start, it is: a replica whose vote or notes are damaged has forgotten, and that is noted
//! before anything else is written. Otherwise the new records would look whole to the start after, and hide the loss of a
//! vote that was given.

use bytes::Bytes;
use raft::HardState;
use storage::RecordKind;

use super::body::Note;
use super::core::Core;
use super::log::{DESCRIPTOR, FORGOTTEN, MARKER, MEMBERS};
use super::replica::{Phase, Replica, encoded};

impl Replica {
    /// A record of the running replica was found to be damaged.
    pub(super) fn renew(&mut self, core: &mut Core, kind: RecordKind) {
        let (id, epoch) = (self.id, self.epoch);
        let (Phase::Running, Some(node), None) = (&self.phase, &self.node, &self.mem) else { return };
        let status = node.status();
        // Without room for it the next one of the kind does it.
        let _ = match kind {
            RecordKind::HARD_STATE => {
                core.disk.append_hard(id, &HardState { epoch: status.epoch, term: status.term, vote: status.vote })
            }
            DESCRIPTOR => return self.renew_descriptor(core),
            MARKER if self.marked.is_none() => core.disk.append_marker(id, epoch, None),
            FORGOTTEN => core.disk.append_forgotten(id, epoch, (!self.forgotten).then_some(status.last)),
            MEMBERS => {
                (self.noted, self.unsettled) = (None, true);
                return self.note_members(core);
            }
            RecordKind::ENTRY | RecordKind::TRUNCATE | RecordKind::TOMBSTONE | RecordKind::FLOOR | MARKER => return,
            // The checkpoint, or a part of it.
            _ => {
                self.retain.renew = true;
                return self.ask_for_checkpoint(core);
            }
        };
    }

    /// Some of what the log says beside the entries could not be read at the start.
    pub(super) fn renew_notes(&mut self, core: &mut Core) {
        self.renew_descriptor(core);
        if self.marked.is_none() {
            let _ = core.disk.append_marker(self.id, self.epoch, None);
        }
    }

    fn renew_descriptor(&mut self, core: &mut Core) {
        let Some(node) = &self.node else { return };
        let members = node.membership_at(node.status().first.saturating_sub(1)).unwrap_or(node.membership());
        let note = Note::new(self.kind, encoded(members).into(), Bytes::new());
        let _ = core.disk.append_descriptor(self.id, self.epoch, &note);
    }
}
