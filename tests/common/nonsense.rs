//! What a broken or lying server may say: messages that can be read and make no sense, and frames that cannot be read.

use bytes::{Bytes, BytesMut};
use net::peer::frame;
use net::peer::lane::Lane;
use raft::{Body, Entry, EntryKind, Message, NUMBER_MAX, NodeId};
use trestle::account::Accounts;
use trestle::cluster::forming::FormStep;
use trestle::cluster::wire::{
    Asset, CatchupEntry, CatchupStep, Heartbeat, Lead, NodeMsg, Request, RequestKind, Routed,
};
use trestle::ids::{AccountId, GroupId, Place, ServerId};
use trestle::reply::Reply;

/// The group of the first stream of a cluster whose table began with its servers; some around it are tried as well.
fn groups() -> impl Iterator<Item = GroupId> {
    (1..12).map(GroupId::of_stream).chain([GroupId::META, GroupId(u64::MAX), GroupId(u64::MAX << 32)])
}

pub fn raft_message(from: ServerId, to: ServerId, group: GroupId, epoch: u32, term: u64, body: Body) -> NodeMsg {
    let message = Message { from: NodeId(from.0), to: NodeId(to.0), epoch, term, body };
    let bodies = match &message.body {
        Body::Append { entries, .. } => vec![Bytes::from_static(b"nonsense"); entries.len()],
        _ => Vec::new(),
    };
    NodeMsg::Raft { group, message, bodies }
}

/// What could end a leader, or void a log, if it were believed.
pub fn lies(me: ServerId, to: ServerId, term: u64) -> Vec<NodeMsg> {
    let entry = Entry { term, index: 1, len: 8, kind: EntryKind::Data };
    let mut list = Vec::new();
    for group in groups() {
        let bodies = [
            Body::Append { prev_index: 0, prev_term: 0, commit: NUMBER_MAX, entries: vec![entry.clone()] },
            Body::Append { prev_index: NUMBER_MAX, prev_term: term, commit: u64::MAX, entries: vec![] },
            Body::Heartbeat { commit: u64::MAX, round: u64::MAX, healed: Some(u64::MAX) },
            Body::Vote { last_index: u64::MAX, last_term: u64::MAX, transfer: true, stamp: u64::MAX },
            Body::TimeoutNow,
            Body::AppendReject { rejected: u64::MAX, hint_index: u64::MAX, hint_term: u64::MAX, amnesia: None },
            Body::AppendReply { matched: u64::MAX, commit: u64::MAX, amnesia: None },
            Body::Seek { question: u64::MAX },
            Body::Removed { index: u64::MAX, question: 0 },
        ];
        list.extend(bodies.into_iter().map(|body| raft_message(me, to, group, 1, term, body)));
    }
    list
}

