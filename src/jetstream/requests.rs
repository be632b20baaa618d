//! Requests that reached the core of their group: publishes, acks and API calls, each handed to its machine; and the
//! machines' work at the end of a turn.

use bytes::Bytes;

use super::fetch::Parcel;
use super::hosted::call_of;
use super::rooms::{HELD_SUBJECT, Kept};
use super::tally::TALLY_SUBJECT;
use super::{JetStream, JsOutput};
use crate::api;
use crate::api::call::Call;
use crate::api::errors::{self, ApiError};
use crate::api::verdict::{ConsumerVerdict, MetaVerdict, StreamVerdict};
use crate::cluster::table::Asked;
use crate::cluster::view::View;
use crate::cluster::wire::{NodeMsg, Request, RequestKind};
use crate::consumer::{ConsumerOutput, Delivery};
use crate::group::ProposeRefused;
use crate::ids::{AccountId, GroupId, Now, ServerId};
use crate::limits::{FORWARD_HOPS_MAX, META_WAITING_MAX};
use crate::reply::Reply;
use crate::stream::{Answer, Publish};

impl JetStream {
    pub fn on_request(&mut self, now: Now, view: &View, request: Request) {
        match request.kind {
            RequestKind::Ingest => self.on_ingest(now, view, request),
            RequestKind::Ack => self.on_ack(now, view, request),
            RequestKind::Api if request.subject == TALLY_SUBJECT => self.tell_tally(&request),
            RequestKind::Api if request.subject == HELD_SUBJECT => self.on_held(&request),
            RequestKind::Api | RequestKind::Read => {
                self.count(&request);
                self.on_api(now, view, request);
            }
        }
    }

    /// Requests that this core itself has for the leaders of groups elsewhere.
    pub fn poll_ask(&mut self) -> Option<NodeMsg> {
        self.asks.pop_front()
    }

    pub(super) fn on_bounce(&mut self, now: Now, group: GroupId, token: u64) {
        if let Some(hosted) = self.consumers.get_mut(&group) {
            hosted.consumer.bounced(now, token);
            self.busy_consumers.insert(group);
        }
    }

    /// Pulls whose inbox `unheard` says nobody listens to any more are dropped.
    pub fn drop_unheard(&mut self, unheard: &mut dyn FnMut(AccountId, &[u8]) -> bool) {
        for (group, hosted) in self.consumers.iter_mut().filter(|(_, hosted)| hosted.leading) {
            if hosted.consumer.drop_unheard(unheard) {
                self.busy_consumers.insert(*group);
            }
        }
    }

    /// This server stops: the pulls that wait here are told.
    pub fn end_pulls(&mut self) {
        for (group, hosted) in &mut self.consumers {
            hosted.consumer.shut_down();
            self.busy_consumers.insert(*group);
        }
    }

    fn on_ingest(&mut self, now: Now, view: &View, request: Request) {
        let Some(hosted) = self.streams.get(&request.group).filter(|hosted| hosted.leading) else {
            return self.forward(view, request);
        };
        let (account, kept) = (hosted.stream.account(), Kept::of(hosted.stream.config()));
        let Request { group, origin, subject, reply, headers, payload, .. } = request;
        let publish = Publish { origin, subject, reply, headers, payload };
        let room = self.room(now, view, &publish, account, kept);
        let Some(hosted) = self.streams.get_mut(&group) else { return };
        let before = hosted.stream.held_bytes();
        let answer = hosted.stream.ingest_within(now, publish, room);
        let taken = hosted.stream.held_bytes().saturating_sub(before);
        if room.is_some() {
            self.took(account, kept, taken);
        }
        self.out.extend(answer.map(JsOutput::Reply));
        self.busy_streams.insert(group);
    }

    fn on_ack(&mut self, now: Now, view: &View, request: Request) {
        let Some(hosted) = self.consumers.get_mut(&request.group).filter(|hosted| hosted.leading) else {
            return self.forward(view, request);
        };
        let answer = request.reply.map(|reply| (request.origin, reply));
        hosted.consumer.on_ack(now, &request.subject, &request.payload, answer);
        self.busy_consumers.insert(request.group);
    }

