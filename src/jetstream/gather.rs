//! Answers that are made of other servers' answers: listings and account totals.
//!
//! Every part is an ordinary request whose answer comes back to a subject that only this core knows.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{JetStream, JsOutput};
use crate::api;
use crate::api::verdict::{Gather, GatherKind};
use crate::cluster::view::View;
use crate::cluster::wire::{NodeMsg, Request, RequestKind};
use crate::ids::{AccountId, Now};
use crate::limits::{API_GATHER_US, API_GATHERS_MAX};
use crate::reply::Reply;
use crate::stream::Answer;

/// Subjects of parts begin so. No client can listen there: the hub takes such replies before they are published.
pub const PART_PREFIX: &[u8] = b"$TRESTLE.PART.";

struct Pending {
    kind: GatherKind,
    answer: Answer,
    parts: Vec<Option<Bytes>>,
    missing: usize,
    deadline_us: u64,
}

#[derive(Default)]
pub(super) struct Gathers {
    next: u64,
    pending: BTreeMap<u64, Pending>,
}

impl Gathers {
    pub(super) fn next_wakeup(&self) -> Option<u64> {
        self.pending.values().map(|pending| pending.deadline_us).min()
    }
}

impl JetStream {
    /// Asks for every part. False when too many gathers are under way.
    pub(super) fn gather(&mut self, now: Now, view: &View, gather: Gather, account: AccountId, answer: Answer) -> bool {
        if self.gathers.pending.len() >= API_GATHERS_MAX {
            return false;
        }
        let id = self.gathers.next;
        self.gathers.next += 1;
        let reply = |n: usize| format!("{}{id}.{n}", String::from_utf8_lossy(PART_PREFIX));
        let totals = matches!(gather.kind, GatherKind::AccountInfo { .. });
        let counters = if totals { self.tally_places(view) } else { Vec::new() };
        let asked = gather.parts.len();
        let count = asked + counters.len();
        for (n, (group, subject, payload)) in gather.parts.into_iter().enumerate() {
            self.asks.push_back(NodeMsg::Request(Request {
                group,
                hops: 0,
                origin: self.me,
                account,
                kind: RequestKind::Api,
                subject,
                reply: Some(reply(n).into()),
                headers: None,
                payload,
            }));
        }
        for (n, to) in counters.into_iter().enumerate() {
            let msg = self.tally_request(account, reply(asked + n).into());
            self.out.push_back(JsOutput::Send { to, msg });
        }
        let pending = Pending {
            kind: gather.kind,
            answer,
            parts: vec![None; count],
            missing: count,
            deadline_us: now.us + API_GATHER_US,
        };
        self.gathers.pending.insert(id, pending);
        if count == 0 {
            self.finish_gather(now, view, id);
        }
        true
    }

    /// Takes a reply that is a part; gives back what is not.
    pub fn take_part(&mut self, now: Now, view: &View, reply: Reply) -> Option<Reply> {
        let Some(rest) = reply.subject.strip_prefix(PART_PREFIX) else { return Some(reply) };
        let mut numbers = std::str::from_utf8(rest).unwrap_or("").split('.').map(|n| n.parse::<u64>().ok());
        let (Some(Some(id)), Some(Some(n))) = (numbers.next(), numbers.next()) else { return None };
        let pending = self.gathers.pending.get_mut(&id)?;
        let part = usize::try_from(n).ok().and_then(|n| pending.parts.get_mut(n))?;
        if part.replace(reply.payload).is_none() {
            pending.missing -= 1;
        }
        if pending.missing == 0 {
            self.finish_gather(now, view, id);
        }
        None
    }

    pub(super) fn wake_gathers(&mut self, now: Now, view: &View) {
        let due = |pending: &Pending| pending.deadline_us <= now.us;
        let late: Vec<u64> = self.gathers.pending.iter().filter(|(_, p)| due(p)).map(|(id, _)| *id).collect();
        for id in late {
            self.finish_gather(now, view, id);
        }
    }

    fn finish_gather(&mut self, now: Now, view: &View, id: u64) {
        let Some(pending) = self.gathers.pending.remove(&id) else { return };
        let Some(facts) = self.facts(now, view, pending.answer.account) else { return };
        let payload = api::list::finish(&facts, &pending.kind, &pending.parts);
        self.answer(&pending.answer, None, payload);
    }
}
