//! The pages: what a server says of itself, in answer to `$SYS` requests, over HTTP, and unasked.
//!
//! ```text
//!  $SYS.REQ.. ─► ask ─┐                    ┌─► part (this core) ──┐
//!  HTTP ───────► http ┴─► Page ─► pending ─┤                      ├─► answer ─► reply, or HTTP body
//!                                          └─► Ask ─► other cores ┘
//! ```
//! A page is built once every core has given its part, or with what is there after a second. Nothing here changes the
//! server, except that a client may be closed.
//!
//! Reading order: [`page`], [`ask`], [`http`], [`part`], [`answer`], then the pages one by one.

mod accountz;
mod address;
mod answer;
mod ask;
pub mod audit;
mod conns;
mod connz;
mod envelope;
mod events;
#[cfg(test)]
mod fixture;
mod health;
mod healthz;
mod http;
mod jsz;
mod links;
pub mod page;
mod part;
mod pending;
mod raftz;
mod routez;
mod scene;
mod statsz;
mod subsz;
#[cfg(test)]
mod tests;
mod text;
mod userinfo;
mod varz;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::account::Accounts;
use crate::client::{ClientFacts, Front, Inward, Service, SysEvent};
use crate::cluster::table::ServerFacts;
use crate::cluster::view::View;
use crate::config::Config;
use crate::ids::{AccountId, ConnId, CoreId, Now};
use crate::jetstream::JetStream;
use crate::reply::Reply;
use answer::HttpAnswer;
use ask::Ask;
use envelope::{Blank, Json, Refusal, ServerInfo, is_meant, seal, seal_done, seal_error};
use http::Target;
pub use http::{JSON, TEXT};
use page::{Page, Selection};
pub use part::PagePart;
use pending::{Face, Pending};
pub use scene::Vitals;
use scene::{Scene, Server};

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
    Publish {
        account: AccountId,
        subject: Bytes,
        reply: Option<Bytes>,
        headers: Option<Bytes>,
        payload: Bytes,
    },
    Http {
        conn: ConnId,
        status: u16,
        content_type: &'static str,
        body: Bytes,
    },
    /// Ask every other core for its part; each answers with `System::on_part`.
    Ask {
        id: u64,
        page: Page,
    },
    Kick {
        cid: u64,
    },
    /// Tell a client to look for another server.
    LameDuck {
        cid: u64,
    },
    /// Read the configuration again; `System::on_reload_done` says how it went.
    Reload {
        id: u64,
    },
}

/// Pages that wait for parts at once; a tool asks for a few, a flood of requests is refused.
const PENDING_MAX: usize = 256;

/// How long a page waits for the parts of other cores, microseconds. A core that is busier than that is in trouble, and
/// the page is how somebody finds out.
const PATIENCE_US: u64 = 1_000_000;

/// Between two STATSZ, once the first ones are out (peer: 10 s).
const STATSZ_US: u64 = 10_000_000;

/// Between the first two; doubled until [`STATSZ_US`], so that tools see a new server soon (peer: 250 ms).
const STATSZ_FIRST_US: u64 = 250_000;

pub struct System {
    server: Server,
    /// The system account; `None` when it is switched off.
    account: Option<AccountId>,
    /// Names of all accounts.
    names: BTreeMap<AccountId, String>,
    /// Owns the pages: answers requests and sends STATSZ.
    owner: bool,
    next_id: u64,
    pending: BTreeMap<u64, Pending>,
    /// Who waits for the configuration to be read again.
    reloads: BTreeMap<u64, Face>,
    events: VecDeque<SysEvent>,
    conns: conns::Conns,
    audit: audit::Audit,
    /// Counts what was said.
    seq: u64,
    statsz_at_us: u64,
    statsz_wait_us: u64,
    reloaded: bool,
    out: VecDeque<SystemOutput>,
}

impl System {
    pub fn new(options: SystemOptions, facts: ServerFacts) -> System {
        let config_wall_ns = options.start_wall_ns;
        System {
            owner: options.core == 0,
            server: Server {
                options,
                facts,
                vitals: Vitals::default(),
                links: BTreeMap::new(),
                http_counts: BTreeMap::new(),
                config_wall_ns,
            },
            account: None,
            names: BTreeMap::new(),
            next_id: 0,
            pending: BTreeMap::new(),
            reloads: BTreeMap::new(),
            events: VecDeque::new(),
            conns: conns::Conns::default(),
            audit: audit::Audit::default(),
            seq: 0,
            statsz_at_us: 0,
            statsz_wait_us: STATSZ_FIRST_US,
            reloaded: false,
            out: VecDeque::new(),
        }
    }

