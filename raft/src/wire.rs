//! Bytes of a message, without payloads: they follow in the caller's frame, in the order of the entries.
//!
//! All numbers are little endian. Entries carry no index: they follow `prev_index` without a gap.
//!
//! ```text
//! message   | from 8 | to 8 | epoch 4 | term 8 | kind 1 | body ... |
//! append    | prev_index 8 | prev_term 8 | commit 8 | count 4 | entry x count |
//! entry     | kind 1 | term 8 | len 4 | membership (kind 2 only): `len` bytes |
//! optional  | 0 |  or  | 1 | value |
//! ```
//!
//! Decoding is for foreign bytes: it never panics and allocates no more than the bytes at hand can stand for. What the
//! numbers mean is checked by [`crate::Node::step`].

use crate::leader::APPEND_ENTRIES_MAX;
use crate::{Amnesia, Body, Entry, EntryKind, Index, Membership, Message, NodeId};

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// They end too early.
    Short,
    /// They go on after the message.
    Long,
    /// A kind or flag that does not exist.
    Unknown(u8),
    /// More entries than a message may carry, or an index that overflows.
    Bound,
    /// An entry's members break their rules.
    Membership,
}

/// The least bytes of an entry: what a count is checked against before anything is allocated.
const ENTRY_MIN: usize = 13;

/// Appends the message's bytes.
pub fn encode(message: &Message, out: &mut Vec<u8>) {
    put64(out, message.from.0);
    put64(out, message.to.0);
    out.extend(message.epoch.to_le_bytes());
    put64(out, message.term);
    encode_body(&message.body, out);
}

/// Reads exactly one message.
pub fn decode(bytes: &[u8]) -> Result<Message, WireError> {
    match decode_prefix(bytes)? {
        (message, []) => Ok(message),
        _ => Err(WireError::Long),
    }
}

/// Reads one message and gives back what follows it.
pub fn decode_prefix(bytes: &[u8]) -> Result<(Message, &[u8]), WireError> {
    let mut input = Input(bytes);
    let (from, to) = (NodeId(input.u64()?), NodeId(input.u64()?));
    let (epoch, term) = (input.u32()?, input.u64()?);
    let body = decode_body(&mut input)?;
    Ok((Message { from, to, epoch, term, body }, input.0))
}

fn encode_body(body: &Body, out: &mut Vec<u8>) {
    match body {
        Body::PreVote { last_index, last_term, stamp } => numbers(out, 1, [*last_index, *last_term, *stamp]),
        Body::PreVoteReply { granted, amnesia } => {
            out.extend([2, u8::from(*granted)]);
            put_amnesia(out, *amnesia);
        }
        Body::Vote { last_index, last_term, transfer, stamp } => {
            numbers(out, 3, [*last_index, *last_term, *stamp]);
            out.push(u8::from(*transfer));
        }
        Body::VoteReply { granted, amnesia } => {
            out.extend([4, u8::from(*granted)]);
            put_amnesia(out, *amnesia);
        }
        Body::Append { prev_index, prev_term, commit, entries } => {
            numbers(out, 5, [*prev_index, *prev_term, *commit]);
            encode_entries(entries, out);
        }
        Body::AppendReply { matched, commit, amnesia } => {
            numbers(out, 6, [*matched, *commit]);
            put_amnesia(out, *amnesia);
        }
        Body::AppendReject { rejected, hint_index, hint_term, amnesia } => {
            numbers(out, 7, [*rejected, *hint_index, *hint_term]);
            put_amnesia(out, *amnesia);
        }
        Body::Heartbeat { commit, round, healed } => {
            numbers(out, 8, [*commit, *round]);
            put_option(out, *healed);
        }
        Body::HeartbeatReply { commit, round, amnesia } => {
            numbers(out, 9, [*commit, *round]);
            put_amnesia(out, *amnesia);
        }
        Body::Snapshot { index, term, membership } => {
            numbers(out, 10, [*index, *term, membership.encoded_len() as u64]);
            membership.encode(out);
        }
        Body::SnapshotReply { index, amnesia } => {
            numbers(out, 11, [*index]);
            put_amnesia(out, *amnesia);
        }
        Body::TimeoutNow => out.push(12),
        Body::Seek { question } => numbers(out, 13, [*question]),
        Body::Removed { index, question } => numbers(out, 14, [*index, *question]),
    }
}

