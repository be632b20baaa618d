use super::*;
use crate::timing::Rng;

fn some_amnesia(rng: &mut Rng) -> Option<Amnesia> {
    (rng.below(2) == 1).then(|| Amnesia { nonce: rng.next(), votes: rng.below(2) == 1 })
}

fn some_membership(rng: &mut Rng) -> Membership {
    let mut ids = |base: u64, max: u64| (0..1 + rng.below(max)).map(|id| NodeId(base + id)).collect();
    Membership::new(ids(10, 7), ids(5, 4), ids(30, 3)).unwrap()
}

fn some_entries(rng: &mut Rng, prev: Index) -> Vec<Entry> {
    let mut entry = |index| {
        let (kind, len) = match rng.below(4) {
            0 => (EntryKind::Noop, 0),
            1 => {
                let membership = some_membership(rng);
                let len = membership.encoded_len() as u32;
                (EntryKind::Membership(Box::new(membership)), len)
            }
            _ => (EntryKind::Data, rng.next() as u32),
        };
        Entry { term: rng.next(), index, len, kind }
    };
    let count = 3;
    (prev + 1..=prev + count).map(&mut entry).collect()
}

fn some_body(rng: &mut Rng) -> Body {
    let (a, b, c) = (rng.next(), rng.next(), rng.next());
    let flag = rng.below(2) == 1;
    match rng.below(14) {
        0 => Body::PreVote { last_index: a, last_term: b, stamp: c },
        1 => Body::PreVoteReply { granted: flag, amnesia: some_amnesia(rng) },
        2 => Body::Vote { last_index: a, last_term: b, transfer: flag, stamp: c },
        3 => Body::VoteReply { granted: flag, amnesia: some_amnesia(rng) },
        4 => {
            let prev_index = rng.below(1 << 40);
            Body::Append { prev_index, prev_term: b, commit: c, entries: some_entries(rng, prev_index) }
        }
        5 => Body::AppendReply { matched: a, commit: b, amnesia: some_amnesia(rng) },
        6 => Body::AppendReject { rejected: a, hint_index: b, hint_term: c, amnesia: some_amnesia(rng) },
        7 => Body::Heartbeat { commit: a, round: b, healed: flag.then_some(c) },
        8 => Body::HeartbeatReply { commit: a, round: b, amnesia: some_amnesia(rng) },
        9 => Body::Snapshot { index: a, term: b, membership: Box::new(some_membership(rng)) },
        10 => Body::SnapshotReply { index: a, amnesia: some_amnesia(rng) },
        11 => Body::TimeoutNow,
        12 => Body::Removed { index: a, question: b },
        _ => Body::Seek { question: a },
    }
}

fn some_message(rng: &mut Rng) -> Message {
    let (from, to, term) = (NodeId(rng.next()), NodeId(rng.next()), rng.next());
    Message { from, to, epoch: rng.next() as u32, term, body: some_body(rng) }
}

#[test]
fn every_message_returns_as_it_was_and_every_shorter_one_is_refused() {
    let mut rng = Rng::new(1);
    for _ in 0..2_000 {
        let message = some_message(&mut rng);
        let mut bytes = Vec::new();
        encode(&message, &mut bytes);
        assert_eq!(decode(&bytes), Ok(message.clone()));
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{len} of {message:?}");
        }
        bytes.extend([7, 7]);
        assert_eq!(decode(&bytes), Err(WireError::Long));
        assert_eq!(decode_prefix(&bytes), Ok((message, &[7, 7][..])));
    }
}

#[test]
fn altered_bytes_decode_to_something_that_encodes_to_them_or_to_an_error() {
    let mut rng = Rng::new(2);
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        encode(&some_message(&mut rng), &mut bytes);
        for _ in 0..1 + rng.below(4) {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] = rng.next() as u8;
        }
        if let Ok(message) = decode(&bytes) {
            let mut again = Vec::new();
            encode(&message, &mut again);
            assert_eq!(again, bytes);
        }
    }
}

#[test]
fn noise_is_refused_without_harm() {
    let mut rng = Rng::new(3);
    for len in 0..4_000 {
        let mut bytes: Vec<u8> = (0..len % 200).map(|_| rng.next() as u8).collect();
        if let Some(kind) = bytes.get_mut(28) {
            *kind = rng.below(15) as u8;
        }
        if let Ok(message) = decode(&bytes) {
            let mut again = Vec::new();
            encode(&message, &mut again);
            assert_eq!(again, bytes);
        }
    }
}

#[test]
fn a_count_is_checked_before_memory_is_taken() {
    let mut bytes = Vec::new();
    let body = Body::Append { prev_index: 1, prev_term: 1, commit: 1, entries: vec![] };
    encode(&Message { from: NodeId(1), to: NodeId(2), epoch: 0, term: 1, body }, &mut bytes);
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&4096u32.to_le_bytes());
    assert_eq!(decode(&bytes), Err(WireError::Short));
    bytes[at..].copy_from_slice(&4097u32.to_le_bytes());
    assert_eq!(decode(&bytes), Err(WireError::Bound));
}

#[test]
fn an_index_that_overflows_is_refused() {
    let entries = vec![Entry { term: 1, index: 1, len: 0, kind: EntryKind::Noop }];
    let body = Body::Append { prev_index: u64::MAX, prev_term: 1, commit: 1, entries };
    let mut bytes = Vec::new();
    encode(&Message { from: NodeId(1), to: NodeId(2), epoch: 0, term: 1, body }, &mut bytes);
    assert_eq!(decode(&bytes), Err(WireError::Bound));
}
