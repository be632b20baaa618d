//! What a service sends back to the core where its request came from: publish acks, API answers, deliveries to pulls.
//!
//! It goes straight to that core, which publishes it as if it had been published there. So an answer never races the
//! interest of the inbox that it is meant for.

use bytes::Bytes;

use crate::ids::{AccountId, GroupId, Place};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The core that the request entered by.
    pub to: Place,
    pub account: AccountId,
    /// Subject to publish on: the request's reply subject.
    pub subject: Bytes,
    /// What subscribers are shown instead: a delivery to a pull keeps the stored message's own subject.
    pub shown: Option<Bytes>,
    /// Reply subject of the published message (a delivery's ack subject).
    pub reply: Option<Bytes>,
    /// A whole header block, `NATS/1.0\r\n…\r\n\r\n`.
    pub headers: Option<Bytes>,
    pub payload: Bytes,
    /// Told when nobody listens on `subject` any more: the group and a token that means something to it.
    pub bounce: Option<(GroupId, u64)>,
}