fn decode_body(input: &mut Input) -> Result<Body, WireError> {
    Ok(match input.u8()? {
        1 => Body::PreVote { last_index: input.u64()?, last_term: input.u64()?, stamp: input.u64()? },
        2 => Body::PreVoteReply { granted: input.flag()?, amnesia: input.amnesia()? },
        3 => {
            let (last_index, last_term, stamp) = (input.u64()?, input.u64()?, input.u64()?);
            Body::Vote { last_index, last_term, transfer: input.flag()?, stamp }
        }
        4 => Body::VoteReply { granted: input.flag()?, amnesia: input.amnesia()? },
        5 => {
            let (prev_index, prev_term, commit) = (input.u64()?, input.u64()?, input.u64()?);
            Body::Append { prev_index, prev_term, commit, entries: decode_entries(prev_index, input)? }
        }
        6 => Body::AppendReply { matched: input.u64()?, commit: input.u64()?, amnesia: input.amnesia()? },
        7 => {
            let (rejected, hint_index, hint_term) = (input.u64()?, input.u64()?, input.u64()?);
            Body::AppendReject { rejected, hint_index, hint_term, amnesia: input.amnesia()? }
        }
        8 => Body::Heartbeat { commit: input.u64()?, round: input.u64()?, healed: input.option()? },
        9 => Body::HeartbeatReply { commit: input.u64()?, round: input.u64()?, amnesia: input.amnesia()? },
        10 => {
            let (index, term, len) = (input.u64()?, input.u64()?, input.u64()?);
            Body::Snapshot { index, term, membership: Box::new(input.membership(len)?) }
        }
        11 => Body::SnapshotReply { index: input.u64()?, amnesia: input.amnesia()? },
        12 => Body::TimeoutNow,
        13 => Body::Seek { question: input.u64()? },
        14 => Body::Removed { index: input.u64()?, question: input.u64()? },
        kind => return Err(WireError::Unknown(kind)),
    })
}

fn encode_entries(entries: &[Entry], out: &mut Vec<u8>) {
    debug_assert!(entries.len() <= APPEND_ENTRIES_MAX);
    out.extend((entries.len() as u32).to_le_bytes());
    for entry in entries {
        out.push(match entry.kind {
            EntryKind::Data => 0,
            EntryKind::Noop => 1,
            EntryKind::Membership(_) => 2,
        });
        put64(out, entry.term);
        out.extend(entry.len.to_le_bytes());
        if let EntryKind::Membership(membership) = &entry.kind {
            membership.encode(out);
        }
    }
}

fn decode_entries(prev_index: Index, input: &mut Input) -> Result<Vec<Entry>, WireError> {
    let count = input.u32()? as usize;
    if count > APPEND_ENTRIES_MAX {
        return Err(WireError::Bound);
    }
    if count * ENTRY_MIN > input.0.len() {
        return Err(WireError::Short);
    }
    let mut entries = Vec::with_capacity(count);
    for at in 1..=count as u64 {
        let index = prev_index.checked_add(at).ok_or(WireError::Bound)?;
        let (kind, term, len) = (input.u8()?, input.u64()?, input.u32()?);
        let kind = match kind {
            0 => EntryKind::Data,
            1 => EntryKind::Noop,
            2 => EntryKind::Membership(Box::new(input.membership(u64::from(len))?)),
            kind => return Err(WireError::Unknown(kind)),
        };
        entries.push(Entry { term, index, len, kind });
    }
    Ok(entries)
}

fn put64(out: &mut Vec<u8>, number: u64) {
    out.extend(number.to_le_bytes());
}

fn numbers<const N: usize>(out: &mut Vec<u8>, kind: u8, numbers: [u64; N]) {
    out.push(kind);
    numbers.into_iter().for_each(|number| put64(out, number));
}

fn put_option(out: &mut Vec<u8>, number: Option<u64>) {
    out.push(u8::from(number.is_some()));
    number.into_iter().for_each(|number| put64(out, number));
}

fn put_amnesia(out: &mut Vec<u8>, amnesia: Option<Amnesia>) {
    put_option(out, amnesia.map(|amnesia| amnesia.nonce));
    out.extend(amnesia.map(|amnesia| u8::from(amnesia.votes)));
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(WireError::Short)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(WireError::Short)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn flag(&mut self) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(WireError::Unknown(other)),
        }
    }

    fn option(&mut self) -> Result<Option<u64>, WireError> {
        if self.flag()? { self.u64().map(Some) } else { Ok(None) }
    }

    fn amnesia(&mut self) -> Result<Option<Amnesia>, WireError> {
        match self.option()? {
            Some(nonce) => Ok(Some(Amnesia { nonce, votes: self.flag()? })),
            None => Ok(None),
        }
    }

    fn membership(&mut self, len: u64) -> Result<Membership, WireError> {
        let len = usize::try_from(len).map_err(|_| WireError::Bound)?;
        Membership::decode(self.take(len)?).map_err(|_| WireError::Membership)
    }
}

#[cfg(test)]
mod tests;
