//! Every bound of the server in one place, each with its reason. A full queue pushes back or answers with the error
//! that the API defines; none grows without end.
//!
//! Limits that an operator sets are fields of [`crate::config::Config`]; these are the ones that nobody should need to.

/// Messages that one raft entry of a stream carries at most. Larger entries make single reads slow; smaller ones waste
/// headers. 4096 small messages stay below [`ENTRY_BYTES_MAX`] and keep the in-record scan short.
pub const ENTRY_MESSAGES_MAX: usize = 4096;

/// Bytes of messages that one raft entry gathers before the next one starts: less than a record of the smallest log takes. A
/// single message may exceed it (max_payload).
pub const ENTRY_BYTES_MAX: usize = 240 * 1024;

/// Bytes proposed by a stream and not yet committed. Beyond it publishes are answered 429/10167 ("resource limits exceeded").
pub const STREAM_INFLIGHT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Pending pull requests of one consumer when its configuration names none (peer default: `max_waiting` 512).
pub const PULL_WAITING_MAX: usize = 512;

/// API requests that wait for other servers' answers at once; beyond it a request is answered 10008.
pub const API_GATHERS_MAX: usize = 1024;

/// Requests that wait at the meta leader for an entry about the same name; beyond it a request is answered 10008.
pub const META_WAITING_MAX: usize = 1024;

/// How long a listing waits for the servers it asked before it answers with what it has, naming the missing (peer: 4 s).
pub const API_GATHER_US: u64 = 4_000_000;

/// Forwards of one request between servers that each believe another one leads. Two: one stale hint, one fresh.
pub const FORWARD_HOPS_MAX: u8 = 3;

/// Entries of a listing page: STREAM.NAMES, CONSUMER.NAMES (peer: 1024).
pub const API_NAMES_PAGE: usize = 1024;

/// Entries of a listing page with full information: STREAM.LIST, CONSUMER.LIST (peer: 256).
pub const API_LIST_PAGE: usize = 256;

/// Longest name of a stream or consumer, bytes (peer: 255).
pub const NAME_BYTES_MAX: usize = 255;

/// Replicas of a stream at most (peer: 5).
pub const REPLICAS_MAX: usize = 5;

/// Longest description of a stream or consumer, bytes (peer: 4 KiB).
pub const DESCRIPTION_BYTES_MAX: usize = 4 * 1024;

/// Keys and values of a stream's or consumer's metadata together, bytes (peer: 128 KiB).
pub const METADATA_BYTES_MAX: usize = 128 * 1024;

/// Changes that one log entry of a consumer carries at most: about 200 KiB, like an entry of a stream. A turn with more
/// makes a second entry.
pub const CONSUMER_ENTRY_OPS_MAX: usize = 16 * 1024;

/// Changes of a consumer that were decided and are not yet committed. Deliveries pause and progress notes are not
/// recorded beyond it, so that a slow disk bounds what a new leader would deliver again.
pub const CONSUMER_INFLIGHT_OPS_MAX: usize = 64 * 1024;

/// Acknowledgements beyond [`CONSUMER_INFLIGHT_OPS_MAX`] that are still taken; more are dropped, unanswered, and the
/// client says it again or gets the message again.
pub const CONSUMER_INFLIGHT_ACKS_MAX: usize = 256 * 1024;

/// Configuration of a consumer inside its log, bytes of JSON: metadata, description and a few thousand filters.
pub const CONSUMER_CONFIG_BYTES_MAX: usize = 1024 * 1024;

/// Messages given up after `max_deliver` that a consumer remembers. They only serve reports and late acks.
pub const CONSUMER_EXHAUSTED_MAX: usize = 64 * 1024;

/// Messages that one consumer delivers before the other work of its core gets a turn.
pub const CONSUMER_DELIVER_TURN_MAX: usize = 1024;

/// Latest deliveries of a consumer that can still come back as undeliverable: more than fit on the wire within a round
/// trip. A message that comes back later waits for its ack timer.
pub const CONSUMER_BOUNCE_WINDOW: usize = 8 * 1024;

/// Bytes of committed entries after which a consumer wants a checkpoint to replace them.
pub const CONSUMER_HISTORY_BYTES_MAX: usize = 256 * 1024;

/// Appended bytes of a core that are not on disk yet, beyond which proposals are answered "busy": three quarters of what
/// the log itself takes before it refuses, so that followers' appends still fit when proposals already do not.
pub const GROUP_BACKLOG_BYTES_MAX: u64 = 48 * 1024 * 1024;

/// Bytes of entries read back from a log at once, for a follower, a restore or a healing. One device read of a useful
/// size; per group and turn, so a thousand groups that restart together stay at what their chunks hold.
pub const GROUP_READ_BYTES_MAX: usize = 1024 * 1024;

/// Groups of a core that are read back at the same time: with a chunk each, this bounds the memory of a start.
pub const GROUP_RESTORES_MAX: usize = 16;