    /// Subscribes to the requests. Called again after a reload. `owner`: this core answers for the server.
    pub fn register(&mut self, front: &mut Front, accounts: &Accounts, owner: bool) {
        self.owner = owner;
        self.account = accounts.system();
        self.names = accounts.iter().map(|account| (account.id, account.name.clone())).collect();
        for account in accounts.iter() {
            front.service(account.id, Bytes::from_static(ask::USER_INFO.as_bytes()), Service::UserInfo, false);
            if !owner {
                continue;
            }
            if accounts.is_system(account.id) {
                for subject in ask::system_subjects(self.server.id()) {
                    front.service(account.id, subject.into(), Service::System, true);
                }
            } else {
                for subject in ask::ACCOUNT_SUBJECTS {
                    front.service(account.id, Bytes::from_static(subject.as_bytes()), Service::Account, true);
                }
            }
        }
    }

    /// A request on one of the subjects of [`System::register`].
    pub fn on_service(&mut self, now: Now, service: Service, message: Inward, client: Option<Arc<ClientFacts>>) {
        let Inward { account, subject, reply, payload, .. } = message;
        let Ok(subject) = std::str::from_utf8(&subject) else { return };
        let face = Face::Request { account, reply };
        match service {
            Service::UserInfo => self.tell_user(now, face, client),
            Service::System => {
                let ask = ask::of_system(self.server.id(), subject, &payload);
                self.on_ask(now, face, ask, &payload);
            }
            Service::Account => {
                let Some(name) = self.names.get(&account) else { return };
                let ask = ask::of_account(name, subject, &payload);
                self.on_ask(now, face, ask, &payload);
            }
            _ => {}
        }
    }

    /// What a client of this core did; told to whoever listens.
    pub fn on_event(&mut self, event: SysEvent) {
        if self.account.is_none() {
            return;
        }
        if let SysEvent::Connect { client } | SysEvent::Disconnect { client, .. } = &event {
            self.conns.changed(client.account);
        }
        self.events.push_back(event);
    }

    /// An API request entered at this core and somebody listens to audits.
    pub fn audit_asked(
        &mut self,
        account: AccountId,
        subject: &Bytes,
        reply: &Bytes,
        payload: &Bytes,
        client: Option<Arc<ClientFacts>>,
    ) {
        self.audit.asked(account, subject, reply, payload, client);
    }

    /// A reply leaves for a client of this core: perhaps an answer that is to be told.
    pub fn audit_answered(&mut self, now: Now, reply: &Reply) {
        if let Some(payload) = self.audit.answered(now, &self.server, self.seq, reply) {
            self.seq += 1;
            self.publish(reply.account, Bytes::from_static(audit::SUBJECT), payload);
        }
    }

    /// An HTTP GET.
    pub fn on_http(&mut self, now: Now, conn: ConnId, target: &str) {
        let base = self.server.config().http_base_path.clone();
        match http::parse(&base, target) {
            Target::Page { path, page } => {
                *self.server.http_counts.entry(path).or_default() += 1;
                self.begin(now, Face::Http { conn }, page);
            }
            Target::Root => {
                *self.server.http_counts.entry("/").or_default() += 1;
                let body = http::root(&base, &self.server.options.version);
                self.answer_http(conn, HttpAnswer { status: 200, content_type: http::HTML, body: body.into() });
            }
            Target::NotFound => self.answer_http(conn, HttpAnswer::text(404, "404 page not found\n")),
            Target::Bad { path, why } => {
                *self.server.http_counts.entry(path).or_default() += 1;
                self.answer_http(conn, HttpAnswer::text(400, why));
            }
        }
    }

    /// This core's part of a page that another core builds.
    pub fn part(&mut self, now: Now, page: &Page, front: &Front, js: Option<&JetStream>, view: &View) -> PagePart {
        let mut part = part::gather(&Scene { now, server: &self.server, front, js, view }, page);
        match page {
            Page::Kick(cid) => {
                let here = front.knows(*cid);
                part.body = part::Body::Kicked(here);
                if here {
                    self.out.push_back(SystemOutput::Kick { cid: *cid });
                }
            }
            Page::LameDuck(cid) => {
                part.body = part::Body::Told(front.listens(*cid));
                self.out.push_back(SystemOutput::LameDuck { cid: *cid });
            }
            _ => {}
        }
        part
    }

    /// Another core's part of a page that this one builds. Late ones are dropped.
    pub fn on_part(&mut self, id: u64, part: PagePart) {
        if let Some(pending) = self.pending.get_mut(&id) {
            pending.add(part);
        }
    }

    /// The next thing to do; drain until `None` at the end of every turn: that is when pages are built.
    pub fn poll_output(
        &mut self,
        now: Now,
        front: &mut Front,
        js: Option<&JetStream>,
        view: &View,
    ) -> Option<SystemOutput> {
        if self.out.is_empty() {
            if std::mem::take(&mut self.reloaded) {
                self.server.config_wall_ns = now.wall_ns;
            }
            self.tell_events(now, front);
            self.tell_conns(now);
            self.drop_unheard(front);
            self.build_pages(now, front, js, view);
        }
        self.out.pop_front()
    }

