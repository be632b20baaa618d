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

/// One raft group: unique for ever and the same everywhere.
///
/// The low 32 bits are the index of the meta entry that created it, the high ones its home key: the index that created
/// the stream, so that a consumer lives on the core of its stream. 0 is the meta group itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

impl GroupId {
    pub const META: GroupId = GroupId(0);

    /// The group of a stream that the meta entry at `index` created. Panics beyond 2^32 - 1 meta entries, which a
    /// cluster that creates a stream every second reaches after 136 years.
    pub fn of_stream(index: u64) -> GroupId {
        let index = u64::from(u32::try_from(index).expect("fewer than 2^32 meta entries"));
        GroupId(index << 32 | index)
    }

    /// The group of a consumer of `stream` that the meta entry at `index` created.
    pub fn of_consumer(stream: GroupId, index: u64) -> GroupId {
        let index = u64::from(u32::try_from(index).expect("fewer than 2^32 meta entries"));
        GroupId(stream.home_key() << 32 | index)
    }

    /// Groups with the same key share a core on every server.
    pub fn home_key(self) -> u64 {
        self.0 >> 32
    }

    /// Index of the meta entry that created it.
    pub fn created_at(self) -> u64 {
        self.0 & u64::from(u32::MAX)
    }
}

/// An account of this server, by its place in the server's list. Servers exchange names, cores exchange these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub u32);

/// Sequence of a message in a stream, from 1.
pub type Seq = u64;

impl ServerId {
    /// The id of the server with this name: the first 8 bytes of the name's SHA-256, each modulo 62 a digit of
    /// `0-9A-Za-z` (the peer's rule; the ids that its reports print are the same).
    pub fn of(name: &str) -> ServerId {
        use sha2::Digest;
        const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let hash = sha2::Sha256::digest(name.as_bytes());
        let mut text = [0u8; 8];
        for (digit, byte) in text.iter_mut().zip(hash) {
            *digit = DIGITS[usize::from(byte % 62)];
        }
        ServerId(u64::from_be_bytes(text))
    }
}

/// The id as reports print it: eight characters.
impl std::fmt::Display for ServerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.to_be_bytes().iter().try_for_each(|byte| write!(f, "{}", char::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_ones_that_the_peer_prints() {
        for (name, id) in
            [("emea_1", "h6AdT1CV"), ("us_1", "ydtgUGB6"), ("emea_4", "wldoW7tT"), ("rg1-az1", "6s4h5MOv")]
        {
            assert_eq!(ServerId::of(name).to_string(), id);
        }
    }

    #[test]
    fn a_consumer_shares_the_home_of_its_stream() {
        let stream = GroupId::of_stream(7);
        let consumer = GroupId::of_consumer(stream, 9);
        assert_eq!(stream.home_key(), consumer.home_key());
        assert_eq!((stream.created_at(), consumer.created_at()), (7, 9));
    }
}
