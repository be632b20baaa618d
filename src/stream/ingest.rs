//! The checks of a publish, and of requests that change the stream, on the leader: against what is applied and what is
//! in flight, because everything in flight comes before this one.
//!
//! The order of the checks is the peer's: in a replicated stream a repeated message id is answered as a duplicate before
//! its expectations are looked at, in one with a single replica after its expected sequences were. Expected sequences of a subject are
//! exact with messages in flight; only when a delete or purge that could concern the subject is in flight, the answer
//! is 10164, and the publisher tries again.

use bytes::Bytes;
use net::client::headers;
use net::subject;

use super::asks::{Asks, REQUEST_INFO};
use super::config::{Discard, StorageKind, StreamConfig};
use super::index::Size;
use super::lead::{InFlight, Message, Queued, Removal};
use super::pending::{Grown, Work};
use super::record::{Draft, Entry, HEADERS_BYTES_MAX, Purge, Rollup, SUBJECT_BYTES_MAX};
use super::{Answer, Filters, Publish, Stream, answer, siphash};
use crate::api::errors::{
    ACCOUNT_RESOURCES_EXCEEDED, ApiError, BAD_REQUEST, INSUFFICIENT_RESOURCES, SEQUENCE_NOT_FOUND,
    STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID, STREAM_HEADER_EXCEEDS_MAXIMUM, STREAM_MESSAGE_EXCEEDS_MAXIMUM,
    STREAM_MSG_DELETE_FAILED, STREAM_NOT_MATCH, STREAM_PURGE_FAILED, STREAM_ROLLUP_FAILED, STREAM_SEALED,
    STREAM_STORE_FAILED, STREAM_TOO_MANY_REQUESTS, STREAM_WRONG_LAST_MSG_ID, STREAM_WRONG_LAST_SEQUENCE,
    STREAM_WRONG_LAST_SEQUENCE_CONSTANT,
};
use crate::ids::{Now, Seq};
use crate::limits::STREAM_INFLIGHT_BYTES_MAX;
use crate::reply::Reply;

/// What became of a publish that is not stored now.
enum Refusal {
    Error(ApiError),
    /// Stored before, under this sequence.
    Duplicate(Seq),
    /// The same id is in flight: its outcome is this one's, too.
    Wait(u128),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Refusal::Error(error)
    }
}

impl Stream {
    /// Takes a message that a client published, on the leader. `Some` is an answer to send now: a refusal or the note of
    /// a duplicate. `None` means that it is queued and will be answered when it is applied, or that nobody wants to know.
    pub fn ingest(&mut self, now: Now, publish: Publish) -> Option<Reply> {
        self.ingest_within(now, publish, None)
    }

    /// The same where the account's limit leaves so many bytes.
    pub fn ingest_within(&mut self, now: Now, publish: Publish, room: Option<u64>) -> Option<Reply> {
        self.lead.as_ref()?;
        if !self.config.subjects.iter().any(|one| subject::matches(one.as_bytes(), &publish.subject)) {
            return None;
        }
        let reply = publish.reply.clone().filter(|reply| !reply.is_empty() && !self.config.no_ack);
        let waiter = reply.map(|reply| (publish.origin, reply));
        let payload = match self.accept(now, publish, room, &waiter) {
            Ok(()) => return None,
            Err(Refusal::Error(error)) => self.acks.refused(&error),
            Err(Refusal::Duplicate(seq)) => self.acks.duplicate(seq),
            Err(Refusal::Wait(id)) => {
                let waiting = self.lead.as_mut()?.ids.get_mut(&id)?;
                waiting.waiting.extend(waiter);
                return None;
            }
        };
        let (to, subject) = waiter?;
        Some(Reply {
            to,
            account: self.account,
            subject,
            reply: None,
            headers: None,
            payload,
            shown: None,
            bounce: None,
        })
    }

