use super::*;
use crate::{
    Entry, EntryKind, LEARNERS_MAX, MembershipChange, MembershipError, ProposeError, ReadError, TERM_JUMP_MAX,
    TransferError,
};

const ID: NodeId = NodeId(1);

fn options() -> Options {
    Options { election_timeout_us: 1_000, heartbeat_us: 100, ..Options::new(ID, 0, 9) }
}

fn members(ids: &[u64]) -> Membership {
    Membership::of(ids.iter().map(|id| NodeId(*id))).unwrap()
}

fn data(term: Term, index: Index) -> Entry {
    Entry { term, index, len: 1, kind: EntryKind::Data }
}

/// A member of three in term 2 with three entries of term 1, the first of them committed.
fn follower() -> Node {
    let hard = HardState { epoch: 0, term: 2, vote: None };
    let entries = (1..=3).map(|index| data(1, index)).collect();
    let restore =
        Restore { hard, membership: members(&[1, 2, 3]), entries, commit: 1, applied: 1, ..Restore::default() };
    Node::new(options(), restore, 0).unwrap()
}

fn say(node: &mut Node, term: Term, body: Body) -> Vec<Output> {
    let message = Message { from: NodeId(2), to: ID, epoch: 0, term, body };
    node.step(10, message);
    drain(node)
}

fn drain(node: &mut Node) -> Vec<Output> {
    std::iter::from_fn(|| node.poll()).collect()
}

fn append(prev: (Index, Term), commit: Index, entries: Vec<Entry>) -> Body {
    Body::Append { prev_index: prev.0, prev_term: prev.1, commit, entries }
}

/// The only voter, leading in term 1 with everything durable.
fn single(options: Options) -> Node {
    let restore = Restore { membership: members(&[1]), ..Restore::default() };
    let mut node = Node::new(options, restore, 0).unwrap();
    drain(&mut node);
    node.persisted(0, Ticket(1));
    drain(&mut node);
    node
}

#[test]
fn a_heartbeat_commits_nothing_that_was_not_compared_in_this_term() {
    let mut node = follower();
    say(&mut node, 2, Body::Heartbeat { commit: 3, round: 1, healed: None });
    assert_eq!(node.commit(), 1);
    say(&mut node, 2, append((2, 1), 1, vec![]));
    say(&mut node, 2, Body::Heartbeat { commit: 3, round: 1, healed: None });
    assert_eq!(node.commit(), 2);
}

#[test]
fn what_was_compared_with_one_leader_is_not_taken_as_compared_with_the_next() {
    let mut node = follower();
    say(&mut node, 2, append((3, 1), 1, vec![]));
    say(&mut node, 3, Body::Heartbeat { commit: 3, round: 1, healed: None });
    assert_eq!(node.commit(), 1);
}

#[test]
fn an_append_commits_no_further_than_it_reaches() {
    let mut node = follower();
    say(&mut node, 2, append((1, 1), 3, vec![]));
    assert_eq!(node.commit(), 1);
    say(&mut node, 2, append((1, 1), 3, vec![data(1, 2)]));
    assert_eq!(node.commit(), 2);
}

#[test]
fn an_entry_against_a_committed_one_is_refused_and_reported() {
    let mut node = follower();
    let outputs = say(&mut node, 2, append((0, 0), 1, vec![data(2, 1)]));
    assert!(!outputs.iter().any(|output| matches!(output, Output::Persist { truncate_from: Some(_), .. })));
    let outputs = say(&mut node, 2, append((1, 2), 1, vec![]));
    assert_eq!(outputs, [Output::Diverged { from: NodeId(2), index: 1 }]);
    assert_eq!((node.last_index(), node.term_at(1)), (3, Some(1)));
}

#[test]
fn unsound_entries_are_dropped() {
    let mut node = follower();
    say(&mut node, 2, append((3, 1), 1, vec![]));
    let gap = vec![data(2, 5)];
    let falling = vec![data(2, 4), data(1, 5)];
    let future = vec![data(3, 4)];
    let older = vec![data(0, 4)];
    let bad = EntryKind::Membership(Box::new(Membership { voters: vec![ID, ID], ..Membership::default() }));
    let members = vec![Entry { kind: bad, ..data(2, 4) }];
    for entries in [gap, falling, future, older, members] {
        assert_eq!(say(&mut node, 2, append((3, 1), 1, entries)), []);
    }
    assert_eq!(say(&mut node, 2, append((u64::MAX, 1), 1, vec![])), []);
    assert_eq!(node.last_index(), 3);
}

