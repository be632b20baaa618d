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
