//! A new configuration while clients are connected: who may not be here any more goes, the others live by the new
//! rules at once.

use std::sync::Arc;

use super::auth::Gate;
use super::close::CloseReason;
use super::front::Front;
use super::output::Level;
use crate::config::Config;
use crate::ids::Now;

impl Front {
    /// Takes a configuration over. A client stays when its user (or what else it came in by) is still there with the
    /// same secret and account; subscriptions that its new permissions forbid are ended, and it is told.
    pub fn reload(&mut self, now: Now, config: Arc<Config>) {
        self.accounts.reload(&config);
        self.open_exchanges();
        self.gate = Gate::new(&config, &self.accounts);
        self.config = config;
        for slot in 0..self.conns.len() as u32 {
            if self.conn(slot).is_some_and(|conn| conn.is_open()) {
                self.renew(now, slot);
            }
        }
        self.shed(now);
    }

    /// A limit that is now below what is connected: the latest go, from each core its share, so that what stays is
    /// within the limit without the cores agreeing on names.
    fn shed(&mut self, now: Now) {
        let Some(max) = self.config.limits.connections_max else { return };
        let slots = 0..self.conns.len() as u32;
        let mut open: Vec<(u64, u32)> = slots
            .filter_map(|slot| self.conn(slot).filter(|conn| conn.is_open()).map(|conn| (conn.cid, slot)))
            .collect();
        let here = open.len() as u64;
        let all = here + self.elsewhere.iter().map(|(_, count)| u64::from(*count)).sum::<u64>();
        if all <= u64::from(max) {
            return;
        }
        open.sort_unstable();
        let stay = (u64::from(max) * here / all) as usize;
        for (_, slot) in open.into_iter().skip(stay) {
            self.error(slot, "maximum connections exceeded");
            self.log_of(slot, Level::Error, "maximum connections exceeded");
            self.close(now, slot, CloseReason::ConnectionsMax);
        }
    }

    /// Judges a client by the rules as they are now.
    pub(super) fn renew(&mut self, now: Now, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        if !conn.counted {
            // Not let in yet: CONNECT will be judged by the new rules, or was never needed and is not now.
            conn.intake.parser.set_connect_only(self.gate.is_closed());
            return;
        }
        let pass = self.gate.renew(&conn.standing, &conn.connect);
        let Some(pass) = pass.filter(|pass| pass.account == conn.account) else {
            return self.auth_violation(now, slot);
        };
        conn.permit = pass.permit;
        let limits = self.parse_limits(Some(pass.account));
        let name = self.accounts.name(pass.account).to_string();
        if let Some(conn) = self.conn(slot) {
            conn.intake.parser.set_limits(limits);
            conn.facts = Arc::new(conn.to_facts(name));
        }
        self.recheck_subs(slot);
        self.rearm(slot);
    }

    fn recheck_subs(&mut self, slot: u32) {
        let Some(conn) = self.conn(slot) else { return };
        let Some(permit) = conn.permit.clone() else { return };
        let places: Vec<u32> = conn.subs.iter().map(|(place, _)| place).collect();
        for place in places {
            let Some(sub) = self.conn(slot).and_then(|conn| conn.subs.get_mut(place)) else { continue };
            let (filter, queue) = (sub.key.subject(), sub.key.queue());
            sub.guarded = permit.guards(filter, queue);
            if permit.may_subscribe(filter, queue) {
                continue;
            }
            let filter = String::from_utf8_lossy(filter);
            let using =
                queue.map(|queue| format!(" using queue {:?}", String::from_utf8_lossy(queue))).unwrap_or_default();
            let which = format!("{filter:?}{using} (sid {:?})", String::from_utf8_lossy(&sub.sid));
            let removed = format!("Removed sub {which} - not authorized");
            self.unsubscribe(slot, place);
            self.error(slot, &format!("Permissions Violation for Subscription to {which}"));
            self.log(Level::Info, || removed);
        }
    }
}
