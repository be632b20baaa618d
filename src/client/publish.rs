//! From a message to everybody who gets it: clients here, services, streams, other cores and servers.

use std::sync::Arc;

use super::close::CloseReason;
use super::front::Front;
use super::moving::Passage;
use super::output::{FrontOutput, Inward, Level};
use crate::cluster::interest::Node;
use crate::cluster::wire::{NodeMsg, Routed};
use crate::ids::{AccountId, CoreId, Now};
use crate::route::{Message, Scope};

impl Front {
    /// Hands a message to all who should get it; true when there was anybody. `from`: the client that published it.
    pub(super) fn route(
        &mut self,
        now: Now,
        from: Option<u32>,
        account: AccountId,
        scope: Scope<'_>,
        message: Message,
    ) -> bool {
        let Some(exchange) = self.exchanges.get_mut(account.0 as usize) else { return false };
        exchange.list.matches(message.address(), &mut self.matches);
        if self.matches.is_empty() {
            return false;
        }
        let conns = &self.conns;
        let source = scope.core().unwrap_or(self.options.place.core);
        let takes = |slot: u32, place: u32| {
            let conn = conns.get(slot as usize).and_then(Option::as_ref);
            conn.is_some_and(|conn| conn.hears(source) && conn.takes(place, from == Some(slot), message.address()))
        };
        self.plan.fill(scope, &self.matches, &exchange.interest, &mut self.lot, &takes);
        let mut plan = std::mem::take(&mut self.plan);
        self.watch(from, message.reply.is_some(), &plan);
        let mut heard = false;
        let origin = scope.core();
        for (slot, place) in &plan.clients {
            heard |= self.deliver(now, from, origin, *slot, *place, &message);
        }
        for (conn, sub) in &plan.moved {
            heard |= self.forward(source, *conn, *sub, &message);
        }
        for share in plan.shares.drain(..) {
            heard = true;
            if let Node::Core(core) = share.node {
                self.leaves_for(now, from, core, &message);
            }
            self.counts.routed.out_msgs += 1;
            self.counts.routed.out_bytes += message.len() as u64;
            let routed = routed(account, &message, share.plain, share.queues);
            self.outputs.push_back(FrontOutput::ToNode { node: share.node, msg: NodeMsg::Message(routed) });
        }
        for service in &plan.services {
            heard = true;
            let client = from.and_then(|slot| self.conn(slot)).map(|conn| Arc::clone(&conn.facts));
            let message = Inward::of(account, &message);
            self.outputs.push_back(FrontOutput::Service { service: *service, message, client });
        }
        for group in &plan.streams {
            heard = true;
            let message = Inward::of(account, &message);
            self.outputs.push_back(FrontOutput::Ingest { group: *group, message });
        }
        self.plan = plan;
        heard
    }

    /// Hands a message to a client, now or once it has arrived from another core.
    fn deliver(
        &mut self,
        now: Now,
        from: Option<u32>,
        origin: Option<CoreId>,
        slot: u32,
        place: u32,
        message: &Message,
    ) -> bool {
        if let Some(Passage::Arriving(arriving)) = self.conn(slot).and_then(|conn| conn.passage.as_deref_mut()) {
            let held = arriving.hold(place, message);
            if held > self.config.limits.pending_bytes_max {
                self.cut_slow(now, slot);
            }
            return true;
        }
        self.hand(now, from, origin, slot, place, message)
    }

    /// Queues a message for one subscription.
    pub(super) fn hand(
        &mut self,
        now: Now,
        from: Option<u32>,
        origin: Option<CoreId>,
        slot: u32,
        place: u32,
        message: &Message,
    ) -> bool {
        let pending_max = self.config.limits.pending_bytes_max;
        let Some(conn) = self.conns.get_mut(slot as usize).and_then(Option::as_mut) else { return false };
        if !conn.is_open() {
            return false;
        }
        let Some(sub) = conn.subs.get_mut(place) else { return false };
        sub.received += 1;
        let over = sub.max.is_some_and(|max| sub.received >= max);
        let headers = conn.connect.headers;
        conn.out.message(&sub.sid, message, headers);
        let bytes = if headers { message.len() } else { message.payload.len() } as u64;
        conn.traffic.out_msgs += 1;
        conn.traffic.out_bytes += bytes;
        conn.pulse.last_wall_ns = now.wall_ns;
        if let (Some(permit), Some(reply)) = (&conn.permit, &message.reply)
            && permit.responses().is_some()
            && !permit.may_publish(reply)
        {
            conn.replies.open(now, reply);
        }
        let pending = conn.out.pending() as u64;
        let exchange = &mut self.exchanges[conn.account.0 as usize];
        exchange.traffic.out_msgs += 1;
        exchange.traffic.out_bytes += bytes;
        self.mark(slot);
        if over {
            self.unsubscribe(slot, place);
        }
        if pending > pending_max {
            self.cut_slow(now, slot);
        } else if pending > pending_max / 4 * 3 {
            self.stall(now, from);
            if let Some(core) = origin {
                self.push_back(now, core);
            }
        }
        true
    }

    fn cut_slow(&mut self, now: Now, slot: u32) {
        let max = self.config.limits.pending_bytes_max;
        self.counts.slow_pending += 1;
        let Some(conn) = self.conn(slot) else { return };
        let (label, account) = (conn.label.clone(), conn.account);
        self.exchanges[account.0 as usize].slow_consumers += 1;
        self.log(Level::Info, || format!("{label} - Slow Consumer Detected: MaxPending of {max} Exceeded"));
        self.close(now, slot, CloseReason::SlowConsumerPending);
    }
}

fn routed(account: AccountId, message: &Message, plain: bool, queues: Vec<bytes::Bytes>) -> Routed {
    let Message { subject, inbox, reply, headers, payload } = message.clone();
    Routed { account, subject, inbox, reply, headers, payload, plain, queues }
}