/// How long a group must have had nothing to do before its timers stop, microseconds. Below the election timeout, so that
/// followers sleep before they miss heartbeats, and long enough that a group with some traffic does not fall asleep and
/// wake between two messages.
pub const GROUP_QUIET_US: u64 = 150_000;

/// Entries that a compaction leaves for a follower that is behind: sending them is cheaper than streaming the state.
pub const CHECKPOINT_LAG_MAX: u64 = 4096;

/// Entries by which a learner may lag when it is made a voter. The change itself waits for nobody, but a voter that is
/// far behind would hold up commits as soon as another one fails.
pub const MEMBERS_LAG_MAX: u64 = 256;

/// How long a replica that the table does not want waits before it asks whether its group has let it go, and how rarely it
/// asks in the end, microseconds: a change of members takes some round trips, or as long as a server stays away.
pub const LEAVE_ASK_US_MIN: u64 = 200_000;
pub const LEAVE_ASK_US_MAX: u64 = 10_000_000;

/// How often a leader looks whether the next step of a membership change is possible, microseconds.
pub const MEMBERS_LOOK_US: u64 = 20_000;

/// Damaged entries of a group that are kept track of, and reads that wait for them. More are found again when read.
pub const HEAL_ENTRIES_MAX: usize = 4096;

/// How long the answer to a request for damaged entries is waited for before the next member is asked, microseconds.
pub const HEAL_RETRY_US: u64 = 250_000;

/// How long a read waits for a damaged entry to be healed, microseconds.
pub const HEAL_WAIT_US: u64 = 3_000_000;

/// Bytes of one part of a catch-up: large enough for the disk, small enough to share a slow link.
pub const CATCHUP_PART_BYTES: usize = 512 * 1024;

/// Bytes of a catch-up that are not acknowledged yet. At 20 ms round trip 4 MiB carry 200 MB/s.
pub const CATCHUP_WINDOW_BYTES: usize = 4 * 1024 * 1024;

/// How long a catch-up waits for an acknowledgement before it asks where the receiver stands, microseconds.
pub const CATCHUP_RETRY_US: u64 = 1_000_000;

/// How long a catch-up goes on without an acknowledgement, across broken links, before it is given up, microseconds.
pub const CATCHUP_GIVE_UP_US: u64 = 30_000_000;

/// Message ids that a stream remembers at the most, whatever its duplicate window: with 32 bytes each in a checkpoint they
/// must fit into what a catch-up may bring. Two minutes at 50,000 messages a second.
pub const MESSAGE_IDS_MAX: usize = 6_000_000;

/// Bytes of a machine's state that are stored as one record: what clients store meanwhile waits for one of them at most.
pub const STATE_PART_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of a machine's state that a catch-up may bring. A quarter of a gigabyte is the state of a stream of some hundred
/// million messages; what is larger is an attack or a bug.
pub const CATCHUP_STATE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A stream with `max_age` looks at its oldest message at least this often, because the wall clock may be set.
pub const STREAM_AGE_CHECK_US_MAX: u64 = 60_000_000;

/// Pause between two expiries of a stream with `max_age` under load: each is a log entry, so not one per message.
pub const STREAM_TRIM_US_MIN: u64 = 50_000;

/// How long what was on its way may be stuck because the logs of too many followers are full, before one of them is asked to
/// lead, microseconds: longer than space takes to come back by moving what lives, and a publisher still waits.
pub const GROUP_YIELD_US: u64 = 1_000_000;

/// How often a full store is asked whether there is space again, microseconds.
pub const SPACE_RETRY_US: u64 = 1_000_000;

/// Stored records are read and verified all the time, so much at a time and so often: 2 MB/s per core are felt by no disk,
/// and rot in a terabyte that nobody reads is found within a week.
pub const SCRUB_BYTES: usize = 1 << 20;
pub const SCRUB_US: u64 = 500_000;

/// Pause after everything was verified once: a small store on an idle server must not keep it awake, microseconds.
pub const SCRUB_REST_US: u64 = 10_000_000;

/// Subjects in one page of STREAM.INFO (peer: 100,000).
pub const STREAM_SUBJECTS_PAGE: usize = 100_000;

/// Deleted sequences that STREAM.INFO lists at most; the peer lists all, which for a long-lived key-value bucket is
/// millions of numbers nobody reads.
pub const STREAM_DELETED_DETAILS_MAX: usize = 100_000;

/// Raft messages kept for groups that are not open here yet, and how long: the time by which servers learn of a new
/// group one after the other, a WAN round trip and a disk write.
pub const EARLY_MESSAGES_MAX: usize = 1024;
pub const EARLY_US: u64 = 1_000_000;

/// Bytes of entries in those messages: what is kept are questions and the first entries of a group, which are small.
pub const EARLY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Round trips that differ by less than this are the same, microseconds: elections wait hundreds of milliseconds.
pub const RTT_STEP_US: u64 = 5_000;
