//! Who gets a message: from what a subject list found to the places it goes.
//!
//! ```text
//!                    subject list of the account
//!   published here ──► clients here · services · streams · other cores · other servers
//!   from a core    ──► clients here · announced services
//!   from a server  ──► clients here · announced services · other cores     (only the core that owns the links sees it)
//! ```
//!
//! A message from another node is never sent on to where it could come back from, so no message goes round. A plain
//! subscriber gets it once however many filters of its node match; of each queue group one member gets it, chosen by
//! lot among all members on this server, and only without any there on another server.
//!
//! This file decides and delivers nothing; the lot comes from a seeded generator that is handed in.

use bytes::Bytes;
use net::sublist::Matches;

use crate::client::output::Service;
use crate::cluster::interest::{Interest, Node};
use crate::ids::{ConnId, CoreId, GroupId};

/// Nodes that one message goes to at most at first; more only cost a reallocation.
const SHARES_USUAL: usize = 8;

/// One message on its way, as handles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What subscribers are shown.
    pub subject: Bytes,
    /// By which they are found, where that is another one.
    pub inbox: Option<Bytes>,
    pub reply: Option<Bytes>,
    /// A whole block, closing blank line included.
    pub headers: Option<Bytes>,
    pub payload: Bytes,
}

impl Message {
    /// The subject by which subscribers are found.
    pub fn address(&self) -> &Bytes {
        self.inbox.as_ref().unwrap_or(&self.subject)
    }

    /// Headers and payload.
    pub fn len(&self) -> usize {
        self.headers.as_ref().map_or(0, Bytes::len) + self.payload.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What stands in a subject list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A client of this core: its place among the connections and the subscription's place in it.
    Client { conn: u32, sub: u32 },
    /// A subscription that has just left with its client for another core.
    Moved { conn: ConnId, sub: u32 },
    /// An internal subscriber; an announced one also gets what other nodes publish.
    Service { service: Service, announced: bool },
    /// A stream that has this subject.
    Stream(GroupId),
    /// Another node, as an entry of the account's [`Interest`].
    Remote(u32),
}

/// Where a message came from, which bounds where it may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Published on this core, by a client or by the server itself.
    Here,
    /// For these subscribers only: plain ones if `plain`, and one member of each group named.
    FromCore {
        core: CoreId,
        plain: bool,
        queues: &'a [Bytes],
    },
    FromServer {
        plain: bool,
        queues: &'a [Bytes],
    },
}

impl Scope<'_> {
    fn wants_plain(&self) -> bool {
        match self {
            Scope::Here => true,
            Scope::FromCore { plain, .. } | Scope::FromServer { plain, .. } => *plain,
        }
    }

    fn wants_queue(&self, queue: &Bytes) -> bool {
        match self {
            Scope::Here => true,
            Scope::FromCore { queues, .. } | Scope::FromServer { queues, .. } => queues.contains(queue),
        }
    }

    fn reaches(&self, node: Node) -> bool {
        match self {
            Scope::Here => true,
            Scope::FromCore { .. } => false,
            Scope::FromServer { .. } => matches!(node, Node::Core(_)),
        }
    }

    /// The core of this server that it came from.
    pub fn core(&self) -> Option<CoreId> {
        match self {
            Scope::FromCore { core, .. } => Some(*core),
            Scope::Here | Scope::FromServer { .. } => None,
        }
    }

    fn is_here(&self) -> bool {
        matches!(self, Scope::Here)
    }
}

/// What another node is asked to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    pub node: Node,
    pub plain: bool,
    pub queues: Vec<Bytes>,
}

/// Where one message goes. Kept and filled again and again, so that a message costs no allocation.
#[derive(Debug, Default)]
pub struct Plan {
    /// Subscriptions of clients here: connection and subscription.
    pub clients: Vec<(u32, u32)>,
    /// The same of clients that have left for another core, and may still get it by this one.
    pub moved: Vec<(ConnId, u32)>,
    pub services: Vec<Service>,
    /// Each stream once.
    pub streams: Vec<GroupId>,
    pub shares: Vec<Share>,
}

impl Plan {
    pub fn new() -> Plan {
        Plan { shares: Vec::with_capacity(SHARES_USUAL), ..Plan::default() }
    }

    pub fn clear(&mut self) {
        self.clients.clear();
        self.moved.clear();
        self.services.clear();
        self.streams.clear();
        self.shares.clear();
    }