    /// The sender believed that this server leads the group: perhaps another one does by now.
    fn forward(&mut self, view: &View, mut request: Request) {
        request.hops = request.hops.saturating_add(1);
        let leader = view.leads.leader(request.group);
        if request.hops <= FORWARD_HOPS_MAX && leader.is_some_and(|leader| leader != self.me.server) {
            self.asks.push_back(NodeMsg::Request(request));
        } else if matches!(request.kind, RequestKind::Api | RequestKind::Read) {
            let offline = match self.consumers.contains_key(&request.group) {
                true => errors::CONSUMER_OFFLINE_REASON,
                false => errors::STREAM_OFFLINE_REASON,
            };
            let why = self.groups.why_closed(request.group).map(|why| offline.with("err", why));
            self.refuse(&request, &why.unwrap_or(errors::CLUSTER_NOT_AVAIL));
        }
    }

    fn refuse(&mut self, request: &Request, error: &ApiError) {
        let domain = self.config.jetstream.as_ref().and_then(|js| js.domain.as_deref());
        let Some(call) = call_of(&request.subject, domain) else { return };
        if let Some(answer) = answer_of(request) {
            let (headers, payload) = api::render::refusal(call, error);
            self.answer(&answer, headers, payload);
        }
    }

    pub(super) fn on_api(&mut self, now: Now, view: &View, request: Request) {
        let domain = self.config.jetstream.as_ref().and_then(|js| js.domain.clone());
        let subject = request.subject.clone();
        let Some(call) = call_of(&subject, domain.as_deref()) else { return };
        if let Err(error) = api::meta::check_level(request.headers.as_deref()) {
            return self.refuse(&request, &error);
        }
        let leads = |hosted: bool| hosted || request.kind == RequestKind::Read;
        if request.group == GroupId::META {
            if self.leads_meta() { self.on_meta_call(now, view, call, &request) } else { self.forward(view, request) }
        } else if self.streams.get(&request.group).is_some_and(|s| s.restored && leads(s.leading)) {
            self.on_stream_call(now, view, call, &request);
        } else if self.consumers.get(&request.group).is_some_and(|c| c.restored && c.leading) {
            self.on_consumer_call(now, view, call, &request);
        } else {
            self.forward(view, request);
        }
    }

    fn on_meta_call(&mut self, now: Now, view: &View, call: Call, request: &Request) {
        let Some(facts) = self.facts(now, view, request.account) else { return };
        let asked = request.reply.as_ref().map(|reply| Asked {
            server: request.origin.server.0,
            core: request.origin.core,
            subject: String::from_utf8_lossy(reply).into_owned(),
            pause: false,
        });
        let verdict = api::meta::decide(&facts, call, asked, request.headers.as_deref(), &request.payload);
        self.carry_out(now, view, request, verdict);
    }

    fn carry_out(&mut self, now: Now, view: &View, request: &Request, verdict: MetaVerdict) {
        match verdict {
            MetaVerdict::Answer(payload) => self.answer_request(request, None, payload),
            MetaVerdict::ProposeAnd { entries, then } => {
                if entries.iter().all(|entry| self.propose_meta(now, entry)) {
                    self.carry_out(now, view, request, *then);
                } else {
                    self.refuse_proposal(request);
                }
            }
            MetaVerdict::Propose(entries) => {
                if !entries.iter().all(|entry| self.propose_meta(now, entry)) {
                    self.refuse_proposal(request);
                }
            }
            MetaVerdict::Later => match self.meta.as_mut().filter(|meta| meta.waiting.len() < META_WAITING_MAX) {
                Some(meta) => meta.waiting.push(request.clone()),
                None => self.refuse(request, &errors::CLUSTER_NOT_AVAIL),
            },
            MetaVerdict::Forward(group) => {
                let request = Request { group, hops: 0, ..request.clone() };
                self.unled.push((now.us + UNLED_WAIT_US, request));
                self.send_unled(now, view);
            }
            MetaVerdict::Gather(gather) => {
                let Some(answer) = answer_of(request) else { return };
                if !self.gather(now, view, gather, request.account, answer) {
                    self.refuse(request, &errors::CLUSTER_NOT_AVAIL);
                }
            }
            MetaVerdict::Stepdown { to, answer } => {
                self.answer_request(request, None, answer);
                self.groups.transfer(now, GroupId::META, to);
            }
        }
    }

