//! Every bound of the server in one place, each with its reason. A full queue pushes back or answers with the error
//! that the API defines; none grows without end.
//!
//! Limits that an operator sets are fields of [`crate::config::Config`]; these are the ones that nobody should need to.

/// Messages that one raft entry of a stream carries at most. Larger entries make single reads slow; smaller ones waste
/// headers. 4096 small messages stay below [`ENTRY_BYTES_MAX`] and keep the in-record scan short.
pub const ENTRY_MESSAGES_MAX: usize = 4096;

/// Bytes of messages that one raft entry gathers before the next one starts. A single message may exceed it (max_payload).
pub const ENTRY_BYTES_MAX: usize = 256 * 1024;

/// Bytes proposed by a stream and not yet committed. Beyond it publishes are answered 429/10167 ("resource limits exceeded").
pub const STREAM_INFLIGHT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Pending pull requests of one consumer when its configuration names none (peer default: `max_waiting` 512).
pub const PULL_WAITING_MAX: usize = 512;

/// API requests that wait for other servers' answers at once; beyond it a request is answered 10008.
pub const API_GATHERS_MAX: usize = 1024;

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