    /// Microseconds of [`Now::us`]; ask again after each drain.
    pub fn next_wakeup(&self) -> Option<u64> {
        let owns = self.owner && self.account.is_some();
        let unasked = owns.then(|| self.statsz_at_us.min(self.conns.next_wakeup()));
        self.pending.values().map(|pending| pending.deadline_us).chain(unasked).min()
    }

    /// The time has come to send STATSZ, perhaps. Pages whose time is over are built when the outputs are drained.
    pub fn wakeup(&mut self, now: Now, _front: &Front) {
        if self.owner && self.account.is_some() {
            self.conns.beat(now, self.names.keys().copied());
        }
        let Some(account) = self.account.filter(|_| self.owner && now.us >= self.statsz_at_us) else { return };
        self.statsz_at_us = now.us + self.statsz_wait_us;
        self.statsz_wait_us = (self.statsz_wait_us * 2).min(STATSZ_US);
        let subjects = vec![format!("$SYS.SERVER.{}.STATSZ", self.server.id()).into()];
        self.begin(now, Face::Unasked { account, subjects }, Page::Statsz);
    }

    /// What the process measured of itself.
    pub fn vitals(&mut self, cpu_percent: f64, memory_bytes: u64) {
        self.server.vitals = Vitals { cpu_percent, memory_bytes };
    }

    pub fn reload(&mut self, config: &Arc<Config>) {
        self.server.facts.tags = config.server_tags.clone();
        self.server.options.config = Arc::clone(config);
        self.reloaded = true;
    }

    /// How a [`SystemOutput::Reload`] went.
    pub fn on_reload_done(&mut self, now: Now, id: u64, outcome: &Result<(), String>) {
        let Some(face) = self.reloads.remove(&id) else { return };
        if let Err(why) = outcome {
            return self.refuse_page(now, face, &Page::Reload, 500, why);
        }
        let Face::Request { account, reply: Some(reply) } = face else { return };
        let sealed = seal_done(&ServerInfo::new(&self.server, self.seq, now));
        self.seq += 1;
        self.publish(account, reply, sealed);
    }

    /// Facts that other servers and the table hold of this one; follow a reload.
    pub fn facts(&self) -> &ServerFacts {
        &self.server.facts
    }

    /// A clean stop or lame duck: `$SYS.SERVER.<id>.SHUTDOWN` / `.LAMEDUCK` go out.
    pub fn going(&mut self, now: Now, lame_duck: bool) {
        let Some(account) = self.account else { return };
        let word = if lame_duck { "LAMEDUCK" } else { "SHUTDOWN" };
        let subject = format!("$SYS.SERVER.{}.{word}", self.server.id()).into();
        let payload = ServerInfo::new(&self.server, self.seq, now).compact().into();
        self.seq += 1;
        self.out.push_back(SystemOutput::Publish { account, subject, reply: None, headers: None, payload });
    }

    fn on_ask(&mut self, now: Now, face: Face, ask: Ask, payload: &[u8]) {
        let page = match ask {
            Ask::Page(page) => page,
            Ask::Unknown => return,
            Ask::Bad { why, data } => return self.refuse(now, face, 400, &why, data),
        };
        match page::read::<Selection>(payload) {
            Ok(selection) if is_meant(&self.server, &selection) => self.begin(now, face, page),
            Ok(_) => {}
            Err(why) => {
                let data = if matches!(page, Page::Jsz(_)) { Blank::Empty } else { Blank::Absent };
                self.refuse(now, face, 400, &why, data);
            }
        }
    }

    /// Starts a page; it is built when the outputs are drained.
    fn begin(&mut self, now: Now, face: Face, page: Page) {
        if let Err(Refusal::Error { code, text }) = answer::check(&page) {
            return self.refuse_page(now, face, &page, code, &text);
        }
        if self.pending.len() + self.reloads.len() >= PENDING_MAX {
            return self.refuse_page(now, face, &page, 503, "too many requests at once");
        }
        let id = self.next_id;
        self.next_id += 1;
        if page == Page::Reload {
            self.reloads.insert(id, face);
            return self.out.push_back(SystemOutput::Reload { id });
        }
        let pending = Pending::new(page, face, self.server.options.cores, now.us + PATIENCE_US);
        self.pending.insert(id, pending);
    }

    /// A page that is not made.
    fn refuse_page(&mut self, now: Now, face: Face, page: &Page, code: u16, text: &str) {
        let (code, data) =
            if matches!(face, Face::Http { .. }) { (code, Blank::Absent) } else { answer::refused(page, code) };
        self.refuse(now, face, code, text, data);
    }

