//! How many API requests this core has answered, and how many of them with an error: for the pages and for
//! `$JS.API.INFO`, which asks every core of every server for its part.
//!
//! As with the peer, pulls and direct gets do not count (they are subjects of a stream and a consumer), nor do the parts
//! that servers ask of each other for a listing. A refusal counts once, wherever it is given.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::JetStream;
use super::gather::PART_PREFIX;
use super::hosted::call_of;
use crate::api::call::Call;
use crate::cluster::view::View;
use crate::cluster::wire::{NodeMsg, Request, RequestKind};
use crate::ids::{AccountId, CoreId, GroupId, Place, ServerId};

/// How far into an answer its error is looked for: it stands behind the type, which is shorter.
const ERROR_WITHIN: usize = 256;

/// The subject by which one core asks another for the counts of an account. No client's request has it.
pub(super) const TALLY_SUBJECT: &[u8] = b"$TRESTLE.TALLY";

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub total: u64,
    pub errors: u64,
}

/// By account: as many as the configuration has.
#[derive(Debug, Default)]
pub(super) struct Tallies(BTreeMap<AccountId, Tally>);

impl Tallies {
    /// A request came; `reply` is where its answer goes.
    pub(super) fn asked(&mut self, account: AccountId, call: Call, reply: Option<&Bytes>) {
        let apart = matches!(call, Call::ConsumerNext { .. } | Call::DirectGet { .. });
        if !apart && !reply.is_some_and(is_part) {
            self.0.entry(account).or_default().total += 1;
        }
    }

    /// An answer leaves.
    pub(super) fn answered(&mut self, account: AccountId, reply: &Bytes, payload: &[u8]) {
        if is_error(payload) && !is_part(reply) {
            self.0.entry(account).or_default().errors += 1;
        }
    }

    pub(super) fn of(&self, account: AccountId) -> Tally {
        self.0.get(&account).copied().unwrap_or_default()
    }

    pub(super) fn sum(&self) -> Tally {
        let add = |a: Tally, b: &Tally| Tally { total: a.total + b.total, errors: a.errors + b.errors };
        self.0.values().fold(Tally::default(), add)
    }
}

impl JetStream {
    /// A request came to the core of its group, for the first time.
    pub(super) fn count(&mut self, request: &Request) {
        let domain = self.config.jetstream.as_ref().and_then(|js| js.domain.as_deref());
        if request.hops == 0
            && let Some(call) = call_of(&request.subject, domain)
        {
            self.tallies.asked(request.account, call, request.reply.as_ref());
        }
    }

    /// A request was answered where it entered.
    pub fn refused_at_once(&mut self, account: AccountId, subject: &[u8], reply: &Bytes, payload: &[u8]) {
        let domain = self.config.jetstream.as_ref().and_then(|js| js.domain.as_deref());
        let Some(call) = call_of(subject, domain) else { return };
        self.tallies.asked(account, call, Some(reply));
        self.tallies.answered(account, reply, payload);
    }

    /// Every core of every linked server with JetStream, but this one.
    pub(super) fn tally_places(&self, view: &View) -> Vec<Place> {
        let cores_of = |server: ServerId, cores: CoreId| (0..cores).map(move |core| Place { server, core });
        let mine = cores_of(self.me.server, view.cores).filter(|place| *place != self.me);
        let linked = view.peers.iter().filter(|(_, peer)| peer.jetstream);
        mine.chain(linked.flat_map(|(server, peer)| cores_of(*server, peer.cores))).collect()
    }

    pub(super) fn tally_request(&self, account: AccountId, reply: Bytes) -> NodeMsg {
        NodeMsg::Request(Request {
            group: GroupId::META,
            hops: 0,
            origin: self.me,
            account,
            kind: RequestKind::Api,
            subject: Bytes::from_static(TALLY_SUBJECT),
            reply: Some(reply),
            headers: None,
            payload: Bytes::new(),
        })
    }

    pub(super) fn tell_tally(&mut self, request: &Request) {
        let tally = serde_json::to_vec(&self.tallies.of(request.account)).unwrap_or_default();
        self.answer_request(request, None, tally.into());
    }

    /// API requests that this core has answered.
    pub fn tally(&self) -> Tally {
        self.tallies.sum()
    }

    /// The same by account; one that never asked is not there.
    pub fn tally_by_account(&self) -> impl Iterator<Item = (AccountId, Tally)> {
        self.tallies.0.iter().map(|(account, tally)| (*account, *tally))
    }
}

fn is_part(reply: &Bytes) -> bool {
    reply.starts_with(PART_PREFIX)
}

fn is_error(payload: &[u8]) -> bool {
    const ERROR: &[u8] = b"\"error\":{";
    let head = &payload[..payload.len().min(ERROR_WITHIN)];
    head.windows(ERROR.len()).any(|window| window == ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_count_once_and_parts_and_pulls_not_at_all() {
        let (mut tallies, account) = (Tallies::default(), AccountId(3));
        let (inbox, part) = (Bytes::from_static(b"_INBOX.a"), Bytes::from_static(b"$TRESTLE.PART.0.1"));
        tallies.asked(account, Call::StreamNames, Some(&inbox));
        tallies.asked(account, Call::StreamInfo { stream: "S" }, Some(&part));
        tallies.asked(account, Call::ConsumerNext { stream: "S", consumer: "C" }, Some(&inbox));
        let refusal = br#"{"type":"io.nats.jetstream.api.v1.stream_info_response","error":{"code":404}}"#;
        tallies.answered(account, &inbox, refusal);
        tallies.answered(account, &part, refusal);
        tallies.answered(account, &inbox, br#"{"type":"x","streams":[]}"#);
        assert_eq!(tallies.of(account), Tally { total: 1, errors: 1 });
        assert_eq!((tallies.of(AccountId(1)), tallies.sum()), (Tally::default(), Tally { total: 1, errors: 1 }));
    }
}
