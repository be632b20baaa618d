//! One operation of the client protocol, in either direction, as slices of the bytes it came in.
//!
//! All [`Bytes`] share the buffer that was read: cloning is cheap, but whoever keeps a small slice for long (a
//! subject in a subscription table, say) keeps the whole read buffer alive and should copy it instead.

use bytes::Bytes;

/// What one side told the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Client: who I am and what I can do. The JSON is not looked at here.
    Connect { json: Bytes },
    /// Client: PUB, or HPUB when `headers` is there. `headers` is the raw block with its closing blank line.
    Pub { subject: Bytes, reply: Option<Bytes>, headers: Option<Bytes>, payload: Bytes },
    /// Client: I want what matches `subject`, alone or as one of the `queue` group.
    Sub { subject: Bytes, queue: Option<Bytes>, sid: Bytes },
    /// Client: no more of this, at once (`None`) or after `max` messages since the SUB. A `max` that is not a number
    /// means at once, as it does to nats-server.
    Unsub { sid: Bytes, max: Option<u64> },
    /// Either side: are you there?
    Ping,
    /// Either side: I am.
    Pong,
    /// Server: who I am. Sent by a client it has no effect.
    Info { json: Bytes },
    /// Server, in verbose mode: done.
    Ok,
    /// Server: this went wrong. `text` as sent, quotes included.
    Err { text: Bytes },
    /// Server: MSG, or HMSG when `headers` is there.
    Msg { subject: Bytes, sid: Bytes, reply: Option<Bytes>, headers: Option<Bytes>, payload: Bytes },
}
