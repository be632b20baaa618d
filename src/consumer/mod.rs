//! One pull consumer: a replicated state machine above a raft group of its own, pure and synchronous.
//!
//! ```text
//!   pulls, acks, time ─► Leader ─ decides ─► Deliver, Reply     leave at once
//!                          │ live state         Propose         all changes of a turn in one entry
//!                          ▼
//!   log ─► appended ─► apply ─► applied state   answers of acks leave when their change is applied
//! ```
//!
//! Promises. Every matching message is delivered at least once: it is ahead of the cursor, pending, acknowledged, given
//! up after `max_deliver`, or gone from the stream; nothing else. An ack that was answered is on a quorum and its message
//! is never delivered again. What a leader delivered and could not replicate, the next leader delivers again.
//!
//! How to drive it: report input with the `on_…` verbs, then call [`Consumer::turn`] in the same batch, then drain
//! [`Consumer::poll_output`]. Call `turn` as well when the stream changed, after [`Consumer::apply`], and when
//! [`Consumer::next_wakeup`] is due. A proposed body is either reported through [`Consumer::appended`] when it stands in the
//! log, or through [`Consumer::propose_refused`]; there is one on its way at a time. What is sent to one inbox must arrive in the order of the
//! outputs: a status may close a pull whose messages are still being read from disk.

pub mod ack;
pub mod advisory;
pub mod config;
pub mod cursor;
mod deliver;
pub mod info;
mod leader;
mod pace;
pub mod pending;
pub mod pull;
pub mod record;
pub mod source;
pub mod state;
pub mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

pub use advisory::Advisory;
pub use config::{ConsumerConfig, CreateForm, CreateRequest, Parent, ServerLimits, check_update, parse_create};
pub use info::{ConsumerInfo, SequenceInfo};
pub use pull::PullRequest;
pub use record::{Damaged, Entry};
pub use source::Source;
pub use state::{Point, State};
pub use status::Status;

use crate::ids::{AccountId, GroupId, Now, Place, Seq};
use crate::limits::CONSUMER_HISTORY_BYTES_MAX;
use crate::reply::Reply;

use info::rfc3339;
use leader::Leader;
use record::Reader;

/// What an entry that is written alone takes on disk besides its bytes: a block.
const ENTRY_STORED_BYTES: usize = 4096;
/// What the entries of a consumer may take in a full store before a checkpoint replaces them: a sixteenth of the smallest
/// segment.
const HISTORY_FULL_BYTES_MAX: usize = 64 * 1024;

/// What a consumer wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerOutput {
    /// Send a message of the stream to an inbox.
    Deliver(Delivery),
    /// A status of a pull, or the answer to an ack.
    Reply(Reply),
    /// Append this to the consumer's log.
    Propose(Bytes),
    /// Publish this in the consumer's account.
    Advisory(Advisory),
    /// Ask whether anybody listens on the inbox, and call [`Consumer::bounced`] if nobody does. Not asking is harmless:
    /// an abandoned request then keeps an ephemeral consumer alive.
    Probe { to: Place, inbox: Bytes, token: u64 },
    /// Nobody has used it for `inactive_threshold`: it wants to be deleted. Said again as long as that is so.
    Expired,
    /// A checkpoint covers entries below: the log may forget them.
    Released { below_index: u64 },
}

/// One message on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub to: Place,
    pub inbox: Bytes,
    /// Which message of the stream; the shard reads its subject, headers and payload.
    pub seq: Seq,
    /// The reply subject of the delivery.
    pub ack_subject: Bytes,
    /// For [`Consumer::bounced`].
    pub token: u64,
    /// Send no payload, but its size in a `Nats-Msg-Size` header.
    pub headers_only: bool,
}

/// Who and where a consumer is.
#[derive(Debug, Clone)]
pub struct Identity {
    pub group: GroupId,
    /// The group of its stream.
    pub stream: GroupId,
    pub account: AccountId,
    pub stream_name: String,
    pub name: String,
    /// JetStream domain, shown in advisories; empty without one.
    pub domain: String,
    /// Wall nanoseconds.
    pub created_ns: i64,
}

/// An entry that is in the log and not yet applied.
#[derive(Debug)]
struct Logged {
    bytes: usize,
    entry: Entry,
}