    fn refuse(&mut self, now: Now, face: Face, code: u16, text: &str, data: Blank) {
        let info = ServerInfo::new(&self.server, self.seq, now);
        let sealed = seal_error(&info, code, text, data);
        self.seq += 1;
        match face {
            Face::Http { conn } => self.answer_http(conn, HttpAnswer::text(code, text.to_owned())),
            Face::Request { account, reply: Some(reply) } => self.publish(account, reply, sealed),
            Face::Request { .. } | Face::Unasked { .. } => {}
        }
    }

    fn tell_user(&mut self, now: Now, face: Face, client: Option<Arc<ClientFacts>>) {
        let (Face::Request { account, reply: Some(reply) }, Some(client)) = (face, client) else { return };
        let info = ServerInfo::new(&self.server, self.seq, now);
        let sealed = seal(&info, "data", &userinfo::UserInfo::new(&client));
        self.seq += 1;
        self.publish(account, reply, sealed);
    }

    /// Events become JSON only when somebody listens: a thousand clients may come at once.
    fn tell_events(&mut self, now: Now, front: &mut Front) {
        let Some(account) = self.account else { return };
        while let Some(event) = self.events.pop_front() {
            let subject = events::subject(&event, self.server.id());
            if front.has_interest(account, subject.as_bytes()) {
                let options = &self.server.options;
                let id = events::unique_id(options.boot, options.core, self.seq);
                let info = ServerInfo::new(&self.server, self.seq, now);
                let payload = events::body(&event, id, info, now).into();
                self.seq += 1;
                self.publish(account, subject.into(), payload);
            }
        }
    }

    fn tell_conns(&mut self, now: Now) {
        let Some(account) = self.account else { return };
        for (face, page) in self.conns.take(account, &self.names) {
            self.begin(now, face, page);
        }
    }

    /// Pages that nobody asked for are only made when somebody listens.
    fn drop_unheard(&mut self, front: &mut Front) {
        self.pending.retain(|_, pending| match &pending.face {
            Face::Unasked { account, subjects } if pending.is_fresh() => {
                subjects.iter().any(|subject| front.has_interest(*account, subject))
            }
            _ => true,
        });
    }

    fn build_pages(&mut self, now: Now, front: &Front, js: Option<&JetStream>, view: &View) {
        let fresh: Vec<u64> = self.pending.iter().filter(|(_, page)| page.is_fresh()).map(|(id, _)| *id).collect();
        for id in fresh {
            let Some(page) = self.pending.get(&id).map(|pending| pending.page.clone()) else { continue };
            let part = self.part(now, &page, front, js, view);
            if let Some(pending) = self.pending.get_mut(&id) {
                pending.add(part);
            }
            if self.server.options.cores > 1 {
                self.out.push_back(SystemOutput::Ask { id, page });
            }
        }
        let done = |pending: &Pending| pending.is_complete() || pending.deadline_us <= now.us;
        let done: Vec<u64> = self.pending.iter().filter(|(_, page)| done(page)).map(|(id, _)| *id).collect();
        for id in done {
            if let Some(pending) = self.pending.remove(&id) {
                self.finish(pending, &Context { now, front, js, view });
            }
        }
    }

    fn finish(&mut self, pending: Pending, context: &Context) {
        let Context { now, front, js, view } = *context;
        let (cores, seq) = (self.server.options.cores, self.seq);
        let (page, face, parts) = pending.take();
        let scene = Scene { now, server: &self.server, front, js, view };
        let (account, subjects) = match face {
            Face::Http { conn } => {
                let answer = answer::of_http(&scene, &page, parts, cores);
                return self.answer_http(conn, answer);
            }
            Face::Unasked { account, subjects } => (account, subjects),
            Face::Request { account, reply } => (account, reply.into_iter().collect()),
        };
        let Some(payload) = answer::of_request(&scene, &page, parts, cores, seq) else { return };
        for subject in subjects {
            self.seq += 1;
            self.publish(account, subject, payload.clone());
        }
    }

    fn publish(&mut self, account: AccountId, subject: Bytes, payload: Bytes) {
        self.out.push_back(SystemOutput::Publish { account, subject, reply: None, headers: None, payload });
    }

    fn answer_http(&mut self, conn: ConnId, answer: HttpAnswer) {
        let HttpAnswer { status, content_type, body } = answer;
        self.out.push_back(SystemOutput::Http { conn, status, content_type, body });
    }
}

/// What pages are built from, besides the server itself.
#[derive(Clone, Copy)]
struct Context<'a> {
    now: Now,
    front: &'a Front,
    js: Option<&'a JetStream>,
    view: &'a View,
}