    fn accept(
        &mut self,
        now: Now,
        publish: Publish,
        room: Option<u64>,
        waiter: &Option<(crate::ids::Place, Bytes)>,
    ) -> Result<(), Refusal> {
        if self.config.sealed {
            return Err(STREAM_SEALED.into());
        }
        let mut block = publish.headers.unwrap_or_default();
        if Asks::read(&block).request_info {
            block = headers::remove(&block, REQUEST_INFO).unwrap_or_default();
        }
        self.check_size(&publish.subject, &block, &publish.payload)?;
        let asks = Asks::read(&block);
        let (id, rollup) = self.check_asks(now, &publish.subject, &asks)?;
        if self.space.full {
            return Err(INSUFFICIENT_RESOURCES.into());
        }
        if self.inflight_bytes() >= STREAM_INFLIGHT_BYTES_MAX {
            return Err(STREAM_TOO_MANY_REQUESTS.into());
        }
        let raw = publish.subject.len() + block.len() + publish.payload.len();
        let size = Size::new(raw as u32, !block.is_empty());
        if room.is_some_and(|room| self.message_bytes(size) > room) {
            return Err(ACCOUNT_RESOURCES_EXCEEDED.into());
        }
        let grown = self.check_room(&publish.subject, size, rollup)?;
        let place = place_of(&block, asks.id);
        let draft = Draft { subject: publish.subject, headers: block, payload: publish.payload, id: place, rollup };
        self.queue_message(draft, size, id, grown, waiter.clone());
        Ok(())
    }

    /// Bytes that the stream counts, with those of messages on their way into it.
    pub fn held_bytes(&self) -> u64 {
        let coming = self.lead.as_ref().map_or(0, |lead| lead.grown.bytes);
        self.index.bytes.saturating_add(coming)
    }

    fn check_size(&self, subject: &[u8], block: &[u8], payload: &[u8]) -> Result<(), ApiError> {
        let size_max = StreamConfig::bound(self.config.max_msg_size.into()).unwrap_or(u64::MAX);
        // A row keeps its size in 31 bits.
        let whole = subject.len().saturating_add(block.len()).saturating_add(payload.len());
        if block.len().saturating_add(payload.len()) as u64 > size_max || whole > i32::MAX as usize {
            return Err(STREAM_MESSAGE_EXCEEDS_MAXIMUM);
        }
        if block.len() > HEADERS_BYTES_MAX {
            return Err(STREAM_HEADER_EXCEEDS_MAXIMUM);
        }
        if subject.len() > SUBJECT_BYTES_MAX {
            return Err(STREAM_MESSAGE_EXCEEDS_MAXIMUM);
        }
        Ok(())
    }

    /// Everything that headers ask for. Returns the hash of the message id and the rollup.
    fn check_asks(&self, now: Now, subject: &[u8], asks: &Asks<'_>) -> Result<(Option<u128>, Rollup), Refusal> {
        if !asks.stream.is_empty() && asks.stream != self.config.name.as_bytes() {
            return Err(STREAM_NOT_MATCH.into());
        }
        let id = (!asks.id.is_empty()).then(|| siphash::hash(asks.id));
        let alone = self.config.num_replicas <= 1;
        if !alone {
            self.check_id(now, id)?;
        }
        asks.check_supported(subject)?;
        self.check_expected(subject, asks)?;
        if alone {
            self.check_id(now, id)?;
        }
        self.check_expected_id(asks)?;
        let failed = |text: String| Refusal::from(STREAM_ROLLUP_FAILED.with("err", text));
        let rollup = asks.rollup();
        if rollup != Ok(Rollup::None) && (!self.config.allow_rollup_hdrs || self.config.deny_purge) {
            return Err(failed("rollup not permitted".to_owned()));
        }
        let rollup = rollup.map_err(|value| failed(format!("rollup value invalid: {value}")))?;
        Ok((id, rollup))
    }

    fn check_id(&self, now: Now, id: Option<u128>) -> Result<(), Refusal> {
        let (Some(lead), Some(id)) = (&self.lead, id) else { return Ok(()) };
        if lead.ids.contains_key(&id) {
            return Err(Refusal::Wait(id));
        }
        let stamp_ns = lead.stamp_ns.max(now.wall_ns);
        match self.dedup.find(id, stamp_ns, self.config.duplicate_window) {
            Some(seq) => Err(Refusal::Duplicate(seq)),
            None => Ok(()),
        }
    }

    fn check_expected(&self, subject: &[u8], asks: &Asks<'_>) -> Result<(), ApiError> {
        let Some(lead) = &self.lead else { return Ok(()) };
        let last = asks.last_seq().filter(|seq| *seq != lead.tail_seq);
        let wrong = last.map_or(Ok(()), |_| Err(STREAM_WRONG_LAST_SEQUENCE.with("seq", lead.tail_seq)));
        // With a single replica the subject's own expectation is looked at first.
        if self.config.num_replicas > 1 {
            wrong.clone()?;
        }
        match asks.subject_seq() {
            Some(seq) => {
                let about = if asks.subject_filter.is_empty() { subject } else { asks.subject_filter };
                let last = self.last_foreseen(about)?;
                if seq != last {
                    return Err(STREAM_WRONG_LAST_SEQUENCE.with("seq", last));
                }
            }
            None if !asks.subject_filter.is_empty() => return Err(STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID),
            None => {}
        }
        wrong
    }

