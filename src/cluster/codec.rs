//! The bytes of [`NodeMsg`]s between servers: several, one after the other, are the body of a frame.
//!
//! ```text
//!  0        4      5
//! ┌────────┬──────┬──────────┐┌────────┬──── ...       numbers little-endian · a text is length u32 + bytes
//! │ length │ kind │ fields … ││ length │               optional: 0, or 1 and the value · list: count u32 + items
//! └────────┴──────┴──────────┘└────────┴────           length counts kind and fields
//! ```
//!
//! The fields of each kind stand in the order in which [`encode`] writes them; docs/WIRE.md lists them. Accounts go by
//! name, since their numbers differ from server to server. Payloads come out as slices of the frame.
//!
//! Decoding is for foreign bytes: it never panics and allocates no more than the bytes at hand can stand for. A
//! message of an unknown kind or account is passed over, so that servers of two versions or configurations can talk.

mod bytes;

use ::bytes::{Bytes, BytesMut};

use self::bytes::{Reader, Writer};
use super::forming::FormStep;
use super::wire::{Asset, CatchupEntry, CatchupStep, Heartbeat, Lead, NodeMsg, Request, RequestKind, Routed};
use crate::account::Accounts;
use crate::ids::{GroupId, ServerId};
use crate::reply::Reply;

/// The kind of frame whose body is a row of messages.
pub const FRAME_KIND: u8 = net::peer::frame::KIND_MESSAGES_FIRST;

/// Length and kind in front of the fields.
const HEAD_BYTES: usize = 5;

/// Numbers of the kinds; a number is never used for something else.
mod kind {
    pub const INTEREST: u8 = 1;
    pub const MESSAGE: u8 = 2;
    pub const REPLY: u8 = 3;
    pub const BOUNCE: u8 = 4;
    pub const PROBE: u8 = 5;
    pub const LEAD: u8 = 6;
    pub const UNLEAD: u8 = 7;
    pub const REQUEST: u8 = 8;
    pub const RAFT: u8 = 9;
    pub const HEARTBEAT: u8 = 10;
    pub const HEARTBEAT_LIST: u8 = 11;
    pub const CATCHUP: u8 = 12;
    pub const GOSSIP: u8 = 13;
    pub const FORM: u8 = 14;
    pub const GOODBYE: u8 = 15;
    pub const SPACE: u8 = 16;
}

/// Why a frame is no row of messages: the link is broken or the other side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodecError {
    /// It ends in the middle.
    Short,
    /// A message has more bytes than its fields.
    Long,
    /// A flag, tag or count that cannot be.
    Bad(&'static str),
    Raft(raft::wire::WireError),
}

impl std::fmt::Display for CodecError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CodecError::Short => f.write_str("message ends too early"),
            CodecError::Long => f.write_str("message is longer than its fields"),
            CodecError::Bad(what) => write!(f, "message has a bad {what}"),
            CodecError::Raft(error) => write!(f, "raft message: {error:?}"),
        }
    }
}

impl std::error::Error for CodecError {}

/// What came out of a frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    Message(NodeMsg),
    /// Passed over: of an account that this server does not have.
    UnknownAccount(String),
    /// Passed over: with a subject that would break the line of whoever is shown it, or that nobody can listen to.
    UnfitSubject,
    /// Passed over: of a kind that this version does not know.
    UnknownKind(u8),
}

/// Appends one message.
pub fn encode(msg: &NodeMsg, accounts: &Accounts, out: &mut BytesMut) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    let kind = encode_fields(msg, &mut Writer { out, accounts });
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4] = kind;
}

/// Takes the next message off the front of a frame's body; `None` at its end.
pub fn decode(frame: &mut Bytes, accounts: &Accounts) -> Result<Option<Decoded>, CodecError> {
    if frame.is_empty() {
        return Ok(None);
    }
    let length =
        frame.get(..4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes).ok_or(CodecError::Short)?;
    let end = (length as usize).checked_add(4).filter(|end| *end <= frame.len()).ok_or(CodecError::Short)?;
    let mut reader = Reader { rest: frame.slice(4..end), accounts, unknown: None, unfit: false };
    let _ = frame.split_to(end);
    let kind = reader.u8()?;
    let Some(msg) = decode_fields(kind, &mut reader)? else { return Ok(Some(Decoded::UnknownKind(kind))) };
    if let Some(name) = reader.unknown.take() {
        return Ok(Some(Decoded::UnknownAccount(name)));
    }
    if reader.unfit {
        return Ok(Some(Decoded::UnfitSubject));
    }
    if reader.rest.is_empty() { Ok(Some(Decoded::Message(msg))) } else { Err(CodecError::Long) }
}

