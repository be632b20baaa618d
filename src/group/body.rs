//! The bytes around what a machine proposed, the same on every replica, and the small records of a group's own.
//!
//! ```text
//! entry      0        1        2       3       4                    12
//!            version  machine  raft    0       commit stamp (u64)   payload ...
//!            1        M S C    0 data, 1 noop, 2 membership, 3 relief
//!
//! checkpoint version, machine, parts, bank, membership bytes (u32), membership, state ... (empty if it is in parts)
//! descriptor version, machine, 0, 0, membership bytes (u32), membership
//! ```
//!
//! The **commit stamp** is the leader's commit index when it proposed the entry. It lets a replica that starts anew
//! apply what it surely may without waiting for a leader. Everything is little-endian; decoding never panics.

use bytes::{BufMut, Bytes, BytesMut};

use super::spec::GroupKind;
use super::states::STATE_PARTS_MAX;

/// Bytes in front of an entry's payload.
pub(super) const HEADER_BYTES: usize = 12;
/// Bytes in front of a note's membership.
const NOTE_BYTES: usize = 8;
const VERSION: u8 = 1;

/// What raft means by an entry, as its first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Data,
    Noop,
    Membership,
    /// Data by which space comes back: it may use what the log holds back from the rest.
    Relief,
}

impl Tag {
    /// The machine's own.
    pub fn is_data(self) -> bool {
        matches!(self, Tag::Data | Tag::Relief)
    }
}

/// An entry's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub machine: GroupKind,
    pub tag: Tag,
    pub stamp: u64,
}

impl Header {
    pub fn encode(self, payload: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER_BYTES + payload.len());
        out.put_u8(VERSION);
        out.put_u8(machine_byte(self.machine));
        out.put_u8(match self.tag {
            Tag::Data => 0,
            Tag::Noop => 1,
            Tag::Membership => 2,
            Tag::Relief => 3,
        });
        out.put_u8(0);
        out.put_u64_le(self.stamp);
        out.put_slice(payload);
        out.freeze()
    }

    pub fn decode(body: &[u8]) -> Option<Header> {
        let [version, machine, tag, _] = *body.first_chunk::<4>()?;
        let stamp = u64::from_le_bytes(*body.get(4..)?.first_chunk::<8>()?);
        let tag = match tag {
            0 => Tag::Data,
            1 => Tag::Noop,
            2 => Tag::Membership,
            3 => Tag::Relief,
            _ => return None,
        };
        (version == VERSION).then_some(Header { machine: machine_of(machine)?, tag, stamp })
    }
}

/// What the machine proposed. `body` has a valid header.
pub(super) fn payload(body: &Bytes) -> Bytes {
    body.slice(HEADER_BYTES.min(body.len())..)
}

/// Where a large state is: so many notes of one of two banks (see [`super::states`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// 0: the state stands in the checkpoint itself.
    pub count: u8,
    /// 0 or 1
    pub bank: u8,
}

/// A checkpoint or descriptor: membership as raft encodes it, and the machine's state (empty in descriptors).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub machine: GroupKind,
    pub parts: Parts,
    pub membership: Bytes,
    pub state: Bytes,
}

impl Note {
    /// One that stands alone.
    pub fn new(machine: GroupKind, membership: Bytes, state: Bytes) -> Note {
        Note { machine, parts: Parts::default(), membership, state }
    }

    /// Length of its encoding.
    pub fn bytes(&self) -> usize {
        NOTE_BYTES + self.membership.len() + self.state.len()
    }

    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.bytes());
        out.put_u8(VERSION);
        out.put_u8(machine_byte(self.machine));
        out.put_u8(self.parts.count);
        out.put_u8(self.parts.bank);
        out.put_u32_le(self.membership.len() as u32);
        out.put_slice(&self.membership);
        out.put_slice(&self.state);
        out.freeze()
    }

    pub fn decode(body: &Bytes) -> Option<Note> {
        let [version, machine, count, bank] = *body.first_chunk::<4>()?;
        let len = u32::from_le_bytes(*body.get(4..)?.first_chunk::<4>()?) as usize;
        let sound = usize::from(count) <= STATE_PARTS_MAX && bank <= 1;
        if version != VERSION || !sound || body.len() - NOTE_BYTES < len {
            return None;
        }
        let (membership, state) = (body.slice(NOTE_BYTES..NOTE_BYTES + len), body.slice(NOTE_BYTES + len..));
        Some(Note { machine: machine_of(machine)?, parts: Parts { count, bank }, membership, state })
    }
}

fn machine_byte(kind: GroupKind) -> u8 {
    match kind {
        GroupKind::Meta => b'M',
        GroupKind::Stream => b'S',
        GroupKind::Consumer => b'C',
    }
}

fn machine_of(byte: u8) -> Option<GroupKind> {
    match byte {
        b'M' => Some(GroupKind::Meta),
        b'S' => Some(GroupKind::Stream),
        b'C' => Some(GroupKind::Consumer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip_and_keep_the_payload() {
        for tag in [Tag::Data, Tag::Noop, Tag::Membership, Tag::Relief] {
            for machine in [GroupKind::Meta, GroupKind::Stream, GroupKind::Consumer] {
                let header = Header { machine, tag, stamp: u64::MAX - 7 };
                let body = header.encode(b"payload");
                assert_eq!(Header::decode(&body), Some(header));
                assert_eq!(payload(&body).as_ref(), b"payload");
            }
        }
    }

    #[test]
    fn notes_round_trip() {
        let mut note = Note::new(GroupKind::Stream, Bytes::from_static(b"who"), Bytes::from_static(b"what"));
        assert_eq!(Note::decode(&note.encode()).as_ref(), Some(&note));
        note.parts = Parts { count: STATE_PARTS_MAX as u8, bank: 1 };
        assert_eq!(Note::decode(&note.encode()).as_ref(), Some(&note));
        note.parts.count += 1;
        assert_eq!(Note::decode(&note.encode()), None);
    }

    #[test]
    fn cut_or_changed_bytes_are_refused_or_read_but_never_panic() {
        let note = Note::new(GroupKind::Meta, Bytes::from_static(b"xyz"), Bytes::new());
        let bodies = [note.encode(), Header { machine: GroupKind::Meta, tag: Tag::Data, stamp: 1 }.encode(b"p")];
        for body in bodies {
            for cut in 0..8 {
                assert_eq!(Header::decode(&body[..cut]), None);
                assert_eq!(Note::decode(&body.slice(..cut.min(7))), None);
            }
            for at in 0..body.len() {
                for value in [0u8, 1, 0x7f, 0xff] {
                    let mut bad = body.to_vec();
                    bad[at] = value;
                    let bad = Bytes::from(bad);
                    let _ = Header::decode(&bad);
                    if let Some(note) = Note::decode(&bad) {
                        assert_eq!(8 + note.membership.len() + note.state.len(), bad.len());
                    }
                    assert!(payload(&bad).len() <= bad.len());
                }
            }
        }
    }
}
