//! Every kind of message there and back, and foreign bytes of all sorts.

use super::*;
use crate::config::Config;
use crate::config::options::Account;
use crate::ids::{AccountId, Place};
use crate::route::Lot;

fn accounts(names: &[&str]) -> Accounts {
    let accounts = names.iter().map(|name| Account { name: name.to_string(), ..Account::default() }).collect();
    Accounts::new(&Config { accounts, ..Config::default() })
}

/// Makes messages of all kinds with fields of all sizes.
struct Maker(Lot);

impl Maker {
    fn text(&mut self) -> Bytes {
        let length = self.0.below(40);
        (0..length).map(|_| self.0.below(256) as u8).collect()
    }

    fn subject(&mut self) -> Bytes {
        Bytes::from(format!("a.\u{1}é{}", self.0.below(1000)))
    }

    fn option_subject(&mut self) -> Option<Bytes> {
        self.flag().then(|| self.subject())
    }

    fn string(&mut self) -> String {
        format!("host-{}", self.0.below(1000))
    }

    fn option(&mut self) -> Option<Bytes> {
        (self.0.below(2) == 1).then(|| self.text())
    }

    fn texts(&mut self) -> Vec<Bytes> {
        (0..self.0.below(4)).map(|_| self.text()).collect()
    }

    fn flag(&mut self) -> bool {
        self.0.below(2) == 1
    }

    fn number(&mut self) -> u64 {
        self.0.below(u64::MAX)
    }

    fn group(&mut self) -> GroupId {
        GroupId(self.number())
    }

    fn account(&mut self) -> AccountId {
        AccountId(self.0.below(3) as u32)
    }

    fn place(&mut self) -> Place {
        Place { server: ServerId(self.number()), core: self.0.below(65536) as u16 }
    }

    fn entries(&mut self) -> Vec<CatchupEntry> {
        let count = self.0.below(4);
        (0..count).map(|_| CatchupEntry { term: self.number(), index: self.number(), body: self.text() }).collect()
    }

    fn asset(&mut self) -> Asset {
        match self.0.below(3) {
            0 => Asset::Meta,
            1 => Asset::Stream { account: self.account(), name: self.text(), subjects: vec![self.subject()] },
            _ => Asset::Consumer { account: self.account(), stream: self.text(), name: self.text() },
        }
    }

    fn step(&mut self) -> CatchupStep {
        let session = self.number();
        match self.0.below(7) {
            0 => CatchupStep::Begin {
                session,
                index: self.number(),
                term: self.number(),
                membership: self.text(),
                checkpoint: self.text(),
            },
            1 => CatchupStep::Entries { session, part: 3, entries: self.entries() },
            2 => CatchupStep::End { session, parts: 9 },
            3 => CatchupStep::Ack { session, part: u32::MAX },
            4 => CatchupStep::Abort { session, why: self.string() },
            5 => CatchupStep::Want { first: self.number(), last: self.number() },
            _ => CatchupStep::Have { entries: self.entries() },
        }
    }

    fn raft(&mut self) -> NodeMsg {
        let entries: Vec<raft::Entry> = (0..self.0.below(3))
            .map(|at| raft::Entry { term: 2, index: 8 + at, len: 3, kind: raft::EntryKind::Data })
            .collect();
        let bodies = entries.iter().map(|_| Bytes::from_static(b"abc")).collect();
        let body = raft::Body::Append { prev_index: 7, prev_term: 2, commit: 5, entries };
        let message = raft::Message { from: raft::NodeId(1), to: raft::NodeId(2), epoch: 3, term: 4, body };
        NodeMsg::Raft { group: self.group(), message, bodies }
    }

    fn form(&mut self) -> FormStep {
        match self.0.below(4) {
            0 => FormStep::Ask,
            1 => FormStep::Promise,
            2 => FormStep::Release,
            _ => FormStep::Start { cluster_id: self.string(), voters: vec![ServerId(self.number()), ServerId(1)] },
        }
    }

