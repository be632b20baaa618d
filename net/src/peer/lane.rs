//! The three lanes between two servers: one connection each, so that what is urgent never waits behind what is large.
//!
//! Messages of one lane arrive in the order in which they were sent; lanes overtake each other.

/// Which connection of a link a frame travels on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Votes, heartbeats, answers to appends: small, must never wait.
    Control,
    /// Interest, messages, requests, appends: order matters to clients.
    Data,
    /// Catch-up: large, may wait, may be refused and asked for again.
    Bulk,
}

impl Lane {
    /// In the order of urgency.
    pub const ALL: [Lane; 3] = [Lane::Control, Lane::Data, Lane::Bulk];

    /// The byte on the wire.
    pub fn code(self) -> u8 {
        match self {
            Lane::Control => 0,
            Lane::Data => 1,
            Lane::Bulk => 2,
        }
    }

    /// The lane of a byte from the wire.
    pub fn from_code(code: u8) -> Option<Lane> {
        Lane::ALL.get(usize::from(code)).copied()
    }

    /// For logs and pages.
    pub fn name(self) -> &'static str {
        match self {
            Lane::Control => "control",
            Lane::Data => "data",
            Lane::Bulk => "bulk",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back() {
        for lane in Lane::ALL {
            assert_eq!(Lane::from_code(lane.code()), Some(lane));
        }
        assert_eq!(Lane::from_code(3), None);
    }
}