#[test]
fn messages_beyond_every_number_or_for_others_are_dropped() {
    let mut node = follower();
    let body = Body::Heartbeat { commit: 0, round: 0, healed: None };
    for term in [NUMBER_MAX + 1, NUMBER_MAX, 3 + TERM_JUMP_MAX] {
        assert_eq!(say(&mut node, term, body.clone()), []);
    }
    let message = Message { from: NodeId(2), to: NodeId(3), epoch: 0, term: 9, body };
    node.step(10, message.clone());
    node.step(10, Message { to: ID, from: ID, ..message.clone() });
    node.step(10, Message { to: ID, epoch: 1, ..message });
    assert_eq!(drain(&mut node), []);
    assert_eq!((node.term(), node.status().foreign_epochs), (2, 1));
}

#[test]
fn a_snapshot_that_restarts_the_log_takes_back_what_waits_to_vouch_for_the_old_one() {
    let mut node = follower();
    say(&mut node, 2, append((1, 1), 1, vec![data(2, 2), data(2, 3), data(2, 4)]));
    let installed = node.install_snapshot(10, 3, 1, members(&[1, 2, 3]));
    assert_eq!(installed, Installed::Restarted);
    let outputs = drain(&mut node);
    assert!(!outputs.iter().any(|output| matches!(output, Output::Send(_))), "{outputs:?}");
    node.persisted(10, Ticket(1));
    for output in drain(&mut node) {
        assert!(!matches!(output, Output::Send(Message { body: Body::AppendReply { .. }, .. })), "{output:?}");
    }
    assert_eq!((node.commit(), node.applied_index(), node.last_index()), (3, 3, 3));
}

#[test]
fn a_snapshot_of_an_entry_that_is_there_keeps_the_log() {
    let mut node = follower();
    assert!(!node.wants_snapshot(2, 1));
    assert_eq!(node.install_snapshot(10, 2, 1, members(&[1, 2, 3])), Installed::Matched);
    assert_eq!((node.commit(), node.last_index()), (2, 3));
    assert_eq!(node.install_snapshot(10, 2, 1, members(&[1, 2, 3])), Installed::Stale);
    assert_eq!(node.install_snapshot(10, 9, 1, Membership::default()), Installed::Stale);
}

#[test]
fn members_that_are_cut_off_are_out_of_use() {
    let mut node = follower();
    let change = Entry { kind: EntryKind::Membership(Box::new(members(&[1, 2]))), ..data(2, 4) };
    let outputs = say(&mut node, 2, append((3, 1), 1, vec![change]));
    assert!(outputs.contains(&Output::MembershipChanged(members(&[1, 2]))));
    let outputs = say(&mut node, 3, append((3, 1), 1, vec![data(3, 4)]));
    assert!(outputs.contains(&Output::MembershipChanged(members(&[1, 2, 3]))));
    assert_eq!(node.status().membership_index, 0);
}

#[test]
fn a_leader_takes_no_more_than_its_bound_but_always_one() {
    let mut node = single(Options { uncommitted_bytes_max: 100, ..options() });
    assert_eq!(node.propose(0, 500), Ok(2));
    assert_eq!(node.propose(0, 1), Err(ProposeError::Full));
    assert_eq!(node.status().uncommitted_bytes, 500);
    drain(&mut node);
    node.persisted(0, Ticket(2));
    drain(&mut node);
    assert_eq!(node.status().uncommitted_bytes, 0);
    assert_eq!(node.propose(0, 100), Ok(3));
}

#[test]
fn a_follower_refuses_by_naming_its_leader() {
    let mut node = follower();
    let leader = Some(NodeId(2));
    say(&mut node, 2, Body::Heartbeat { commit: 0, round: 0, healed: None });
    assert_eq!(node.propose(10, 1), Err(ProposeError::NotLeader { leader }));
    assert_eq!(node.read_index(10, 1), Err(ReadError::NotLeader { leader }));
    assert_eq!(node.transfer(10, NodeId(3)), Err(TransferError::NotLeader { leader }));
}