    /// What could not be proposed to the meta group, with the likely reason.
    fn refuse_proposal(&mut self, request: &Request) {
        let full = self.groups.is_full();
        let error = if full { errors::INSUFFICIENT_RESOURCES } else { errors::CLUSTER_NOT_AVAIL };
        self.refuse(request, &error);
    }

    fn on_stream_call(&mut self, now: Now, view: &View, call: Call, request: &Request) {
        let Some(status) = self.groups.status(request.group) else { return };
        let Some(mut hosted) = self.streams.remove(&request.group) else { return };
        let verdict = self.facts(now, view, request.account).map(|facts| {
            api::stream::decide(&facts, &mut hosted.stream, &status, call, answer_of(request), &request.payload)
        });
        self.streams.insert(request.group, hosted);
        match verdict {
            None => {}
            Some(StreamVerdict::Answer(payload)) => self.answer_request(request, None, payload),
            Some(StreamVerdict::Status { headers }) => self.answer_request(request, Some(headers), Bytes::new()),
            Some(StreamVerdict::Proposed) => {
                self.busy_streams.insert(request.group);
            }
            Some(StreamVerdict::Read(read)) => {
                if let Some(answer) = answer_of(request) {
                    self.read_for(now, view, request.group, read, answer);
                }
            }
            Some(StreamVerdict::Stepdown { to, answer }) => self.step_down(now, request, to, answer),
        }
    }

    fn on_consumer_call(&mut self, now: Now, view: &View, call: Call, request: &Request) {
        let Some(status) = self.groups.status(request.group) else { return };
        let Some(mut hosted) = self.consumers.remove(&request.group) else { return };
        let stream = self.streams.get(&hosted.stream);
        let verdict = self.facts(now, view, request.account).zip(stream).map(|(facts, stream)| {
            let (origin, reply) = (request.origin, request.reply.clone());
            let consumer = &mut hosted.consumer;
            api::consumer::decide(&facts, consumer, &stream.stream, &status, call, origin, reply, &request.payload)
        });
        self.consumers.insert(request.group, hosted);
        self.busy_consumers.insert(request.group);
        match verdict {
            None | Some(ConsumerVerdict::Taken) => {}
            Some(ConsumerVerdict::Answer(payload)) => self.answer_request(request, None, payload),
            Some(ConsumerVerdict::Status { headers }) => self.answer_request(request, Some(headers), Bytes::new()),
            Some(ConsumerVerdict::Stepdown { to, answer }) => self.step_down(now, request, to, answer),
        }
    }

    fn step_down(&mut self, now: Now, request: &Request, to: Option<ServerId>, answer: Bytes) {
        self.answer_request(request, None, answer);
        self.groups.transfer(now, request.group, to);
    }

    pub(super) fn answer_request(&mut self, request: &Request, headers: Option<Bytes>, payload: Bytes) {
        if let Some(answer) = answer_of(request) {
            self.answer(&answer, headers, payload);
        }
    }

    /// A group that was just created elects its leader first: what is forwarded to it waits for that.
    pub(super) fn send_unled(&mut self, now: Now, view: &View) {
        for (deadline_us, request) in std::mem::take(&mut self.unled) {
            if view.leads.leader(request.group).is_some() {
                self.asks.push_back(NodeMsg::Request(request));
            } else if deadline_us <= now.us {
                self.refuse(&request, &errors::CLUSTER_NOT_AVAIL);
            } else {
                self.unled.push((deadline_us, request));
            }
        }
    }

    /// Streams propose what they gathered in this turn.
    pub(super) fn turn_streams(&mut self, now: Now, view: &View) {
        for group in std::mem::take(&mut self.busy_streams) {
            let Some(hosted) = self.streams.get_mut(&group) else { continue };
            if hosted.leading && self.groups.awaits_space(group) {
                self.drain_stream(now, view, group);
                let due_us = self.streams.get(&group).and_then(|hosted| hosted.stream.next_wakeup(now));
                self.stream_timers.set(group, due_us.map(|due_us| due_us.max(now.us + SPACE_LOOK_US)));
                continue;
            }
            if hosted.leading {
                let bodies = hosted.stream.take_entries(now);
                let count = bodies.len();
                for (at, body) in bodies.into_iter().enumerate() {
                    let proposed = if crate::stream::record::gives_back(&body) {
                        self.groups.propose_relief(now, group, body)
                    } else {
                        self.groups.propose(now, group, body)
                    };
                    if let Err(refused) = proposed {
                        hosted.stream.refuse_taken(count - at, &refusal(refused));
                        break;
                    }
                }
            }
            self.drain_stream(now, view, group);
        }
    }