    /// Fills the plan. `takes` says whether a client's subscription would really take the message (it is open, and
    /// does not refuse its own messages).
    pub fn fill(
        &mut self,
        scope: Scope<'_>,
        matches: &Matches<Target>,
        interest: &Interest,
        lot: &mut Lot,
        takes: &dyn Fn(u32, u32) -> bool,
    ) {
        self.clear();
        for target in &matches.plain {
            self.add_plain(scope, *target, interest, takes);
        }
        for (queue, members) in &matches.queues {
            if scope.wants_queue(queue) {
                self.add_queue(scope, queue, members, interest, lot, takes);
            }
        }
    }

    fn add_plain(&mut self, scope: Scope<'_>, target: Target, interest: &Interest, takes: &dyn Fn(u32, u32) -> bool) {
        match target {
            Target::Client { conn, sub } if scope.wants_plain() && takes(conn, sub) => self.clients.push((conn, sub)),
            Target::Moved { conn, sub } if scope.wants_plain() => self.moved.push((conn, sub)),
            Target::Service { service, announced } if scope.is_here() || (announced && scope.wants_plain()) => {
                self.services.push(service);
            }
            Target::Stream(group) if scope.is_here() && !self.streams.contains(&group) => self.streams.push(group),
            Target::Remote(slot) if scope.wants_plain() => {
                if let Some(remote) = interest.remote(slot)
                    && scope.reaches(remote.node)
                {
                    self.share(remote.node).plain = true;
                }
            }
            _ => {}
        }
    }

    /// One member on this server, else one server.
    fn add_queue(
        &mut self,
        scope: Scope<'_>,
        queue: &Bytes,
        members: &[Target],
        interest: &Interest,
        lot: &mut Lot,
        takes: &dyn Fn(u32, u32) -> bool,
    ) {
        let near = |target: &Target| match target {
            Target::Client { conn, sub } => u64::from(takes(*conn, *sub)),
            Target::Remote(slot) => weight(interest, *slot, scope, true),
            _ => 0,
        };
        let far = |target: &Target| match target {
            Target::Remote(slot) => weight(interest, *slot, scope, false),
            _ => 0,
        };
        let chosen = draw(members, near, lot).or_else(|| draw(members, far, lot));
        match chosen {
            Some(Target::Client { conn, sub }) => self.clients.push((conn, sub)),
            Some(Target::Remote(slot)) => {
                if let Some(remote) = interest.remote(slot) {
                    self.share(remote.node).queues.push(queue.clone());
                }
            }
            _ => {}
        }
    }

    fn share(&mut self, node: Node) -> &mut Share {
        let at = match self.shares.iter().position(|share| share.node == node) {
            Some(at) => at,
            None => {
                self.shares.push(Share { node, plain: false, queues: Vec::new() });
                self.shares.len() - 1
            }
        };
        &mut self.shares[at]
    }
}

/// Members of a queue group behind a remote entry, when the message may go there.
fn weight(interest: &Interest, slot: u32, scope: Scope<'_>, on_this_server: bool) -> u64 {
    interest
        .remote(slot)
        .filter(|remote| scope.reaches(remote.node) && matches!(remote.node, Node::Core(_)) == on_this_server)
        .map_or(0, |remote| u64::from(remote.weight))
}

/// One of the targets, each with a chance in proportion to its weight; `None` when all weigh nothing. O(targets).
fn draw(targets: &[Target], weigh: impl Fn(&Target) -> u64, lot: &mut Lot) -> Option<Target> {
    let total: u64 = targets.iter().map(&weigh).sum();
    if total == 0 {
        return None;
    }
    let mut left = lot.below(total);
    for target in targets {
        let weight = weigh(target);
        if left < weight {
            return Some(*target);
        }
        left -= weight;
    }
    None
}

/// A seeded generator (splitmix64): who gets a queue message, and by how much timers are spread.
#[derive(Debug, Clone)]
pub struct Lot(u64);

impl Lot {
    pub fn new(seed: u64) -> Lot {
        Lot(seed)
    }