    fn request(&mut self) -> Request {
        let kinds = [RequestKind::Ingest, RequestKind::Api, RequestKind::Read, RequestKind::Ack];
        Request {
            group: self.group(),
            hops: self.0.below(256) as u8,
            origin: self.place(),
            account: self.account(),
            kind: kinds[self.0.below(4) as usize],
            subject: self.subject(),
            reply: self.option_subject(),
            headers: self.option(),
            payload: self.text(),
        }
    }

    fn of_kind(&mut self, kind: u8) -> NodeMsg {
        match kind {
            kind::INTEREST => NodeMsg::Interest {
                account: self.account(),
                subject: self.text(),
                queue: self.option(),
                add: self.flag(),
            },
            kind::MESSAGE => NodeMsg::Message(Routed {
                account: self.account(),
                subject: self.subject(),
                inbox: self.option(),
                reply: self.option_subject(),
                headers: self.option(),
                payload: self.text(),
                plain: self.flag(),
                queues: self.texts(),
            }),
            kind::REPLY => NodeMsg::Reply(Reply {
                to: self.place(),
                account: self.account(),
                subject: self.subject(),
                shown: self.option_subject(),
                reply: self.option_subject(),
                headers: self.option(),
                payload: self.text(),
                bounce: self.flag().then(|| (self.group(), self.number())),
            }),
            kind::BOUNCE => NodeMsg::Bounce { group: self.group(), token: self.number() },
            kind::PROBE => NodeMsg::Probe {
                account: self.account(),
                subject: self.text(),
                group: self.group(),
                token: self.number(),
            },
            kind::LEAD => NodeMsg::Lead(Lead {
                group: self.group(),
                server: ServerId(self.number()),
                term: self.number(),
                asset: self.asset(),
            }),
            kind::UNLEAD => NodeMsg::Unlead { group: self.group(), term: self.number() },
            kind::REQUEST => NodeMsg::Request(self.request()),
            kind::RAFT => self.raft(),
            kind::HEARTBEAT => NodeMsg::Heartbeat(Heartbeat {
                boot: self.number(),
                groups: 7,
                digest: self.number(),
                list_wanted: self.flag(),
                sent_us: self.number(),
                echo_us: self.number(),
            }),
            kind::HEARTBEAT_LIST => {
                NodeMsg::HeartbeatList { leads: (0..self.0.below(5)).map(|at| (GroupId(at), at * 3)).collect() }
            }
            kind::CATCHUP => NodeMsg::Catchup { group: self.group(), epoch: 4, step: self.step() },
            kind::GOSSIP => {
                NodeMsg::Gossip { routes: vec![self.string(), self.string()], client_urls: vec![self.string()] }
            }
            kind::FORM => NodeMsg::Form(self.form()),
            kind::SPACE => NodeMsg::Space { full: self.flag() },
            _ => NodeMsg::Goodbye { lame_duck: self.flag() },
        }
    }
}

fn decode_all(frame: &Bytes, accounts: &Accounts) -> Result<Vec<Decoded>, CodecError> {
    let mut rest = frame.clone();
    let mut all = Vec::new();
    while let Some(decoded) = decode(&mut rest, accounts)? {
        all.push(decoded);
    }
    Ok(all)
}

#[test]
fn every_kind_reads_back_out_of_a_row_of_messages() {
    let accounts = accounts(&["A", "B"]);
    let mut maker = Maker(Lot::new(11));
    for _ in 0..200 {
        let sent: Vec<NodeMsg> = (kind::INTEREST..=kind::SPACE).map(|kind| maker.of_kind(kind)).collect();
        let mut frame = BytesMut::new();
        sent.iter().for_each(|msg| encode(msg, &accounts, &mut frame));
        let expected: Vec<Decoded> = sent.into_iter().map(Decoded::Message).collect();
        assert_eq!(decode_all(&frame.freeze(), &accounts), Ok(expected));
    }
}