pub struct Dice(pub u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[(self.next() % from.len() as u64) as usize].clone()
    }

    fn number(&mut self) -> u64 {
        let odd = self.next();
        self.pick(&[0, 1, 2, 7, 1 << 31, u64::from(u32::MAX), 1 << 53, NUMBER_MAX, u64::MAX - 1, u64::MAX, odd])
    }

    fn flag(&mut self) -> bool {
        self.next() & 1 == 0
    }

    fn bytes(&mut self) -> Bytes {
        let texts: [&'static [u8]; 9] = [
            b"a.b",
            b"*",
            b">",
            b"s.x",
            b"$JS.API.CONSUMER.MSG.NEXT.S.c",
            b"$JS.ACK.S.c.1.1.1.1.1",
            b"\xff\xfe",
            b"{\"batch\":-1,\"expires\":9223372036854775807}",
            b"NATS/1.0\r\n\r\n",
        ];
        Bytes::from_static(self.pick(&texts))
    }

    fn option(&mut self) -> Option<Bytes> {
        let bytes = self.bytes();
        self.pick(&[None, Some(bytes)])
    }

    fn place(&mut self, servers: &[ServerId]) -> Place {
        let core = self.number() as u16;
        Place { server: self.pick(servers), core }
    }

    fn entries(&mut self) -> Vec<CatchupEntry> {
        let count = self.next() % 3;
        (0..count).map(|_| CatchupEntry { term: self.number(), index: self.number(), body: self.bytes() }).collect()
    }

    /// Steps of a catch-up that nobody asked for.
    fn step(&mut self) -> CatchupStep {
        let (session, part) = (self.next() % 3, self.number() as u32);
        match self.next() % 7 {
            0 => CatchupStep::Begin {
                session,
                index: self.number(),
                term: self.number(),
                membership: self.bytes(),
                checkpoint: self.bytes(),
            },
            1 => CatchupStep::Entries { session, part, entries: self.entries() },
            2 => CatchupStep::End { session, parts: part },
            3 => CatchupStep::Ack { session, part },
            4 => CatchupStep::Abort { session, why: "x".into() },
            5 => CatchupStep::Want { first: self.number(), last: self.number() },
            _ => CatchupStep::Have { entries: self.entries() },
        }
    }

    /// A message that can be read and makes no sense. Of a member of the cluster: it does not claim to lead what others do,
    /// nor a term that could be.
    pub fn nonsense(&mut self, me: ServerId, servers: &[ServerId]) -> NodeMsg {
        let all: Vec<GroupId> = groups().chain([GroupId(self.next())]).collect();
        let (group, account) = (self.pick(&all), Accounts::GLOBAL);
        let account = self.pick(&[account, AccountId(1)]);
        let (token, to) = (self.number(), self.place(servers));
        let queue = self.option();
        match self.next() % 14 {
            0 => NodeMsg::Interest { account, subject: self.bytes(), queue, add: self.flag() },
            1 => NodeMsg::Message(Routed {
                account,
                subject: self.bytes_of_subject(),
                inbox: queue,
                reply: None,
                headers: self.option(),
                payload: self.bytes(),
                plain: self.flag(),
                queues: vec![self.bytes()],
            }),
            2 => NodeMsg::Reply(Reply {
                to,
                account,
                subject: self.bytes_of_subject(),
                reply: None,
                headers: self.option(),
                payload: self.bytes(),
                shown: None,
                bounce: Some((group, token)),
            }),
            3 => NodeMsg::Bounce { group, token },
            4 => NodeMsg::Probe { account, subject: self.bytes(), group, token },
            5 => NodeMsg::Lead(Lead { group: GroupId(self.next()), server: me, term: token, asset: Asset::Meta }),
            6 => NodeMsg::Unlead { group: GroupId(self.next()), term: token },
            7 | 8 => NodeMsg::Request(Request {
                group,
                hops: token as u8,
                origin: to,
                account,
                kind: self.pick(&[RequestKind::Ingest, RequestKind::Api, RequestKind::Read, RequestKind::Ack]),
                // Nothing that a stream would store: the load counts its messages.
                subject: Bytes::from_static(b"$JS.API.CONSUMER.MSG.NEXT.S.none"),
                reply: Some(self.bytes_of_subject()),
                headers: queue,
                payload: self.bytes(),
            }),
            9 => NodeMsg::Heartbeat(Heartbeat {
                boot: token,
                groups: self.number() as u32,
                digest: self.next(),
                list_wanted: self.flag(),
                sent_us: self.number(),
                echo_us: self.number(),
            }),
            10 => NodeMsg::HeartbeatList { leads: vec![(GroupId(self.next()), self.number())] },
            11 => NodeMsg::Catchup { group, epoch: 1, step: self.step() },
            12 => NodeMsg::Form(FormStep::Start { cluster_id: "x".into(), voters: servers.to_vec() }),
            _ => {
                let target = self.pick(servers);
                let (term, epoch) = (self.pick(&[0, 1 << 61, NUMBER_MAX, u64::MAX]), self.pick(&[0, 1, 1, u32::MAX]));
                let list = lies(me, target, term);
                match self.pick(&list) {
                    NodeMsg::Raft { message, bodies, .. } => {
                        NodeMsg::Raft { group, message: Message { epoch, ..message }, bodies }
                    }
                    other => other,
                }
            }
        }
    }

    fn bytes_of_subject(&mut self) -> Bytes {
        self.pick(&[Bytes::from_static(b"a.b"), Bytes::from_static(b"\xff\x01"), Bytes::from_static(b"_INBOX.x")])
    }
}

/// Frames that cannot be, each of which ends a link.
pub fn broken_frames() -> Vec<Vec<u8>> {
    let frame = |kind: u8, lane: Lane, body: &[u8]| {
        let mut out = BytesMut::new();
        frame::encode(&mut out, kind, lane, 0, body);
        out.to_vec()
    };
    let good = frame(16, Lane::Data, b"");
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    vec![
        with(8, good[8] ^ 1),
        with(3, 0xff),
        with(5, 9),
        with(7, 0),
        frame(1, Lane::Data, b"TRST"),
        frame(8, Lane::Data, b""),
        frame(200, Lane::Data, b"\0\0\0\0"),
        frame(16, Lane::Control, b""),
        frame(16, Lane::Data, b"\0\0"),
        frame(16, Lane::Data, b"\0\0\0\0\xff\xff\xff\xff\x01"),
        frame(16, Lane::Data, b"\0\0\0\0\x02\0\0\0\x0f\x07"),
        frame(16, Lane::Data, &[b"\0\0\0\0".as_slice(), &[0xff; 100]].concat()),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ]
}