    /// 0 to `limit - 1`; 0 when the limit is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        if limit < 2 {
            return 0;
        }
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::interest::{Key, RemoteChange};
    use crate::ids::ServerId;
    use net::sublist::Sublist;

    /// A subject list with an interest table, as an account has them.
    struct Account {
        list: Sublist<Target>,
        interest: Interest,
        lot: Lot,
    }

    impl Account {
        fn new() -> Account {
            Account { list: Sublist::new(1), interest: Interest::new(0), lot: Lot::new(7) }
        }

        fn client(&mut self, conn: u32, filter: &str, queue: Option<&str>) {
            self.list.insert(filter.as_bytes(), queue.map(str::as_bytes), Target::Client { conn, sub: 0 });
        }

        fn node(&mut self, node: Node, filter: &str, queue: Option<&str>) {
            let key = Key::new(filter.as_bytes(), queue.map(str::as_bytes));
            if let (RemoteChange::Came(slot), _) = self.interest.hear(node, &key, true) {
                self.list.insert(key.subject(), key.queue(), Target::Remote(slot));
            }
        }

        fn plan(&mut self, scope: Scope<'_>, subject: &str, takes: &dyn Fn(u32, u32) -> bool) -> Plan {
            let mut matches = Matches::new();
            self.list.matches(subject.as_bytes(), &mut matches);
            let mut plan = Plan::new();
            plan.fill(scope, &matches, &self.interest, &mut self.lot, takes);
            plan
        }
    }

    const SERVER: Node = Node::Server(ServerId(5));
    const CORE: Node = Node::Core(1);

    fn any(_: u32, _: u32) -> bool {
        true
    }

    #[test]
    fn a_node_gets_a_message_once_however_many_of_its_filters_match() {
        let mut account = Account::new();
        account.node(SERVER, "a.*", None);
        account.node(SERVER, "a.>", None);
        account.node(SERVER, "a.b", Some("q"));
        account.list.insert(b"a.*", None, Target::Stream(GroupId(3)));
        account.list.insert(b"a.b", None, Target::Stream(GroupId(3)));
        let plan = account.plan(Scope::Here, "a.b", &any);
        assert_eq!(plan.shares, [Share { node: SERVER, plain: true, queues: vec!["q".into()] }]);
        assert_eq!(plan.streams, [GroupId(3)]);
    }

    #[test]
    fn a_message_of_a_node_stays_where_it_cannot_come_back_from() {
        let mut account = Account::new();
        account.client(1, "a", None);
        account.node(SERVER, "a", None);
        account.node(CORE, "a", None);
        account.list.insert(b"a", None, Target::Stream(GroupId(3)));
        account.list.insert(b"a", None, Target::Service { service: Service::Api, announced: false });
        account.list.insert(b"a", None, Target::Service { service: Service::System, announced: true });
        let core = account.plan(Scope::FromCore { core: 1, plain: true, queues: &[] }, "a", &any);
        assert_eq!((core.clients.len(), core.shares.len(), core.streams.len()), (1, 0, 0));
        assert_eq!(core.services, [Service::System]);
        let server = account.plan(Scope::FromServer { plain: true, queues: &[] }, "a", &any);
        assert_eq!(server.shares, [Share { node: CORE, plain: true, queues: vec![] }]);
        assert_eq!(server.streams, []);
        let here = account.plan(Scope::Here, "a", &any);
        assert_eq!((here.shares.len(), here.streams.len(), here.services.len()), (2, 1, 2));
    }

    #[test]
    fn a_routed_message_for_a_queue_skips_plain_subscribers_and_other_queues() {
        let mut account = Account::new();
        account.client(1, "a", None);
        account.client(2, "a", Some("q"));
        account.client(3, "a", Some("r"));
        let queues = [Bytes::from_static(b"q")];
        let plan = account.plan(Scope::FromCore { core: 1, plain: false, queues: &queues }, "a", &any);
        assert_eq!(plan.clients, [(2, 0)]);
    }

    #[test]
    fn a_queue_prefers_this_server_and_weighs_its_cores_by_members() {
        let mut account = Account::new();
        account.client(1, "a", Some("q"));
        for _ in 0..3 {
            account.node(CORE, "a", Some("q"));
        }
        account.node(SERVER, "a", Some("q"));
        let mut here = 0;
        for _ in 0..4000 {
            let plan = account.plan(Scope::Here, "a", &any);
            assert_eq!(plan.clients.len() + plan.shares.len(), 1);
            assert!(plan.shares.iter().all(|share| share.node == CORE));
            here += plan.clients.len();
        }
        assert!((800..1200).contains(&here), "one of four members is here, chosen {here} times of 4000");
    }

    #[test]
    fn a_queue_without_members_that_take_it_goes_to_one_server() {
        let mut account = Account::new();
        account.client(1, "a", Some("q"));
        account.node(SERVER, "a", Some("q"));
        account.node(Node::Server(ServerId(6)), "a", Some("q"));
        for _ in 0..20 {
            let plan = account.plan(Scope::Here, "a", &|_, _| false);
            assert_eq!((plan.clients.len(), plan.shares.len()), (0, 1));
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_lots() {
        let draws = |seed| {
            let mut lot = Lot::new(seed);
            (0..50).map(|_| lot.below(10)).collect::<Vec<_>>()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        assert!(draws(3).iter().all(|draw| *draw < 10));
        assert_eq!(Lot::new(1).below(0), 0);
    }
}
