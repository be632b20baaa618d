//! Names of things and the clocks, as plain values that every module may use.

/// Both clocks, read once per turn by the shell and handed in as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Now {
    /// Monotonic microseconds since an arbitrary start. Every timeout is measured with this.
    pub us: u64,
    /// Wall clock, nanoseconds since the Unix epoch. Only stamped on things that people see; it may jump.
    pub wall_ns: i64,
}

/// One client, HTTP or lane connection of this core. Numbers are given by the shell and never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// One core of this server, counted from 0. Core 0 also owns the meta group, the peers' links and the pages.
pub type CoreId = u16;

/// A server of the cluster: the peer id (first 8 bytes of SHA-256 of the server's name, in base 62) as a big-endian number.
/// The same number is the server's node id in every raft group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u64);

/// A place that messages can be sent to: one core of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub server: ServerId,
    pub core: CoreId,
}

/// One raft group: the index of the meta entry that created it, so it is unique for ever and the same everywhere.
/// 0 is the meta group itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

impl GroupId {
    pub const META: GroupId = GroupId(0);
}

/// An account of this server, by its place in the server's list. Servers exchange names, cores exchange these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub u32);

/// Sequence of a message in a stream, from 1.
pub type Seq = u64;
