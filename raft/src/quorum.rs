//! Counting. Who has won, what is committed, whether enough peers answered: each a small pure function over a
//! membership, so that the rules can be read, and compared with slow twins, in one place.
//!
//! While a change of members is under way both majorities must agree (joint consensus). The *span* rule asks in addition
//! for a durable copy in two failure domains before anything counts as committed; it never changes who may be elected.

use crate::{Index, Membership, NodeId, VOTERS_MAX};

/// When an entry is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CommitRule {
    #[default]
    Majority,
    /// A majority, and at least one copy in each of two domains. Every voter needs a domain, and the voters of each
    /// configuration at least two: anything else is an error, not a plain majority.
    Span { domains: Vec<(NodeId, u16)> },
}

/// Why a membership cannot span two domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanError {
    /// This voter has no domain.
    Unplaced(NodeId),
    /// All voters are in one domain.
    OneDomain,
}

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    Won,
    Lost,
    Open,
}

/// Votes that decide among `voters` of them.
pub fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// Whether the nodes that satisfy `holds` form a quorum: of the voters and, during a change, of the outgoing ones too.
/// False for a group without voters.
pub fn is_quorum(membership: &Membership, holds: impl Fn(NodeId) -> bool) -> bool {
    let enough = |voters: &[NodeId]| voters.iter().filter(|id| holds(**id)).count() >= majority(voters.len());
    enough(&membership.voters) && (membership.outgoing.is_empty() || enough(&membership.outgoing))
}

/// How an election stands, `vote` giving each voter's answer so far.
pub fn tally(membership: &Membership, vote: impl Fn(NodeId) -> Option<bool>) -> Tally {
    if is_quorum(membership, |id| vote(id) == Some(true)) {
        Tally::Won
    } else if is_quorum(membership, |id| vote(id) != Some(false)) {
        Tally::Open
    } else {
        Tally::Lost
    }
}

/// The highest index that the rule calls committed when each voter holds its log up to `matched`.
/// 0 for a group without voters, and while a span has no second domain.
pub fn committed(membership: &Membership, rule: &CommitRule, matched: impl Fn(NodeId) -> Index) -> Index {
    let of = |voters: &[NodeId]| match rule {
        CommitRule::Majority => held_by_majority(voters, &matched),
        CommitRule::Span { domains } => {
            held_by_majority(voters, &matched).min(held_in_two_domains(voters, domains, &matched))
        }
    };
    match membership.outgoing.as_slice() {
        [] => of(&membership.voters),
        outgoing => of(&membership.voters).min(of(outgoing)),
    }
}

/// Whether the rule can ever commit anything with these members.
pub fn check_rule(membership: &Membership, rule: &CommitRule) -> Result<(), SpanError> {
    let CommitRule::Span { domains } = rule else { return Ok(()) };
    for voters in [&membership.voters, &membership.outgoing] {
        if let Some(id) = voters.iter().find(|id| domain(domains, **id).is_none()) {
            return Err(SpanError::Unplaced(*id));
        }
        let one = |pair: &[NodeId]| domain(domains, pair[0]) == domain(domains, pair[1]);
        if !voters.is_empty() && voters.windows(2).all(one) {
            return Err(SpanError::OneDomain);
        }
    }
    Ok(())
}

fn domain(domains: &[(NodeId, u16)], id: NodeId) -> Option<u16> {
    domains.iter().find(|place| place.0 == id).map(|place| place.1)
}

/// The median from below: sorted downward, the index at place majority-1 is held by a majority.
fn held_by_majority(voters: &[NodeId], matched: impl Fn(NodeId) -> Index) -> Index {
    let mut held = [0; VOTERS_MAX];
    let count = voters.len().min(VOTERS_MAX);
    for (slot, id) in held.iter_mut().zip(voters) {
        *slot = matched(*id);
    }
    let held = &mut held[..count];
    held.sort_unstable_by(|a, b| b.cmp(a));
    held.get(majority(voters.len()) - 1).copied().unwrap_or(0)
}