/// One replica of a consumer.
#[derive(Debug)]
pub struct Consumer {
    identity: Identity,
    /// What is committed.
    applied: State,
    applied_index: u64,
    /// By index.
    log: BTreeMap<u64, Logged>,
    /// Bytes of entries applied since the last checkpoint.
    history_bytes: usize,
    history_entries: usize,
    /// Length of the last checkpoint.
    checkpoint_bytes: usize,
    leader: Option<Box<Leader>>,
    outputs: VecDeque<ConsumerOutput>,
}

impl Consumer {
    pub fn new(
        group: GroupId,
        stream: GroupId,
        account: AccountId,
        stream_name: &str,
        name: &str,
        config: ConsumerConfig,
        created_ns: i64,
    ) -> Consumer {
        let (stream_name, name, domain) = (stream_name.to_owned(), name.to_owned(), String::new());
        Consumer {
            identity: Identity { group, stream, account, stream_name, name, domain, created_ns },
            applied: State::new(config),
            applied_index: 0,
            log: BTreeMap::new(),
            history_bytes: 0,
            history_entries: 0,
            checkpoint_bytes: 0,
            leader: None,
            outputs: VecDeque::new(),
        }
    }

    /// Names the JetStream domain; for advisories.
    pub fn set_domain(&mut self, domain: &str) {
        self.identity.domain = domain.to_owned();
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The configuration in force; on the leader also one that is not yet committed.
    pub fn config(&self) -> &ConsumerConfig {
        &self.latest().config
    }

    /// What is committed.
    pub fn state(&self) -> &State {
        &self.applied
    }

    /// What the leader acts on, elsewhere what is committed.
    fn latest(&self) -> &State {
        self.leader.as_ref().map_or(&self.applied, |leader| &leader.live)
    }

    pub fn is_leading(&self) -> bool {
        self.leader.is_some()
    }

    /// Whether any leader has chosen where delivery starts, as far as this replica knows.
    pub fn has_begun(&self) -> bool {
        self.applied.started || !self.log.is_empty()
    }

    /// The leader of several replicas ends some pulls in other words.
    pub fn set_replicated(&mut self, replicated: bool) {
        if let Some(leader) = &mut self.leader {
            leader.replicated = replicated;
        }
    }

    /// Takes the next output; drain until `None` after every batch of input.
    pub fn poll_output(&mut self) -> Option<ConsumerOutput> {
        self.outputs.pop_front()
    }

    /// Becomes the leader, or stops being it. A new leader goes on from everything in its log, committed or not, and
    /// chooses the start of a consumer that has none; a former one tells waiting pulls and forgets what it had decided.
    pub fn lead<S: Source>(&mut self, now: Now, leading: bool, source: &S) {
        if leading == self.is_leading() {
            return;
        }
        if !leading {
            self.end_pulls(&|_| Status::LeadershipChange);
            self.leader = None;
            return;
        }
        let mut live = self.applied.clone();
        for logged in self.log.values() {
            for op in &logged.entry.ops {
                live.apply(logged.entry.time_ns, op);
            }
        }
        let mut leader = Box::new(Leader::new(now, &self.identity, live, source));
        for (index, logged) in &self.log {
            leader.expect(*index, logged.entry.ops.len());
        }
        self.leader = Some(leader);
    }

    /// The consumer is deleted: waiting pulls are told. Nothing else happens here.
    pub fn deleted(&mut self) {
        self.end_pulls(&|_| Status::ConsumerDeleted);
    }

    /// The server stops: waiting pulls are told.
    pub fn shut_down(&mut self) {
        self.end_pulls(&Status::ServerShutdown);
    }

    fn end_pulls(&mut self, status: &dyn Fn(status::Left) -> Status) {
        if let Some(leader) = &mut self.leader {
            leader.end_pulls(status, &mut self.outputs);
        }
    }
}

/// The log.
impl Consumer {
    /// An entry is in the log at `index`, on leader and followers alike.
    pub fn appended(&mut self, index: u64, body: &Bytes) -> Result<(), Damaged> {
        if let Some(entry) = self.leader.as_mut().and_then(|leader| leader.logged(index, body)) {
            self.log.insert(index, Logged { bytes: body.len(), entry });
            return Ok(());
        }
        self.recover_entry(index, body)?;
        if let (Some(leader), Some(logged)) = (&mut self.leader, self.log.get(&index)) {
            leader.absorb(index, &logged.entry);
        }
        Ok(())
    }