fn encode_fields(msg: &NodeMsg, to: &mut Writer<'_>) -> u8 {
    match msg {
        NodeMsg::Interest { account, subject, queue, add } => {
            to.account(*account).text(subject).option(queue).flag(*add);
            kind::INTEREST
        }
        NodeMsg::Message(routed) => {
            to.account(routed.account).text(&routed.subject).option(&routed.inbox);
            to.option(&routed.reply).option(&routed.headers);
            to.flag(routed.plain).texts(&routed.queues).text(&routed.payload);
            kind::MESSAGE
        }
        NodeMsg::Reply(reply) => {
            encode_reply(reply, to);
            kind::REPLY
        }
        NodeMsg::Bounce { group, token } => {
            to.u64(group.0).u64(*token);
            kind::BOUNCE
        }
        NodeMsg::Probe { account, subject, group, token } => {
            to.account(*account).text(subject).u64(group.0).u64(*token);
            kind::PROBE
        }
        NodeMsg::Lead(lead) => {
            to.u64(lead.group.0).u64(lead.server.0).u64(lead.term);
            encode_asset(&lead.asset, to);
            kind::LEAD
        }
        NodeMsg::Unlead { group, term } => {
            to.u64(group.0).u64(*term);
            kind::UNLEAD
        }
        NodeMsg::Request(request) => {
            encode_request(request, to);
            kind::REQUEST
        }
        NodeMsg::Raft { group, message, bodies } => {
            let mut encoded = Vec::with_capacity(64);
            raft::wire::encode(message, &mut encoded);
            to.u64(group.0).text(&encoded).texts(bodies);
            kind::RAFT
        }
        NodeMsg::Heartbeat(beat) => {
            let Heartbeat { boot, groups, digest, list_wanted, sent_us, echo_us } = *beat;
            to.u64(boot).u32(groups).u64(digest).flag(list_wanted).u64(sent_us).u64(echo_us);
            kind::HEARTBEAT
        }
        NodeMsg::Space { full } => {
            to.flag(*full);
            kind::SPACE
        }
        NodeMsg::HeartbeatList { leads } => {
            to.u32(leads.len() as u32);
            for (group, term) in leads {
                to.u64(group.0).u64(*term);
            }
            kind::HEARTBEAT_LIST
        }
        NodeMsg::Catchup { group, epoch, step } => {
            to.u64(group.0).u32(*epoch);
            encode_step(step, to);
            kind::CATCHUP
        }
        NodeMsg::Gossip { routes, client_urls } => {
            to.strings(routes).strings(client_urls);
            kind::GOSSIP
        }
        NodeMsg::Form(step) => {
            encode_form(step, to);
            kind::FORM
        }
        NodeMsg::Goodbye { lame_duck } => {
            to.flag(*lame_duck);
            kind::GOODBYE
        }
    }
}

fn encode_reply(reply: &Reply, to: &mut Writer<'_>) {
    to.place(reply.to).account(reply.account).text(&reply.subject).option(&reply.shown);
    to.option(&reply.reply).option(&reply.headers);
    to.flag(reply.bounce.is_some());
    if let Some((group, token)) = reply.bounce {
        to.u64(group.0).u64(token);
    }
    to.text(&reply.payload);
}

fn encode_asset(asset: &Asset, to: &mut Writer<'_>) {
    match asset {
        Asset::Meta => drop(to.u8(0)),
        Asset::Stream { account, name, subjects } => drop(to.u8(1).account(*account).text(name).texts(subjects)),
        Asset::Consumer { account, stream, name } => drop(to.u8(2).account(*account).text(stream).text(name)),
    }
}

fn encode_request(request: &Request, to: &mut Writer<'_>) {
    let kind = match request.kind {
        RequestKind::Ingest => 0,
        RequestKind::Api => 1,
        RequestKind::Read => 2,
        RequestKind::Ack => 3,
    };
    to.u64(request.group.0).u8(request.hops).place(request.origin).account(request.account).u8(kind);
    to.text(&request.subject).option(&request.reply).option(&request.headers).text(&request.payload);
}

