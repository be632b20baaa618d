//! The pages: what a server says of itself, in answer to `$SYS` requests and over HTTP.

pub mod page;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::account::Accounts;
use crate::client::{ClientFacts, Front, Service, SysEvent};
use crate::cluster::table::ServerFacts;
use crate::cluster::view::View;
use crate::config::Config;
use crate::ids::{AccountId, ConnId, CoreId, Now};
use crate::jetstream::JetStream;
use page::Page;

/// What pages show and no other part knows.
#[derive(Debug, Clone)]
pub struct SystemOptions {
    pub core: CoreId,
    pub cores: CoreId,
    pub config: Arc<Config>,
    pub server_id: String,
    pub server_name: String,
    pub cluster: Option<String>,
    pub version: String,
    pub start_wall_ns: i64,
    /// Where this server's clients, routes and pages listen (`host:port`), as bound.
    pub client_url: String,
    pub route_url: Option<String>,
    pub http_url: Option<String>,
    pub pid: u32,
    pub boot: u64,
}

#[derive(Debug)]
pub enum SystemOutput {
    Publish { account: AccountId, subject: Bytes, reply: Option<Bytes>, headers: Option<Bytes>, payload: Bytes },
    Http { conn: ConnId, status: u16, content_type: &'static str, body: Bytes },
    /// Ask every other core for its part; each answers with `System::on_part`.
    Ask { id: u64, page: Page },
    Kick { cid: u64 },
}

/// One core's contribution to a page.
#[derive(Debug)]
pub struct PagePart {}

pub struct System {
    options: SystemOptions,
    facts: ServerFacts,
    out: VecDeque<SystemOutput>,
}

#[allow(unused_variables, clippy::too_many_arguments)]
impl System {
    pub fn new(options: SystemOptions, facts: ServerFacts) -> System {
        System { options, facts, out: VecDeque::new() }
    }
    pub fn register(&mut self, front: &mut Front, accounts: &Accounts, owner: bool) {}
    pub fn on_service(
        &mut self,
        now: Now,
        service: Service,
        account: AccountId,
        subject: Bytes,
        reply: Option<Bytes>,
        headers: Option<Bytes>,
        payload: Bytes,
        client: Option<Arc<ClientFacts>>,
    ) {
    }
    pub fn on_event(&mut self, event: SysEvent) {}
    pub fn on_http(&mut self, now: Now, conn: ConnId, target: &str) {}
    pub fn part(&mut self, now: Now, page: &Page, front: &Front, js: Option<&JetStream>, view: &View) -> PagePart {
        PagePart {}
    }
    pub fn on_part(&mut self, id: u64, part: PagePart) {}
    pub fn poll_output(&mut self, now: Now, front: &Front, js: Option<&JetStream>, view: &View) -> Option<SystemOutput> {
        self.out.pop_front()
    }
    pub fn next_wakeup(&self) -> Option<u64> {
        None
    }
    pub fn wakeup(&mut self, now: Now, front: &Front) {}
    pub fn reload(&mut self, config: &Arc<Config>) {}
    /// Facts that other servers and the table hold of this one; follow a reload.
    pub fn facts(&self) -> &ServerFacts {
        &self.facts
    }
    /// A clean stop or lame duck: `$SYS.SERVER.<id>.SHUTDOWN` / `.LAMEDUCK` go out.
    pub fn going(&mut self, now: Now, lame_duck: bool) {}
    /// Routes and client URLs of every known server, for gossip.
    pub fn known_urls(&self) -> (Vec<String>, Vec<String>) {
        (Vec::new(), Vec::new())
    }
    pub fn own_route(&self) -> String {
        self.options.route_url.clone().unwrap_or_default()
    }
    pub fn peer_routes(&self) -> Vec<String> {
        Vec::new()
    }
    /// Client URLs of the other servers, for INFO's `connect_urls`.
    pub fn client_urls(&self, view: &View) -> Vec<String> {
        Vec::new()
    }
}
