//! Requests of clients to the server itself, on their way to the group that answers, and the answers' way back; and the pages.

use std::sync::Arc;

use bytes::Bytes;
use net::client::headers::no_responders;

use super::{LINK_CORE, Shard, in_service};
use crate::api;
use crate::client::{ClientFacts, Inward, Service};
use crate::cluster::wire::NodeMsg;
use crate::cluster::wire::{Request, RequestKind};
use crate::consumer::ack::AckSubject;
use crate::event::{Effect, Mail};
use crate::ids::{AccountId, ConnId, CoreId, GroupId, Place};
use crate::jetstream::JetStream;
use crate::reply::Reply;
use crate::system::{SystemOutput, audit};

impl Shard {
    pub(super) fn register_services(&mut self) {
        let clustered = self.config.cluster.is_some();
        if self.js.is_some() || clustered {
            let domain = self.config.jetstream.as_ref().and_then(|js| js.domain.clone());
            let accounts: Vec<AccountId> = self.accounts.iter().map(|account| account.id).collect();
            for account in accounts {
                self.front.service(account, Bytes::from_static(b"$JS.API.>"), Service::Api, false);
                self.front.service(account, Bytes::from_static(b"$JS.ACK.>"), Service::Ack, false);
                if let Some(domain) = &domain {
                    let filter = format!("$JS.{domain}.API.>");
                    self.front.service(account, filter.into(), Service::Api, false);
                }
            }
        }
        self.system.register(&mut self.front, &self.accounts, self.me.core == LINK_CORE);
    }

    /// Finds out which group answers an API request, and sends it there.
    pub(super) fn on_api(&mut self, message: Inward, client: Option<Arc<ClientFacts>>) {
        let Inward { account, subject, reply, headers, payload } = message;
        if let Some(reply) = &reply
            && api::call::is_audited(&subject)
            && self.front.has_interest(account, audit::SUBJECT)
        {
            self.system.audit_asked(account, &subject, reply, &payload, client);
        }
        // The peer drops a pull that nobody waits for; delivered, its messages would count as tries.
        let unheard = |reply: &Bytes| !self.front.has_interest(account, reply);
        if api::call::is_pull(&subject) && reply.as_ref().is_some_and(unheard) {
            return;
        }
        let entry = api::enter::enter(
            &self.config,
            &self.accounts,
            self.serving().map(JetStream::table),
            &self.view,
            account,
            &subject,
            &payload,
        );
        match entry {
            api::enter::Entry::To { group, kind, server } => {
                let origin = self.me;
                let request = Request { group, hops: 0, origin, account, kind, subject, reply, headers, payload };
                let to = self.view.place_of(group, server);
                self.front.asked(self.way_to(to));
                self.send(to, NodeMsg::Request(request));
            }
            api::enter::Entry::Refuse(payload) => {
                if let Some((js, reply)) = self.js.as_mut().zip(reply.as_ref()) {
                    js.refused_at_once(account, &subject, reply, &payload);
                }
                self.answer_here(account, reply, None, payload);
            }
            api::enter::Entry::NoResponders => {
                self.answer_here(account, reply, Some(no_responders(&subject)), Bytes::new());
            }
            api::enter::Entry::Silent => {}
        }
    }

    fn answer_here(&mut self, account: AccountId, reply: Option<Bytes>, headers: Option<Bytes>, payload: Bytes) {
        let Some(subject) = reply else { return };
        let to = self.me;
        self.on_reply(Reply { to, account, subject, reply: None, headers, payload, shown: None, bounce: None });
    }

    pub(super) fn on_ack(&mut self, message: Inward) {
        let Inward { account, subject, reply, .. } = &message;
        match self.acknowledged(*account, subject) {
            Some(group) => self.ask_leader(group, RequestKind::Ack, Inward { headers: None, ..message }),
            None => self.answer_here(*account, reply.clone(), Some(no_responders(subject)), Bytes::new()),
        }
    }

    /// Pulls that nobody waits for any more go, so that no message is spent on them.
    pub(super) fn drop_unheard(&mut self) {
        let Some(hints) = self.front.lost().look(self.now) else { return };
        let front = &mut self.front;
        if let Some(js) = &mut self.js {
            js.drop_unheard(&mut |account, inbox| hints.cover(account, inbox) && !front.has_interest(account, inbox));
        }
    }

    /// The consumer that an ack is for, if somebody leads it.
    fn acknowledged(&self, account: AccountId, subject: &[u8]) -> Option<GroupId> {
        let ack = AckSubject::parse(subject)?;
        let (stream, consumer) = (std::str::from_utf8(ack.stream).ok()?, std::str::from_utf8(ack.consumer).ok()?);
        Some(self.view.leads.consumer(account, stream, consumer)?.group)
    }

    pub(super) fn ask_leader(&mut self, group: GroupId, kind: RequestKind, message: Inward) {
        let Some(to) = self.view.leader_place(group) else { return };
        self.front.asked(self.way_to(to));
        let origin = self.me;
        let Inward { account, subject, reply, headers, payload } = message;
        let request = Request { group, hops: 0, origin, account, kind, subject, reply, headers, payload };
        self.send(to, NodeMsg::Request(request));
    }

    /// The core of this server by which a place is reached.
    fn way_to(&self, to: Place) -> CoreId {
        if to.server == self.me.server { to.core } else { LINK_CORE }
    }

    pub(super) fn on_request(&mut self, request: Request) {
        if let Some(js) = &mut self.js {
            js.on_request(self.now, &self.view, request);
        }
    }

    /// A reply for a client of this core.
    pub(super) fn on_reply(&mut self, reply: Reply) {
        let reply = match &mut self.js {
            Some(js) => js.take_part(self.now, &self.view, reply),
            None => Some(reply),
        };
        if let Some(reply) = reply {
            self.system.audit_answered(self.now, &reply);
            self.front.reply(self.now, reply);
            self.drain_front();
        }
    }

    /// What the pages want done.
    pub(super) fn drain_system(&mut self) {
        while let Some(output) = self.system.poll_output(self.now, &mut self.front, in_service(&self.js), &self.view) {
            match output {
                SystemOutput::Publish { account, subject, reply, headers, payload } => {
                    self.front.publish(self.now, account, subject, reply, headers, payload);
                }
                SystemOutput::Http { conn, status, content_type, body } => {
                    self.effects.push_back(Effect::HttpReply { conn, status, content_type, body });
                }
                SystemOutput::Ask { id, page } => self.mail_all(|| Mail::PageAsk { id, page: page.clone() }),
                SystemOutput::Reload { id } => self.effects.push_back(Effect::Reload { id }),
                SystemOutput::LameDuck { cid } => self.front.lame_duck_client(cid),
                SystemOutput::Kick { cid } => {
                    self.front.kick(self.now, cid);
                }
            }
            self.drain_front();
        }
    }

    pub(super) fn on_http(&mut self, conn: ConnId, target: &str) {
        self.system.on_http(self.now, conn, target);
    }
}
