//! Messages on their way from the log to whoever asked: a machine names a sequence, the log gives its entry's body
//! now or later, and answers leave in the order in which they were decided.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{JetStream, JsOutput};
use crate::api::message;
use crate::api::verdict::{Read, Render};
use crate::cluster::view::View;
use crate::group::{ReadBody, ReadGone, ReadToken};
use crate::ids::{GroupId, Now, Seq};
use crate::reply::Reply;
use crate::stream::Answer;

/// One thing that leaves a consumer.
#[derive(Debug)]
pub enum Parcel {
    /// Nothing to wait for.
    Ready(Reply),
    /// A delivery whose message is still to be read (`token` is `None` while the log was too busy to begin).
    Delivery { reply: Reply, stream: GroupId, seq: Seq, headers_only: bool, token: Option<ReadToken> },
    /// The message is gone; the consumer sees that by itself.
    Lost,
}

/// Who waits for a read.
#[derive(Debug, Clone)]
enum Waiter {
    Consumer(GroupId),
    Answer { group: GroupId, seq: Seq, how: Render, answer: Answer, rest: Read },
}

#[derive(Debug, Default)]
pub struct Fetches {
    waiting: BTreeMap<ReadToken, Waiter>,
}

/// What became of an attempt to read a message.
enum Fetched {
    Body(Bytes),
    Later(ReadToken),
    Busy,
    Gone,
}

impl JetStream {
    /// Sends what stands first in a consumer's queue until one must wait.
    pub(super) fn pump_parcels(&mut self, now: Now, group: GroupId) {
        loop {
            let Some(hosted) = self.consumers.get_mut(&group) else { return };
            let Some(parcel) = hosted.parcels.pop_front() else { return };
            match parcel {
                Parcel::Ready(reply) => self.out.push_back(JsOutput::Reply(reply)),
                Parcel::Lost => {}
                Parcel::Delivery { reply, stream, seq, headers_only, token: None } => {
                    let parcel = |token| Parcel::Delivery { reply: reply.clone(), stream, seq, headers_only, token };
                    match self.fetch(now, stream, seq) {
                        Fetched::Body(body) => self.deliver(reply, stream, seq, headers_only, &body),
                        Fetched::Gone => {}
                        Fetched::Later(token) => {
                            self.fetches.waiting.insert(token, Waiter::Consumer(group));
                            self.put_back(group, parcel(Some(token)));
                            return;
                        }
                        Fetched::Busy => {
                            self.put_back(group, parcel(None));
                            return;
                        }
                    }
                }
                waiting @ Parcel::Delivery { token: Some(_), .. } => {
                    self.put_back(group, waiting);
                    return;
                }
            }
        }
    }

    /// Reads messages for an API answer and sends them in order.
    pub(super) fn read_for(&mut self, now: Now, view: &View, group: GroupId, read: Read, answer: Answer) {
        let mut read = read;
        while let Some((seq, how)) = read.messages.pop_front() {
            match self.fetch(now, group, seq) {
                Fetched::Body(body) => self.answer_message(now, view, group, seq, how, &answer, Some(&body)),
                Fetched::Later(token) => {
                    let waiter = Waiter::Answer { group, seq, how, answer, rest: read };
                    self.fetches.waiting.insert(token, waiter);
                    return;
                }
                Fetched::Busy | Fetched::Gone => self.answer_message(now, view, group, seq, how, &answer, None),
            }
        }
        if let Some(headers) = read.end {
            self.answer(&answer, Some(headers), Bytes::new());
        }
    }

    /// A read that was under way has ended.
    pub(super) fn on_read(&mut self, now: Now, view: &View, token: ReadToken, result: Result<Bytes, ReadGone>) {
        match self.fetches.waiting.remove(&token) {
            Some(Waiter::Consumer(group)) => {
                let Some(hosted) = self.consumers.get_mut(&group) else { return };
                if let Some(Parcel::Delivery { token: Some(waits), .. }) = hosted.parcels.front()
                    && *waits == token
                    && let Some(Parcel::Delivery { reply, stream, seq, headers_only, .. }) = hosted.parcels.pop_front()
                    && let Ok(body) = result
                {
                    self.deliver(reply, stream, seq, headers_only, &body);
                }
                self.pump_parcels(now, group);
            }
            Some(Waiter::Answer { group, seq, how, answer, rest }) => {
                self.answer_message(now, view, group, seq, how, &answer, result.ok().as_ref());
                self.read_for(now, view, group, rest, answer);
            }
            None => {}
        }
    }

    fn put_back(&mut self, group: GroupId, parcel: Parcel) {
        if let Some(hosted) = self.consumers.get_mut(&group) {
            hosted.parcels.push_front(parcel);
        }
    }

    fn fetch(&mut self, now: Now, group: GroupId, seq: Seq) -> Fetched {
        let Some(at) = self.streams.get(&group).and_then(|hosted| hosted.stream.locate(seq)) else {
            return Fetched::Gone;
        };
        match self.groups.read(now, group, at.index) {
            ReadBody::Ready(body) => Fetched::Body(body),
            ReadBody::Pending(token) => Fetched::Later(token),
            ReadBody::Gone => Fetched::Gone,
            ReadBody::Busy => Fetched::Busy,
        }
    }

    fn deliver(&mut self, mut reply: Reply, group: GroupId, seq: Seq, headers_only: bool, body: &Bytes) {
        let Some(hosted) = self.streams.get(&group) else { return };
        // Gone again between the read and now: a purge or a limit; the consumer sees it by itself.
        let Some(at) = hosted.stream.locate(seq) else { return };
        let Ok(stored) = crate::stream::message(body, at.slot) else { return };
        reply.shown = Some(stored.subject);
        if headers_only {
            let size = stored.payload.len().to_string();
            let block = stored.headers.unwrap_or(Bytes::from_static(b"NATS/1.0\r\n\r\n"));
            reply.headers = Some(net::client::headers::set(&block, b"Nats-Msg-Size", size.as_bytes()));
            reply.payload = Bytes::new();
        } else {
            reply.headers = stored.headers;
            reply.payload = stored.payload;
        }
        self.out.push_back(JsOutput::Reply(reply));
    }

    #[allow(clippy::too_many_arguments)]
    fn answer_message(
        &mut self,
        now: Now,
        view: &View,
        group: GroupId,
        seq: Seq,
        how: Render,
        answer: &Answer,
        body: Option<&Bytes>,
    ) {
        let rendered = self.streams.get(&group).and_then(|hosted| {
            let at = hosted.stream.locate(seq)?;
            let stored = crate::stream::message(body?, at.slot).ok()?;
            let facts = self.facts(now, view, answer.account)?;
            Some(message::render(&facts, &hosted.stream, seq, how, &stored))
        });
        let (headers, payload) = rendered.unwrap_or_else(|| message::lost(how));
        self.answer(answer, headers, payload);
    }

    pub(super) fn answer(&mut self, answer: &Answer, headers: Option<Bytes>, payload: Bytes) {
        let Answer { to, account, subject } = answer.clone();
        self.tallies.answered(account, &subject, &payload);
        let reply = Reply { to, account, subject, reply: None, headers, payload, shown: None, bounce: None };
        self.out.push_back(JsOutput::Reply(reply));
    }
}