    fn check_expected_id(&self, asks: &Asks<'_>) -> Result<(), ApiError> {
        let Some(lead) = &self.lead else { return Ok(()) };
        if !asks.last_id.is_empty() && asks.last_id != lead.tail_id.as_ref() {
            return Err(STREAM_WRONG_LAST_MSG_ID.with("id", String::from_utf8_lossy(&lead.tail_id)));
        }
        Ok(())
    }

    /// The last sequence of a subject, or of any that a filter matches, once everything in flight is applied; 0 for none.
    fn last_foreseen(&self, about: &[u8]) -> Result<Seq, ApiError> {
        let Some(lead) = &self.lead else { return Ok(0) };
        let subjects = &self.index.subjects;
        let (applied, coming) = if subject::is_literal(about) {
            subjects.find(about).map_or((0, 0), |id| {
                let one = subjects.get(id);
                (if one.count > 0 { one.last } else { 0 }, one.pending_last)
            })
        } else {
            let filters = Filters::new([Bytes::copy_from_slice(about)]);
            let coming = subjects.slots().iter().filter(|one| one.pending > 0 && filters.matches(&one.text));
            let coming = coming.map(|one| one.pending_last).max().unwrap_or(0);
            (self.last_match(Seq::MAX, &filters).unwrap_or(0), coming)
        };
        let unsure = |removal: &Removal| {
            coming <= removal.barrier && (removal.filter.is_empty() || subject::overlaps(&removal.filter, about))
        };
        if lead.removals.iter().any(unsure) {
            return Err(STREAM_WRONG_LAST_SEQUENCE_CONSTANT);
        }
        let last = applied.max(coming);
        Ok(if last < lead.trim_seq { 0 } else { last })
    }

    /// Refuses what `discard: new` has no room for; returns what the message adds.
    fn check_room(&self, subject: &[u8], size: Size, rollup: Rollup) -> Result<Grown, ApiError> {
        let bytes = self.message_bytes(size);
        let known = self.index.subjects.find(subject).map(|id| self.index.subjects.get(id));
        let held = known.map_or(0, |one| one.count + u64::from(one.pending));
        let full = StreamConfig::bound(self.config.max_msgs_per_subject).is_some_and(|limit| held >= limit);
        let grown = Grown { messages: u64::from(!full), bytes };
        if self.config.discard != Discard::New {
            return Ok(grown);
        }
        let failed = |text: &str| Err(STREAM_STORE_FAILED.with("err", text));
        if full && self.config.discard_new_per_subject && rollup == Rollup::None {
            return failed("maximum messages per subject exceeded");
        }
        let coming = self.lead.as_ref().map(|lead| lead.grown).unwrap_or_default();
        let messages = self.index.messages + coming.messages;
        if StreamConfig::bound(self.config.max_msgs).is_some_and(|limit| messages >= limit) && !full {
            return failed("maximum messages exceeded");
        }
        let total = self.index.bytes + coming.bytes + bytes;
        if StreamConfig::bound(self.config.max_bytes).is_some_and(|limit| total > limit) {
            // At the subject's limit its oldest message makes room, if it is as large.
            let oldest = known.filter(|one| full && one.count > 0).and_then(|one| self.index.size_of(one.first));
            if oldest.is_none_or(|oldest| self.message_bytes(oldest) < bytes) {
                return failed("maximum bytes exceeded");
            }
        }
        Ok(grown)
    }

    fn queue_message(
        &mut self,
        draft: Draft,
        size: Size,
        id: Option<u128>,
        grown: Grown,
        reply: Option<(crate::ids::Place, Bytes)>,
    ) {
        let Some(lead) = &mut self.lead else { return };
        let seq = lead.tail_seq + 1;
        let subject = self.index.subjects.expect(&draft.subject);
        self.index.subjects.get_mut(subject).pending_last = seq;
        if let Some(id) = id {
            lead.ids.insert(id, InFlight { seq, waiting: Vec::new() });
        }
        if draft.rollup == Rollup::All {
            lead.removals.push_back(Removal { filter: Bytes::new(), barrier: seq - 1 });
        }
        lead.tail_seq = seq;
        lead.tail_id = draft.id_text().into();
        lead.grown.messages += grown.messages;
        lead.grown.bytes += grown.bytes;
        lead.queue_bytes += draft.encoded_len();
        lead.queue.push_back(Queued::Message(Message { seq, draft, subject, size, id, reply, grown }));
    }