    /// An entry that was found in the log at start, or that came with a leader's state; in any order. What a checkpoint
    /// covers is ignored.
    pub fn recover_entry(&mut self, index: u64, body: &Bytes) -> Result<(), Damaged> {
        if index > self.applied_index {
            let entry = Entry::decode(body)?;
            self.log.insert(index, Logged { bytes: body.len(), entry });
        }
        Ok(())
    }

    /// All entries are here; those up to `committed` are applied.
    pub fn recovered(&mut self, now: Now, committed: u64) {
        self.apply(now, committed);
    }

    /// The log was cut: entries from this index on are gone.
    pub fn truncated(&mut self, from: u64) {
        self.log.split_off(&from);
    }

    /// The group did not take the last [`ConsumerOutput::Propose`]. It is offered again, a little later.
    pub fn propose_refused(&mut self, now: Now) {
        if let Some(leader) = &mut self.leader {
            leader.refused(now);
        }
    }

    /// Everything up to this index is committed. Answers to acks leave.
    pub fn apply(&mut self, now: Now, upto: u64) {
        while let Some(first) = self.log.first_entry()
            && *first.key() <= upto
        {
            let logged = first.remove();
            for op in &logged.entry.ops {
                self.applied.apply(logged.entry.time_ns, op);
            }
            self.history_bytes += logged.bytes;
            self.history_entries += 1;
        }
        self.applied_index = self.applied_index.max(upto);
        if let Some(leader) = &mut self.leader {
            leader.committed(now, upto, &mut self.outputs);
        }
    }

    /// Last applied index.
    pub fn applied(&self) -> u64 {
        self.applied_index
    }

    /// Whether so much was applied that a checkpoint should replace it. In a full store that is soon: what an entry takes on
    /// disk is a block at least, and it comes back only behind a checkpoint.
    pub fn wants_checkpoint(&self, full: bool) -> bool {
        let stored = self.history_bytes + self.history_entries * ENTRY_STORED_BYTES;
        self.history_bytes > CONSUMER_HISTORY_BYTES_MAX
            || full && stored > HISTORY_FULL_BYTES_MAX.max(2 * self.checkpoint_bytes)
    }

    /// The applied state. Holds nothing of the stream's messages.
    pub fn checkpoint(&mut self) -> Bytes {
        let mut out = vec![record::VERSION];
        record::put(&mut out, self.applied_index);
        self.applied.encode(&mut out);
        self.checkpoint_bytes = out.len();
        out.into()
    }

    /// A checkpoint taken when `applied` was the last applied index is durable.
    pub fn checkpointed(&mut self, applied: u64) {
        (self.history_bytes, self.history_entries) = (0, 0);
        self.outputs.push_back(ConsumerOutput::Released { below_index: applied + 1 });
    }

    /// Starts from a checkpoint, at recovery or when a follower is too far behind for the log. What was decided or
    /// logged up to its index is replaced. On error nothing has changed.
    pub fn install(&mut self, checkpoint: &[u8]) -> Result<(), Damaged> {
        self.restore(checkpoint)
    }

    /// The same at start, see [`Consumer::install`].
    pub fn restore(&mut self, checkpoint: &[u8]) -> Result<(), Damaged> {
        let mut reader = Reader(checkpoint);
        if reader.byte("version")? != record::VERSION {
            return Err(Damaged("version"));
        }
        let index = reader.number("index")?.min(u64::MAX - 1);
        let state = State::decode(&mut reader)?;
        reader.end()?;
        self.end_pulls(&|_| Status::LeadershipChange);
        self.leader = None;
        self.applied = state;
        self.applied_index = index;
        (self.history_bytes, self.history_entries) = (0, 0);
        self.log = self.log.split_off(&(index + 1));
        Ok(())
    }