    pub(super) fn turn_consumers(&mut self, now: Now) {
        for group in std::mem::take(&mut self.busy_consumers) {
            let Some(hosted) = self.consumers.get_mut(&group) else { continue };
            if let Some(stream) = self.streams.get(&hosted.stream)
                && hosted.restored
                // One that is still being read has nothing to deliver, and pulls must not be told so.
                && stream.restored
            {
                hosted.consumer.turn(now, &stream.stream);
            }
            self.drain_consumer(now, group);
        }
    }

    pub(super) fn drain_consumer(&mut self, now: Now, group: GroupId) {
        while let Some(hosted) = self.consumers.get_mut(&group) {
            let Some(output) = hosted.consumer.poll_output() else { break };
            let account = hosted.consumer.identity().account;
            match output {
                ConsumerOutput::Deliver(delivery) => {
                    let stream = hosted.stream;
                    let parcel = parcel_of(group, stream, account, delivery);
                    hosted.parcels.push_back(parcel);
                }
                ConsumerOutput::Reply(reply) => hosted.parcels.push_back(Parcel::Ready(reply)),
                ConsumerOutput::Propose(body) => {
                    if self.groups.propose(now, group, body).is_err()
                        && let Some(hosted) = self.consumers.get_mut(&group)
                    {
                        hosted.consumer.propose_refused(now);
                    }
                }
                ConsumerOutput::Advisory(advisory) => {
                    let (subject, payload) = (advisory.subject.into(), advisory.json.into());
                    self.out.push_back(JsOutput::Publish { account, subject, payload });
                }
                ConsumerOutput::Probe { to, inbox, token } => {
                    self.out.push_back(JsOutput::Send {
                        to,
                        msg: NodeMsg::Probe { account, subject: inbox, group, token },
                    });
                }
                ConsumerOutput::Expired => self.ask_to_drop(group),
                ConsumerOutput::Released { below_index } => self.groups.release(group, below_index),
            }
        }
        self.pump_parcels(now, group);
        if let Some(hosted) = self.consumers.get(&group) {
            // Before its stream has been read, and beside one that stays closed, it has no turn that could do anything.
            let ready = self.streams.get(&hosted.stream).is_some_and(|stream| stream.restored);
            self.consumer_timers.set(group, hosted.consumer.next_wakeup().filter(|_| ready));
        }
    }

    pub(super) fn wake_streams(&mut self, now: Now) {
        while let Some(group) = self.stream_timers.pop(now.us) {
            self.busy_streams.insert(group);
        }
    }

    pub(super) fn wake_consumers(&mut self, now: Now) {
        while let Some(group) = self.consumer_timers.pop(now.us) {
            self.busy_consumers.insert(group);
        }
    }
}

/// How long a forwarded request waits for its group's first leader, microseconds: several elections.
const UNLED_WAIT_US: u64 = 2_000_000;

/// How often a stream whose log is making a segment looks whether it is there, microseconds: making one takes some
/// milliseconds, or as long as the disk has no time for it.
const SPACE_LOOK_US: u64 = 2_000;

fn answer_of(request: &Request) -> Option<Answer> {
    let subject = request.reply.clone()?;
    Some(Answer { to: request.origin, account: request.account, subject })
}

fn parcel_of(group: GroupId, stream: GroupId, account: crate::ids::AccountId, delivery: Delivery) -> Parcel {
    let Delivery { to, inbox, seq, ack_subject, token, headers_only } = delivery;
    let reply = Reply {
        to,
        account,
        subject: inbox,
        shown: None,
        reply: Some(ack_subject),
        headers: None,
        payload: Bytes::new(),
        bounce: Some((group, token)),
    };
    Parcel::Delivery { reply, stream, seq, headers_only, token: None }
}

/// What a publisher hears when its message cannot be proposed.
fn refusal(refused: ProposeRefused) -> ApiError {
    match refused {
        ProposeRefused::Full | ProposeRefused::TooLarge => errors::INSUFFICIENT_RESOURCES,
        _ => errors::CLUSTER_NOT_AVAIL,
    }
}