#[test]
fn damaged_and_cut_frames_are_errors_or_messages_and_never_a_panic() {
    let accounts = accounts(&["A", "B"]);
    let mut maker = Maker(Lot::new(12));
    let mut refused = 0;
    for round in 0..20_000u64 {
        let mut frame = BytesMut::new();
        encode(&maker.of_kind((round % u64::from(kind::SPACE)) as u8 + 1), &accounts, &mut frame);
        for _ in 0..=maker.0.below(3) {
            let at = maker.0.below(frame.len() as u64) as usize;
            match maker.0.below(3) {
                0 => frame[at] = maker.0.below(256) as u8,
                1 => frame[at] ^= 1 << maker.0.below(8),
                _ => frame.truncate(at.max(1)),
            }
        }
        refused += usize::from(decode_all(&frame.freeze(), &accounts).is_err());
    }
    assert!(refused > 5_000, "only {refused} of 20000 damaged frames were refused");
}

#[test]
fn every_cut_of_a_message_is_refused() {
    let accounts = accounts(&["A"]);
    let mut maker = Maker(Lot::new(13));
    for kind in kind::INTEREST..=kind::GOODBYE {
        let mut frame = BytesMut::new();
        encode(&maker.of_kind(kind), &accounts, &mut frame);
        let frame = frame.freeze();
        for length in 1..frame.len() {
            assert_eq!(
                decode_all(&frame.slice(..length), &accounts),
                Err(CodecError::Short),
                "kind {kind} cut at {length}"
            );
        }
    }
}

#[test]
fn what_is_not_known_here_is_passed_over_and_the_rest_is_read() {
    let (theirs, ours) = (accounts(&["A", "B"]), accounts(&["B"]));
    let interest = |account| NodeMsg::Interest { account, subject: Bytes::from_static(b"x"), queue: None, add: true };
    let mut frame = BytesMut::new();
    encode(&interest(theirs.id("A").unwrap()), &theirs, &mut frame);
    frame.extend_from_slice(&[3, 0, 0, 0, 200, 1, 2]);
    encode(&interest(theirs.id("B").unwrap()), &theirs, &mut frame);
    let expected = [
        Decoded::UnknownAccount("A".to_string()),
        Decoded::UnknownKind(200),
        Decoded::Message(interest(ours.id("B").unwrap())),
    ];
    assert_eq!(decode_all(&frame.freeze(), &ours).unwrap(), expected);
}

#[test]
fn a_count_that_the_frame_cannot_hold_allocates_nothing() {
    let accounts = accounts(&[]);
    let mut frame = vec![5, 0, 0, 0, kind::HEARTBEAT_LIST];
    frame.extend_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(decode_all(&Bytes::from(frame), &accounts), Err(CodecError::Short));
}

#[test]
fn bytes_behind_the_fields_are_refused() {
    let accounts = accounts(&[]);
    let frame = Bytes::from_static(&[3, 0, 0, 0, kind::GOODBYE, 1, 9]);
    assert_eq!(decode_all(&frame, &accounts), Err(CodecError::Long));
}

#[test]
fn a_message_whose_subject_would_break_a_clients_line_is_passed_over() {
    let accounts = accounts(&["A"]);
    let account = AccountId(0);
    for subject in ["", "a b", "a\r\nPING", "a\t"] {
        let subject = Bytes::from_static(subject.as_bytes());
        let (queues, payload) = (vec![], Bytes::new());
        let routed = Routed { account, subject, inbox: None, reply: None, headers: None, payload, plain: true, queues };
        let mut frame = BytesMut::new();
        encode(&NodeMsg::Message(routed), &accounts, &mut frame);
        assert_eq!(decode_all(&frame.freeze(), &accounts), Ok(vec![Decoded::UnfitSubject]));
    }
    let subjects = vec![Bytes::from_static(b"a..b")];
    let asset = Asset::Stream { account, name: Bytes::from_static(b"S"), subjects };
    let mut frame = BytesMut::new();
    encode(&NodeMsg::Lead(Lead { group: GroupId(1), server: ServerId(1), term: 1, asset }), &accounts, &mut frame);
    assert_eq!(decode_all(&frame.freeze(), &accounts), Ok(vec![Decoded::UnfitSubject]));
}