/// The best copy anywhere sets the first domain; the best copy outside of it is what two domains hold.
fn held_in_two_domains(voters: &[NodeId], domains: &[(NodeId, u16)], matched: impl Fn(NodeId) -> Index) -> Index {
    let placed = || voters.iter().filter_map(|id| Some((matched(*id), domain(domains, *id)?)));
    let Some((_, first)) = placed().max() else { return 0 };
    placed().filter(|copy| copy.1 != first).map(|copy| copy.0).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timing::Rng;

    /// The slow twin: try every index from the highest down and count who has it.
    fn committed_slowly(membership: &Membership, rule: &CommitRule, matched: &dyn Fn(NodeId) -> Index) -> Index {
        let holds = |voters: &[NodeId], index: Index| {
            let having: Vec<NodeId> = voters.iter().copied().filter(|id| matched(*id) >= index).collect();
            let many = 2 * having.len() > voters.len();
            let wide = match rule {
                CommitRule::Majority => true,
                CommitRule::Span { domains } => having.iter().any(|a| {
                    having.iter().any(|b| match (domain(domains, *a), domain(domains, *b)) {
                        (Some(a), Some(b)) => a != b,
                        _ => false,
                    })
                }),
            };
            many && wide
        };
        let both = |index| {
            holds(&membership.voters, index) && (membership.outgoing.is_empty() || holds(&membership.outgoing, index))
        };
        (1..=20).rev().find(|index| both(*index)).unwrap_or(0)
    }

    fn some_ids(rng: &mut Rng, at_most: u64) -> Vec<NodeId> {
        let mut ids: Vec<NodeId> = (0..rng.below(at_most + 1)).map(|_| NodeId(1 + rng.below(10))).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    #[test]
    fn every_rule_agrees_with_its_slow_twin() {
        let mut rng = Rng::new(7);
        for round in 0..20_000 {
            let membership =
                Membership { voters: some_ids(&mut rng, 7), outgoing: some_ids(&mut rng, 7), learners: vec![] };
            let held: Vec<Index> = (0..11).map(|_| rng.below(20)).collect();
            let matched = |id: NodeId| held[id.0 as usize];
            let domains = (1..=10).filter(|_| rng.below(8) > 0).map(|id| (NodeId(id), (id % 3) as u16)).collect();
            for rule in [CommitRule::Majority, CommitRule::Span { domains }] {
                let fast = committed(&membership, &rule, matched);
                let slow = committed_slowly(&membership, &rule, &matched);
                assert_eq!(fast, slow, "round {round}: {membership:?} {rule:?} {held:?}");
            }
        }
    }

    #[test]
    fn a_tally_agrees_with_counting_both_outcomes() {
        let mut rng = Rng::new(11);
        for _ in 0..20_000 {
            let membership =
                Membership { voters: some_ids(&mut rng, 5), outgoing: some_ids(&mut rng, 5), learners: vec![] };
            let votes: Vec<Option<bool>> =
                (0..11).map(|_| [None, Some(true), Some(false)][rng.below(3) as usize]).collect();
            let lists = [&membership.voters, &membership.outgoing];
            let used = || lists.iter().enumerate().filter(|(at, list)| *at == 0 || !list.is_empty());
            let count = |list: &[NodeId], what| list.iter().filter(|id| votes[id.0 as usize] == what).count();
            let won = used().all(|(_, list)| 2 * count(list, Some(true)) > list.len());
            let lost = used().any(|(_, list)| 2 * count(list, Some(false)) >= list.len());
            let slow = if won {
                Tally::Won
            } else if lost {
                Tally::Lost
            } else {
                Tally::Open
            };
            assert_eq!(tally(&membership, |id| votes[id.0 as usize]), slow, "{membership:?} {votes:?}");
        }
    }

    #[test]
    fn nothing_is_committed_without_voters() {
        assert_eq!(committed(&Membership::default(), &CommitRule::Majority, |_| 9), 0);
        assert!(!is_quorum(&Membership::default(), |_| true));
    }

    #[test]
    fn a_span_in_one_domain_is_an_error_and_commits_nothing() {
        let membership = Membership::of([NodeId(1), NodeId(2), NodeId(3)]).unwrap();
        let rule = CommitRule::Span { domains: (1..=3).map(|id| (NodeId(id), 4)).collect() };
        assert_eq!(check_rule(&membership, &rule), Err(SpanError::OneDomain));
        assert_eq!(committed(&membership, &rule, |_| 9), 0);
        let rule = CommitRule::Span { domains: vec![(NodeId(1), 1), (NodeId(2), 2)] };
        assert_eq!(check_rule(&membership, &rule), Err(SpanError::Unplaced(NodeId(3))));
    }

    #[test]
    fn a_span_waits_for_the_second_domain() {
        let membership = Membership::of([NodeId(1), NodeId(2), NodeId(3)]).unwrap();
        let rule = CommitRule::Span { domains: vec![(NodeId(1), 1), (NodeId(2), 1), (NodeId(3), 2)] };
        assert_eq!(check_rule(&membership, &rule), Ok(()));
        let held = |there| move |id: NodeId| if id == NodeId(3) { there } else { 9 };
        assert_eq!(committed(&membership, &rule, held(0)), 0);
        assert_eq!(committed(&membership, &rule, held(5)), 5);
        assert_eq!(committed(&membership, &CommitRule::Majority, held(0)), 9);
    }
}