fn encode_step(step: &CatchupStep, to: &mut Writer<'_>) {
    match step {
        CatchupStep::Begin { session, index, term, membership, checkpoint } => {
            to.u8(0).u64(*session).u64(*index).u64(*term).text(membership).text(checkpoint);
        }
        CatchupStep::Entries { session, part, entries } => {
            to.u8(1).u64(*session).u32(*part);
            encode_entries(entries, to);
        }
        CatchupStep::End { session, parts } => drop(to.u8(2).u64(*session).u32(*parts)),
        CatchupStep::Ack { session, part } => drop(to.u8(3).u64(*session).u32(*part)),
        CatchupStep::Abort { session, why } => drop(to.u8(4).u64(*session).text(why.as_bytes())),
        CatchupStep::Want { first, last } => drop(to.u8(5).u64(*first).u64(*last)),
        CatchupStep::Have { entries } => {
            to.u8(6);
            encode_entries(entries, to);
        }
    }
}

fn encode_entries(entries: &[CatchupEntry], to: &mut Writer<'_>) {
    to.u32(entries.len() as u32);
    for entry in entries {
        to.u64(entry.term).u64(entry.index).text(&entry.body);
    }
}

fn encode_form(step: &FormStep, to: &mut Writer<'_>) {
    match step {
        FormStep::Ask => drop(to.u8(0)),
        FormStep::Promise => drop(to.u8(1)),
        FormStep::Release => drop(to.u8(2)),
        FormStep::Start { cluster_id, voters } => {
            to.u8(3).text(cluster_id.as_bytes()).u32(voters.len() as u32);
            for voter in voters {
                to.u64(voter.0);
            }
        }
    }
}

/// `None` for a kind that is not known.
fn decode_fields(kind: u8, from: &mut Reader<'_>) -> Result<Option<NodeMsg>, CodecError> {
    let msg = match kind {
        kind::INTEREST => NodeMsg::Interest {
            account: from.account()?,
            subject: from.text()?,
            queue: from.option()?,
            add: from.flag()?,
        },
        kind::MESSAGE => NodeMsg::Message(decode_routed(from)?),
        kind::REPLY => NodeMsg::Reply(decode_reply(from)?),
        kind::BOUNCE => NodeMsg::Bounce { group: from.group()?, token: from.u64()? },
        kind::PROBE => {
            NodeMsg::Probe { account: from.account()?, subject: from.text()?, group: from.group()?, token: from.u64()? }
        }
        kind::LEAD => {
            let (group, server, term) = (from.group()?, ServerId(from.u64()?), from.u64()?);
            NodeMsg::Lead(Lead { group, server, term, asset: decode_asset(from)? })
        }
        kind::UNLEAD => NodeMsg::Unlead { group: from.group()?, term: from.u64()? },
        kind::REQUEST => NodeMsg::Request(decode_request(from)?),
        kind::RAFT => decode_raft(from)?,
        kind::HEARTBEAT => NodeMsg::Heartbeat(Heartbeat {
            boot: from.u64()?,
            groups: from.u32()?,
            digest: from.u64()?,
            list_wanted: from.flag()?,
            sent_us: from.u64()?,
            echo_us: from.u64()?,
        }),
        kind::SPACE => NodeMsg::Space { full: from.flag()? },
        kind::HEARTBEAT_LIST => {
            NodeMsg::HeartbeatList { leads: from.list(16, |from| Ok((from.group()?, from.u64()?)))? }
        }
        kind::CATCHUP => NodeMsg::Catchup { group: from.group()?, epoch: from.u32()?, step: decode_step(from)? },
        kind::GOSSIP => NodeMsg::Gossip { routes: from.strings()?, client_urls: from.strings()? },
        kind::FORM => NodeMsg::Form(decode_form(from)?),
        kind::GOODBYE => NodeMsg::Goodbye { lame_duck: from.flag()? },
        _ => return Ok(None),
    };
    Ok(Some(msg))
}