#[test]
fn changes_of_members_are_refused_by_name() {
    let restore = Restore { membership: members(&[1]), ..Restore::default() };
    let mut node = Node::new(options(), restore, 0).unwrap();
    let to = |voters: &[u64], learners: std::ops::Range<u64>| MembershipChange {
        voters: voters.iter().map(|id| NodeId(*id)).collect(),
        learners: learners.map(NodeId).collect(),
    };
    // The entry that opens a group is a membership itself, so the first refusal is for that.
    assert_eq!(node.propose_membership(0, to(&[1, 2], 0..0)), Err(ProposeError::MembershipPending));
    let mut node = single(options());
    let refused = |error| Err(ProposeError::Membership(error));
    assert_eq!(node.propose_membership(0, to(&[1], 0..0)), Err(ProposeError::Unchanged));
    assert_eq!(node.propose_membership(0, to(&[], 0..0)), refused(MembershipError::NoVoters));
    assert_eq!(node.propose_membership(0, to(&[1], 1..2)), refused(MembershipError::VoterAndLearner(ID)));
    let many = 2..3 + LEARNERS_MAX as u64;
    assert_eq!(node.propose_membership(0, to(&[1], many)), refused(MembershipError::TooManyLearners));
    let domains = vec![(ID, 1), (NodeId(2), 2), (NodeId(3), 2)];
    assert_eq!(node.set_commit_rule(CommitRule::Span { domains: domains.clone() }), Err(SpanError::OneDomain));
    assert_eq!(node.propose_membership(0, to(&[1], 2..3)), Ok(2));
    assert_eq!(node.propose_membership(0, to(&[1], 2..4)), Err(ProposeError::MembershipPending));
}

#[test]
fn no_change_of_members_before_the_term_has_committed_something() {
    let mut node = follower();
    node.campaign(10);
    say(&mut node, 3, Body::PreVoteReply { granted: true, amnesia: None });
    node.persisted(10, Ticket(1));
    say(&mut node, 3, Body::VoteReply { granted: true, amnesia: None });
    assert!(node.is_leader());
    let to = MembershipChange { voters: vec![ID], learners: vec![] };
    assert_eq!(node.propose_membership(10, to), Err(ProposeError::TermUncommitted));
}

#[test]
fn restores_that_contradict_themselves_are_refused_by_name() {
    let sound = Restore { membership: members(&[1]), ..Restore::default() };
    let refused = |restore| Node::new(options(), restore, 0).err();
    let hard = HardState { epoch: 1, ..HardState::default() };
    assert_eq!(refused(Restore { hard, ..sound.clone() }), Some(RestoreError::EpochBehind { stored: 1 }));
    let entries = vec![data(1, 1), data(1, 3)];
    assert_eq!(refused(Restore { entries, ..sound.clone() }), Some(RestoreError::EntryOrder { index: 3 }));
    let entries = vec![data(2, 1), data(1, 2)];
    assert_eq!(refused(Restore { entries, ..sound.clone() }), Some(RestoreError::EntryOrder { index: 2 }));
    assert_eq!(refused(Restore { commit: 1, ..sound.clone() }), Some(RestoreError::Commit));
    assert_eq!(refused(Restore { applied: 1, ..sound.clone() }), Some(RestoreError::Applied));
    assert_eq!(refused(Restore { snapshot: (u64::MAX, 1), ..sound.clone() }), Some(RestoreError::Number));
    let membership = Membership { voters: vec![], learners: vec![ID], ..Membership::default() };
    let error = RestoreError::Membership(MembershipError::NoVoters);
    assert_eq!(refused(Restore { membership, ..sound.clone() }), Some(error));
    let flat = Options { heartbeat_us: 600, ..options() };
    assert_eq!(Node::new(flat, sound.clone(), 0).err(), Some(RestoreError::Timing));
    let span = Options { commit_rule: CommitRule::Span { domains: vec![(ID, 1)] }, ..options() };
    assert_eq!(Node::new(span, sound, 0).err(), Some(RestoreError::Span(SpanError::OneDomain)));
}

#[test]
fn a_replica_that_was_told_nothing_waits_without_a_clock() {
    let mut node = Node::new(options(), Restore::default(), 0).unwrap();
    assert_eq!(node.next_wakeup(), None);
    node.campaign(5);
    node.wakeup(1_000_000);
    assert_eq!(drain(&mut node), []);
}

#[test]
fn timing_follows_the_link_within_its_rules() {
    let mut node = follower();
    assert!(!node.set_timing(0, 100, 100));
    assert!(!node.set_timing(0, 100, 0));
    assert!(node.set_timing(0, 50_000, 5_000));
    assert!(node.next_wakeup().is_some_and(|at| (50_000..100_000).contains(&at)));
}

#[test]
fn too_many_reads_are_refused() {
    let mut node = follower();
    node.campaign(10);
    say(&mut node, 3, Body::PreVoteReply { granted: true, amnesia: None });
    node.persisted(10, Ticket(1));
    say(&mut node, 3, Body::VoteReply { granted: true, amnesia: None });
    let refused = (0..10_000).find(|context| node.read_index(10, *context).is_err());
    assert_eq!(refused, Some(4096));
    assert_eq!(node.read_index(10, 0), Err(ReadError::Full));
}