    /// Asks to delete one message. `Some` is a refusal to send now; otherwise `answer` hears when it is applied.
    ///
    /// `erase` is recorded; the bytes go when the log forgets the entry, they are not overwritten in place.
    pub fn propose_delete(&mut self, _now: Now, seq: Seq, erase: bool, answer: Option<Answer>) -> Option<Reply> {
        let lead = self.lead.as_ref()?;
        let failed = |text: &str| STREAM_MSG_DELETE_FAILED.with("err", text);
        let refused = if self.config.sealed {
            Some(STREAM_SEALED)
        } else if self.config.deny_delete {
            Some(failed("message delete not permitted"))
        } else if seq > lead.tail_seq || seq <= self.index.last_seq && self.index.size_of(seq).is_none() {
            Some(self.not_there(seq))
        } else {
            self.crowded()
        };
        if let Some(error) = refused {
            return answer.map(|answer| self.reply_to(&answer, answer::deleted(Err(&error))));
        }
        self.enqueue(Entry::encode_delete(seq, erase), Work::Delete { seq }, answer);
        None
    }

    /// Why a message that is not there cannot be deleted: the peer's two stores say it differently.
    pub(super) fn not_there(&self, seq: Seq) -> ApiError {
        let last = self.lead.as_ref().map_or(self.index.last_seq, |lead| lead.tail_seq);
        let text = match self.config.storage {
            StorageKind::File if seq > last => "stream store EOF",
            StorageKind::File if seq < self.index.first_seq.max(1) => "no message found",
            _ => return SEQUENCE_NOT_FOUND.with("seq", seq),
        };
        STREAM_MSG_DELETE_FAILED.with("err", text)
    }

    /// Asks to remove messages. `Some` is a refusal to send now; otherwise `answer` hears how many went.
    pub fn propose_purge(&mut self, _now: Now, purge: Purge, answer: Option<Answer>) -> Option<Reply> {
        self.lead.as_ref()?;
        let refused = if self.config.sealed {
            Some(STREAM_SEALED)
        } else if self.config.deny_purge {
            Some(STREAM_PURGE_FAILED.with("err", "stream purge not permitted"))
        } else if purge.seq > 0 && purge.keep > 0 || purge.seq > i64::MAX as u64 && purge.filter.is_empty() {
            // Sequences go on from `seq`: one close to the end of the numbers would end the stream.
            Some(BAD_REQUEST)
        } else if purge.filter.len() > SUBJECT_BYTES_MAX {
            Some(BAD_REQUEST)
        } else {
            self.crowded()
        };
        if let Some(error) = refused {
            return answer.map(|answer| self.reply_to(&answer, answer::purged(Err(&error))));
        }
        self.enqueue(Entry::encode_purge(&purge), Work::Purge(purge), answer);
        None
    }

    /// Puts a checked configuration into force, once it is applied. What is in flight was checked against the old one.
    pub fn propose_config(&mut self, _now: Now, config: StreamConfig, answer: Option<Answer>) -> Option<Reply> {
        self.lead.as_ref()?;
        if let Some(error) = self.crowded() {
            return answer.map(|answer| self.reply_to(&answer, answer::not_updated(&error)));
        }
        self.enqueue(Entry::encode_config(&config), Work::Config(Box::new(config)), answer);
        None
    }

    fn crowded(&self) -> Option<ApiError> {
        (self.inflight_bytes() >= STREAM_INFLIGHT_BYTES_MAX).then_some(STREAM_TOO_MANY_REQUESTS)
    }
}

/// Where a slice of the block lies in it.
fn place_of(block: &[u8], part: &[u8]) -> (u16, u16) {
    let start = (part.as_ptr() as usize).wrapping_sub(block.as_ptr() as usize);
    match (u16::try_from(start), u16::try_from(part.len())) {
        (Ok(start), Ok(len)) if len > 0 => (start, len),
        _ => (0, 0),
    }
}
