//! Who belongs to a group: a value, always sorted, always checked, with an encoding of its own because it travels in the
//! log as an entry's payload. How one membership becomes the next is `confchange`'s.
//!
//! ```text
//! encoded: | version 1 | voters n | outgoing n | learners n | n x u64 little endian, in this order |
//!             1 byte      1 byte     1 byte       1 byte
//! ```

use crate::NodeId;

/// Voters of one configuration. Seven replicas survive three losses; more make every commit slower, not safer.
pub const VOTERS_MAX: usize = 7;
/// Learners of a group: catching-up replicas before a change, at most two full sets of voters.
pub const LEARNERS_MAX: usize = 14;

const VERSION: u8 = 1;

/// The members of a group. Canonical: each list sorted and without doubles; `learners` meets `voters` nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    pub voters: Vec<NodeId>,
    /// The voters before, while a change is under way; empty otherwise. Both majorities decide meanwhile.
    pub outgoing: Vec<NodeId>,
    /// Receive everything, count for nothing. May overlap `outgoing`: a voter that is to become a learner.
    pub learners: Vec<NodeId>,
}

/// The membership that a change should end in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MembershipChange {
    pub voters: Vec<NodeId>,
    pub learners: Vec<NodeId>,
}

/// Why a membership is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipError {
    NoVoters,
    TooManyVoters,
    TooManyLearners,
    /// A list is not sorted or names a node twice.
    NotCanonical,
    /// A node is voter and learner at once.
    VoterAndLearner(NodeId),
    /// The bytes end too early, go on too long, or are of an unknown version.
    Malformed,
}

impl Membership {
    /// Sorts the lists, drops doubles and checks the rules.
    pub fn new(voters: Vec<NodeId>, outgoing: Vec<NodeId>, learners: Vec<NodeId>) -> Result<Self, MembershipError> {
        let mut membership = Membership { voters, outgoing, learners };
        for list in [&mut membership.voters, &mut membership.outgoing, &mut membership.learners] {
            list.sort_unstable();
            list.dedup();
        }
        membership.check()?;
        Ok(membership)
    }

    /// A settled group of these voters. The commonest start.
    pub fn of(voters: impl IntoIterator<Item = NodeId>) -> Result<Self, MembershipError> {
        Membership::new(voters.into_iter().collect(), Vec::new(), Vec::new())
    }

    /// Whether the value keeps its rules. A membership without any member is valid only as [`Membership::default`]: a
    /// replica that has not been told yet.
    pub fn check(&self) -> Result<(), MembershipError> {
        if self.voters.is_empty() {
            return Err(MembershipError::NoVoters);
        }
        if self.voters.len() > VOTERS_MAX || self.outgoing.len() > VOTERS_MAX {
            return Err(MembershipError::TooManyVoters);
        }
        if self.learners.len() > LEARNERS_MAX {
            return Err(MembershipError::TooManyLearners);
        }
        let sorted = |list: &[NodeId]| list.windows(2).all(|pair| pair[0] < pair[1]);
        if !(sorted(&self.voters) && sorted(&self.outgoing) && sorted(&self.learners)) {
            return Err(MembershipError::NotCanonical);
        }
        match self.learners.iter().find(|id| self.voters.contains(id)) {
            Some(id) => Err(MembershipError::VoterAndLearner(*id)),
            None => Ok(()),
        }
    }

    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether nobody is a member: a replica that has not been told yet.
    pub fn is_empty(&self) -> bool {
        self.voters.is_empty() && self.outgoing.is_empty() && self.learners.is_empty()
    }

    /// Whether the node has a vote, in the old or the new configuration.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    pub fn contains(&self, id: NodeId) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// Every member once, in order.
    pub fn members(&self) -> Vec<NodeId> {
        let mut all = [self.voters.as_slice(), &self.outgoing, &self.learners].concat();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Bytes of [`Membership::encode`].
    pub fn encoded_len(&self) -> usize {
        4 + 8 * (self.voters.len() + self.outgoing.len() + self.learners.len())
    }

    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let count = |list: &[NodeId]| u8::try_from(list.len()).expect("a checked membership has short lists");
        out.extend([VERSION, count(&self.voters), count(&self.outgoing), count(&self.learners)]);
        for id in [&self.voters, &self.outgoing, &self.learners].into_iter().flatten() {
            out.extend(id.0.to_le_bytes());
        }
    }

    /// Reads exactly one encoding. Every rule is checked; the bytes may be anything.
    pub fn decode(bytes: &[u8]) -> Result<Self, MembershipError> {
        let [version, voters, outgoing, learners, ids @ ..] = bytes else { return Err(MembershipError::Malformed) };
        let counts = [*voters, *outgoing, *learners].map(usize::from);
        if *version != VERSION || ids.len() != 8 * counts.iter().sum::<usize>() {
            return Err(MembershipError::Malformed);
        }
        let mut ids =
            ids.chunks_exact(8).map(|id| NodeId(id.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte))));
        let mut take = |count| ids.by_ref().take(count).collect::<Vec<_>>();
        let membership = Membership { voters: take(counts[0]), outgoing: take(counts[1]), learners: take(counts[2]) };
        if membership.is_empty() {
            return Ok(membership);
        }
        membership.check()?;
        Ok(membership)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[u64]) -> Vec<NodeId> {
        numbers.iter().map(|n| NodeId(*n)).collect()
    }

    #[test]
    fn new_sorts_and_drops_doubles() {
        let membership = Membership::new(ids(&[3, 1, 3]), ids(&[2, 1]), ids(&[2])).unwrap();
        assert_eq!(membership.voters, ids(&[1, 3]));
        assert_eq!(membership.members(), ids(&[1, 2, 3]));
        assert!(membership.is_joint());
    }

    #[test]
    fn rules_are_refused_by_name() {
        assert_eq!(Membership::of([]), Err(MembershipError::NoVoters));
        assert_eq!(Membership::of((0..8).map(NodeId)), Err(MembershipError::TooManyVoters));
        let both = Membership::new(ids(&[1]), vec![], ids(&[1]));
        assert_eq!(both, Err(MembershipError::VoterAndLearner(NodeId(1))));
        let many = Membership::new(ids(&[99]), vec![], (0..15).map(NodeId).collect());
        assert_eq!(many, Err(MembershipError::TooManyLearners));
        let unsorted = Membership { voters: ids(&[2, 1]), ..Membership::default() };
        assert_eq!(unsorted.check(), Err(MembershipError::NotCanonical));
    }

    #[test]
    fn encoding_returns_the_same_value_and_refuses_every_other_length() {
        let membership = Membership::new(ids(&[1, u64::MAX]), ids(&[2, 3]), ids(&[3])).unwrap();
        let mut bytes = Vec::new();
        membership.encode(&mut bytes);
        assert_eq!(bytes.len(), membership.encoded_len());
        assert_eq!(Membership::decode(&bytes), Ok(membership));
        for len in 0..bytes.len() {
            assert_eq!(Membership::decode(&bytes[..len]), Err(MembershipError::Malformed), "{len}");
        }
        bytes.push(0);
        assert_eq!(Membership::decode(&bytes), Err(MembershipError::Malformed));
    }
}