fn decode_routed(from: &mut Reader<'_>) -> Result<Routed, CodecError> {
    let (account, subject, inbox) = (from.account()?, from.subject()?, from.option()?);
    let (reply, headers) = (from.option_subject()?, from.option()?);
    let (plain, queues) = (from.flag()?, from.texts()?);
    Ok(Routed { account, subject, inbox, reply, headers, payload: from.text()?, plain, queues })
}

fn decode_reply(from: &mut Reader<'_>) -> Result<Reply, CodecError> {
    let (to, account, subject) = (from.place()?, from.account()?, from.subject()?);
    let (shown, reply, headers) = (from.option_subject()?, from.option_subject()?, from.option()?);
    let bounce = if from.flag()? { Some((from.group()?, from.u64()?)) } else { None };
    Ok(Reply { to, account, subject, shown, reply, headers, payload: from.text()?, bounce })
}

fn decode_asset(from: &mut Reader<'_>) -> Result<Asset, CodecError> {
    match from.u8()? {
        0 => Ok(Asset::Meta),
        1 => Ok(Asset::Stream { account: from.account()?, name: from.text()?, subjects: from.filters()? }),
        2 => Ok(Asset::Consumer { account: from.account()?, stream: from.text()?, name: from.text()? }),
        _ => Err(CodecError::Bad("asset")),
    }
}

fn decode_request(from: &mut Reader<'_>) -> Result<Request, CodecError> {
    let (group, hops, origin, account) = (from.group()?, from.u8()?, from.place()?, from.account()?);
    let kind = match from.u8()? {
        0 => RequestKind::Ingest,
        1 => RequestKind::Api,
        2 => RequestKind::Read,
        3 => RequestKind::Ack,
        _ => return Err(CodecError::Bad("request")),
    };
    let (subject, reply) = (from.subject()?, from.option_subject()?);
    let (headers, payload) = (from.option()?, from.text()?);
    Ok(Request { group, hops, origin, account, kind, subject, reply, headers, payload })
}

fn decode_raft(from: &mut Reader<'_>) -> Result<NodeMsg, CodecError> {
    let group = from.group()?;
    let message = raft::wire::decode(&from.text()?).map_err(CodecError::Raft)?;
    let bodies = from.texts()?;
    let entries = match &message.body {
        raft::Body::Append { entries, .. } => entries.len(),
        _ => 0,
    };
    if bodies.len() != entries {
        return Err(CodecError::Bad("number of bodies"));
    }
    Ok(NodeMsg::Raft { group, message, bodies })
}

fn decode_step(from: &mut Reader<'_>) -> Result<CatchupStep, CodecError> {
    Ok(match from.u8()? {
        0 => {
            let (session, index, term) = (from.u64()?, from.u64()?, from.u64()?);
            CatchupStep::Begin { session, index, term, membership: from.text()?, checkpoint: from.text()? }
        }
        1 => CatchupStep::Entries { session: from.u64()?, part: from.u32()?, entries: decode_entries(from)? },
        2 => CatchupStep::End { session: from.u64()?, parts: from.u32()? },
        3 => CatchupStep::Ack { session: from.u64()?, part: from.u32()? },
        4 => CatchupStep::Abort { session: from.u64()?, why: from.string()? },
        5 => CatchupStep::Want { first: from.u64()?, last: from.u64()? },
        6 => CatchupStep::Have { entries: decode_entries(from)? },
        _ => return Err(CodecError::Bad("catch-up step")),
    })
}

fn decode_entries(from: &mut Reader<'_>) -> Result<Vec<CatchupEntry>, CodecError> {
    from.list(20, |from| Ok(CatchupEntry { term: from.u64()?, index: from.u64()?, body: from.text()? }))
}

fn decode_form(from: &mut Reader<'_>) -> Result<FormStep, CodecError> {
    Ok(match from.u8()? {
        0 => FormStep::Ask,
        1 => FormStep::Promise,
        2 => FormStep::Release,
        3 => FormStep::Start { cluster_id: from.string()?, voters: from.list(8, |from| Ok(ServerId(from.u64()?)))? },
        _ => return Err(CodecError::Bad("forming step")),
    })
}

impl Reader<'_> {
    fn group(&mut self) -> Result<GroupId, CodecError> {
        Ok(GroupId(self.u64()?))
    }
}

#[cfg(test)]
mod tests;