    /// Equal on all replicas that have applied the same entries; for checkers. O(pending).
    pub fn fingerprint(&self) -> u64 {
        self.applied.fingerprint()
    }
}

/// Reports.
impl Consumer {
    /// What CONSUMER.INFO shows. The leader shows what it has decided; a follower what is committed, without what only
    /// a leader knows (waiting pulls, messages left).
    pub fn info<S: Source>(&self, now: Now, source: &S, cluster: Option<serde_json::Value>) -> ConsumerInfo {
        let state = self.latest();
        let config = &state.config;
        let redelivered = state.pending.num_redelivered();
        let pause_ns = paused_ns(config, now.wall_ns);
        ConsumerInfo {
            stream_name: self.identity.stream_name.clone(),
            name: self.identity.name.clone(),
            created: rfc3339(self.identity.created_ns),
            config: Some(config.with_answer_metadata()),
            delivered: SequenceInfo::new(state.delivered, state.delivered_ns),
            ack_floor: SequenceInfo::new(state.floor, state.acked_ns),
            num_ack_pending: state.pending.len(),
            num_redelivered: if config.max_deliver == 1 { 0 } else { redelivered },
            num_waiting: self.leader.as_ref().map_or(0, |leader| leader.waiting()),
            num_pending: self.leader.as_ref().map_or(0, |leader| leader.remaining(source)),
            cluster,
            push_bound: false,
            paused: pause_ns > 0,
            pause_remaining: pause_ns,
            ts: rfc3339(now.wall_ns),
        }
    }
}

/// Nanoseconds that a consumer stays paused, 0 when it is not.
fn paused_ns(config: &ConsumerConfig, wall_ns: i64) -> i64 {
    let until = config.pause_until.map_or(0, |until| until.as_nanosecond());
    i64::try_from((until - i128::from(wall_ns)).max(0)).unwrap_or(i64::MAX)
}

/// Input of the leader. All of it does nothing on other replicas.
impl Consumer {
    /// A pull request arrived. Unreadable ones are answered by the caller with the status that
    /// [`PullRequest::parse`] gave, see [`Consumer::refuse`].
    pub fn on_next(&mut self, now: Now, origin: Place, reply: Bytes, request: PullRequest) {
        if let Some(leader) = &mut self.leader {
            leader.on_next(now, pull::Inbox { to: origin, subject: reply }, request, &mut self.outputs);
        }
    }

    /// Tells an inbox why its request is not taken.
    pub fn refuse(&mut self, origin: Place, reply: Bytes, status: &Status) {
        let inbox = pull::Inbox { to: origin, subject: reply };
        self.outputs.push_back(leader::tell(&self.identity, inbox, status, None));
    }

    /// Something was published on an ack subject of this consumer. `answer` is where its publisher waits, if it does.
    pub fn on_ack(&mut self, now: Now, subject: &[u8], payload: &[u8], answer: Option<(Place, Bytes)>) {
        if let Some(leader) = &mut self.leader {
            leader.on_ack(now, subject, payload, answer, &mut self.outputs);
        }
    }

    /// Nobody listens where a delivery, heartbeat or probe with this token went: its inbox's requests are dropped, and
    /// the message becomes deliverable again without counting.
    pub fn bounced(&mut self, now: Now, token: u64) {
        if let Some(leader) = &mut self.leader {
            leader.bounced(now, token);
        }
    }

    /// Drops the waiting requests whose inbox `unheard` says nobody listens to any more; whether there were any.
    pub fn drop_unheard(&mut self, unheard: &mut dyn FnMut(AccountId, &[u8]) -> bool) -> bool {
        let account = self.identity.account;
        self.leader.as_mut().is_some_and(|leader| leader.drop_unheard(&mut |inbox| unheard(account, inbox)))
    }

    /// Another configuration, validated with [`check_update`].
    pub fn update(&mut self, now: Now, config: ConsumerConfig) {
        if let Some(leader) = &mut self.leader {
            leader.update(now, config, &mut self.outputs);
        }
    }

    /// The stream was purged up to `first_seq`: what is below is neither pending nor to be delivered. The leader also
    /// notices by itself, at its next turn, when pending messages are gone.
    pub fn stream_purged(&mut self, now: Now, first_seq: Seq) {
        if let Some(leader) = &mut self.leader {
            leader.trim(now, first_seq);
        }
    }

    /// Delivers as far as waiting pulls, limits and messages allow, ends pulls whose time is over, and proposes what has
    /// changed. Cheap when there is nothing to do.
    pub fn turn<S: Source>(&mut self, now: Now, source: &S) {
        if let Some(leader) = &mut self.leader {
            leader.turn(now, source, &mut self.outputs);
        }
    }

    /// Monotonic time at which [`Consumer::turn`] has something to do by itself; the past means at once.
    pub fn next_wakeup(&self) -> Option<u64> {
        self.leader.as_ref().and_then(|leader| leader.wakeup_us)
    }
}
