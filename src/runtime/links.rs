//! The links to other servers, on the core that owns them: three lanes each, dialled for ever or accepted.
//!
//! Either side may dial; of two connections for the same lane both sides keep the same one
//! ([`net::peer::link::keeps_our_dial`]). A link is up when all three lanes stand and down as soon as one does not: then
//! all are closed, the shard hears of it, and whoever has the route dials again.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::FutureExt;
use glommio::timer::Timer;
use net::peer::frame::KIND_MESSAGES_FIRST;
use net::peer::hello::{Credentials, Hello};
use net::peer::lane::Lane;
use net::peer::link::{Known, Link, LinkEvent, Refusal, RefusalCode, Rules, Timing, keeps_our_dial};
use net::peer::outbox::Outbox;
use net::uring::conn::{Closer, Conn, Reader, Writer};
use net::uring::dial::dial;
use net::uring::listen::Listener;

use super::clock::Clock;
use super::inbox::{Inbox, Notify};
use crate::config::options::Cluster;
use crate::event::Event;
use crate::ids::ServerId;
use crate::logging::Logger;

const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// First and longest pause between two dials of a route. A cluster that starts together is linked within one of the
/// short ones; a server that is away costs two connects a second.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LAST: Duration = Duration::from_millis(500);

/// A route whose server is linked is looked at again after this, or at once when a link goes down.
const PAUSE_LINKED: Duration = Duration::from_secs(30);

/// Bytes per write of a lane.
const WRITE_BYTES: usize = 1024 * 1024;

/// A lost link is noticed within about a second even when nothing says so (a host that vanished, a cable that was cut).
const TIMING: Timing = Timing { ping_every_us: 300_000, unanswered_max: 3 };

#[derive(Clone)]
pub struct Links(Rc<Inner>);

struct Inner {
    clock: Clock,
    inbox: Inbox,
    logger: Logger,
    /// This server's introduction; `store` follows the cluster that it joins.
    hello: RefCell<Hello>,
    cluster: RefCell<Option<Cluster>>,
    sessions: RefCell<BTreeMap<ServerId, Session>>,
    /// Routes being dialled; `false` ends the task.
    routes: RefCell<BTreeMap<String, Rc<Route>>>,
    /// Texts that were logged already: a refusal is said once, not with every retry.
    told: RefCell<BTreeSet<String>>,
    next_lane: Cell<u64>,
}

struct Route {
    wanted: Cell<bool>,
    changed: Notify,
    /// Who answered there.
    peer: Cell<Option<ServerId>>,
}

/// Everything that stands between this server and one other.
#[derive(Default)]
struct Session {
    hello: Option<Box<Hello>>,
    lanes: BTreeMap<u8, LaneConn>,
    up: bool,
}

struct LaneConn {
    number: u64,
    dialled: bool,
    outbox: Rc<RefCell<Outbox>>,
    ready: Notify,
    closer: Closer,
}

/// How an attempt to open a lane ended.
enum Opened {
    Lane(ServerId),
    /// Nothing is wrong: it stands already, or we are talking to ourselves.
    Satisfied,
    Myself,
    Failed(String),
}

impl Links {
    pub fn new(clock: Clock, inbox: Inbox, logger: Logger, hello: Hello, cluster: Option<Cluster>) -> Links {
        Links(Rc::new(Inner {
            clock,
            inbox,
            logger,
            hello: RefCell::new(hello),
            cluster: RefCell::new(cluster),
            sessions: RefCell::default(),
            routes: RefCell::default(),
            told: RefCell::default(),
            next_lane: Cell::new(0),
        }))
    }

    /// From now on peers are told that this server's store belongs to that cluster.
    pub fn joined(&self, cluster_id: &str) {
        self.0.hello.borrow_mut().store = Some(cluster_id.to_owned());
    }

    /// Credentials, timeouts and tags after a reload.
    pub fn reload(&self, tags: Vec<String>, cluster: Option<Cluster>) {
        self.0.hello.borrow_mut().tags = tags;
        *self.0.cluster.borrow_mut() = cluster;
    }

    /// Dials a route until [`Links::undial`]; one that was only learnt (`lasting` false) until its server has been
    /// gone for a few rounds.
    pub fn dial(&self, route: String, lasting: bool) {
        let mut routes = self.0.routes.borrow_mut();
        if routes.contains_key(&route) {
            return;
        }
        let state = Rc::new(Route { wanted: Cell::new(true), changed: Notify::default(), peer: Cell::new(None) });
        routes.insert(route.clone(), state.clone());
        let links = self.clone();
        glommio::spawn_local(async move {
            links.keep(&route, &state, lasting).await;
            links.0.routes.borrow_mut().remove(&route);
        })
        .detach();
    }

    pub fn undial(&self, route: &str) {
        if let Some(route) = self.0.routes.borrow().get(route) {
            route.wanted.set(false);
            route.changed.raise();
        }
    }

    pub fn send(&self, peer: ServerId, lane: Lane, frame: Bytes) {
        let full = {
            let sessions = self.0.sessions.borrow();
            let Some(conn) = sessions.get(&peer).and_then(|session| session.lanes.get(&lane.code())) else { return };
            conn.ready.raise();
            conn.outbox.borrow_mut().push(KIND_MESSAGES_FIRST, 0, frame).is_err()
        };
        if full {
            self.close(peer, &format!("the {} lane is full: it does not keep up", lane.name()));
        }
    }

    /// Nothing waits to be written.
    pub fn is_flushed(&self) -> bool {
        let sessions = self.0.sessions.borrow();
        sessions.values().flat_map(|session| session.lanes.values()).all(|lane| lane.outbox.borrow().bytes() == 0)
    }

    /// Breaks a link.
    pub fn close(&self, peer: ServerId, why: &str) {
        let Some(session) = self.0.sessions.borrow_mut().remove(&peer) else { return };
        for conn in session.lanes.values() {
            conn.closer.close();
        }
        let name = session.hello.as_ref().map_or_else(|| peer.to_string(), |hello| hello.server_name.clone());
        if session.up {
            self.0.logger.info(format!("Route to {name} is down: {why}"));
            self.0.inbox.push(Event::PeerGone { peer, why: why.to_owned() });
        }
        for route in self.0.routes.borrow().values() {
            route.changed.raise();
        }
    }

    /// Accepts lanes for ever.
    pub async fn accept(self, listener: Listener) {
        loop {
            match listener.accept().await {
                Ok(conn) => {
                    let links = self.clone();
                    glommio::spawn_local(async move {
                        if let Opened::Failed(why) = links.open(conn, None).await {
                            links.0.logger.debug(format!("Connection on the route port was closed: {why}"));
                        }
                    })
                    .detach();
                }
                Err(_) => {
                    Timer::new(PAUSE_LAST).await;
                }
            }
        }
    }

    /// The life of one route.
    async fn keep(&self, route: &str, state: &Route, lasting: bool) {
        let mut pause = PAUSE_FIRST;
        let mut failures = 0;
        while state.wanted.get() {
            let mut linked = state.peer.get().is_some_and(|peer| self.is_up(peer));
            if !linked {
                match self.dial_lanes(route, state).await {
                    Opened::Myself => {
                        self.0.logger.debug(format!("Route {route} leads to this server itself"));
                        return state.changed.wait().await;
                    }
                    Opened::Lane(_) | Opened::Satisfied => (linked, failures, pause) = (true, 0, PAUSE_FIRST),
                    Opened::Failed(why) => {
                        failures += 1;
                        self.tell_once(&format!("Error trying to connect to route {route}: {why}"));
                        let retries = self.0.cluster.borrow().as_ref().map_or(0, |c| c.connect_retries);
                        if !lasting && failures > retries.max(20) {
                            return;
                        }
                    }
                }
            }
            let wait = if linked { PAUSE_LINKED } else { pause };
            pause = if linked { PAUSE_FIRST } else { (pause * 2).min(PAUSE_LAST) };
            let changed = async { state.changed.wait().await };
            changed
                .or(async {
                    Timer::new(wait).await;
                })
                .await;
        }
    }

    /// Opens every lane that is missing.
    async fn dial_lanes(&self, route: &str, state: &Route) -> Opened {
        let mut last = Opened::Satisfied;
        for lane in Lane::ALL {
            if state.peer.get().is_some_and(|peer| self.has_lane(peer, lane)) {
                continue;
            }
            let conn = match connect(route).await {
                Ok(conn) => conn,
                Err(error) => return Opened::Failed(error),
            };
            last = self.open(conn, Some((route, lane))).await;
            match &last {
                Opened::Lane(peer) => state.peer.set(Some(*peer)),
                Opened::Satisfied => {}
                Opened::Myself | Opened::Failed(_) => return last,
            }
        }
        last
    }

    /// Handshakes a connection, dialled (with the lane to open) or accepted, and lets it live if both sides agree.
    async fn open(&self, mut conn: Conn, dialled: Option<(&str, Lane)>) -> Opened {
        let cluster = self.0.cluster.borrow().clone();
        let timeout = cluster.as_ref().map_or(DIAL_TIMEOUT, |cluster| cluster.auth_timeout);
        let mut us = self.0.hello.borrow().clone();
        let rules = self.rules(cluster.as_ref());
        let mut link = match dialled {
            Some((route, lane)) => {
                us.lane = lane;
                us.credentials = cluster.as_ref().and_then(|cluster| credentials(cluster, route));
                Link::dial(us, rules, TIMING)
            }
            None => Link::accept(us, rules, TIMING),
        };
        let late = async {
            Timer::new(timeout).await;
            Err("the handshake took too long".to_owned())
        };
        let event = self.handshake(&mut conn, &mut link).or(late).await;
        match event {
            Ok(LinkEvent::Established { hello, .. }) => self.install(conn, link, hello, dialled.is_some()),
            Ok(LinkEvent::Refused { refusal, .. }) => self.refused(refusal),
            Ok(_) => Opened::Failed("unexpected answer".into()),
            Err(why) => Opened::Failed(why),
        }
    }

    async fn handshake(&self, conn: &mut Conn, link: &mut Link) -> Result<LinkEvent, String> {
        loop {
            let event = link.poll(self.0.clock.now().us).map_err(|e| e.to_string())?;
            let out = link.take_output();
            conn.write_all(&out).await.map_err(|e| e.to_string())?;
            if let Some(event) = event {
                return Ok(event);
            }
            let data = conn.read().await.map_err(|e| e.to_string())?;
            if data.is_empty() {
                return Err("closed during the handshake".into());
            }
            link.push(data);
        }
    }

    fn refused(&self, refusal: Refusal) -> Opened {
        match refusal.code {
            RefusalCode::Redundant => Opened::Satisfied,
            RefusalCode::SelfConnection => Opened::Myself,
            RefusalCode::Cluster | RefusalCode::Store | RefusalCode::Version | RefusalCode::Credentials => {
                self.tell_once(&refusal.text);
                Opened::Failed(refusal.text)
            }
            _ => Opened::Failed(refusal.text),
        }
    }

    /// The lane stands: it joins its session, unless the other connection for it is the one to keep.
    fn install(&self, conn: Conn, link: Link, hello: Box<Hello>, dialled: bool) -> Opened {
        let peer = ServerId(hello.peer_id);
        let lane = link.lane();
        let other_boot = {
            let sessions = self.0.sessions.borrow();
            sessions.get(&peer).and_then(|s| s.hello.as_ref()).is_some_and(|known| known.server_id != hello.server_id)
        };
        if other_boot {
            self.close(peer, "it has started anew");
        }
        if let Some(standing) = self.lane_dialled(peer, lane) {
            let ours_wins = keeps_our_dial(&self.0.hello.borrow(), &hello);
            if standing == dialled || dialled != ours_wins {
                conn.close();
                return Opened::Satisfied;
            }
            if self.is_up(peer) {
                self.close(peer, "both servers dialled at once");
            }
        }
        let number = self.0.next_lane.replace(self.0.next_lane.get() + 1);
        let outbox = Rc::new(RefCell::new(Outbox::new(lane)));
        let ready = Notify::default();
        let lane_conn =
            LaneConn { number, dialled, outbox: outbox.clone(), ready: ready.clone(), closer: conn.closer() };
        let mut sessions = self.0.sessions.borrow_mut();
        let session = sessions.entry(peer).or_default();
        session.hello = Some(hello.clone());
        if let Some(old) = session.lanes.insert(lane.code(), lane_conn) {
            old.closer.close();
        }
        let up = session.lanes.len() == Lane::ALL.len() && !std::mem::replace(&mut session.up, true);
        session.up = session.lanes.len() == Lane::ALL.len();
        drop(sessions);
        if up && self.is_up(peer) {
            self.0.logger.info(format!("Route to {} is up", hello.server_name));
            self.0.inbox.push(Event::PeerUp { peer, hello });
        }
        let (reader, writer) = conn.split();
        glommio::spawn_local(write(writer, outbox.clone(), ready.clone())).detach();
        let links = self.clone();
        glommio::spawn_local(async move {
            let why = links.read(peer, lane, reader, link, outbox, ready).await;
            if links.0.sessions.borrow().get(&peer).is_some_and(|s| s.lanes.get(&lane.code()).is_some_and(|l| l.number == number)) {
                links.close(peer, &why);
            }
        })
        .detach();
        Opened::Lane(peer)
    }

    /// Reads a lane until it is over; why it is.
    async fn read(
        &self,
        peer: ServerId,
        lane: Lane,
        mut reader: Reader,
        mut link: Link,
        outbox: Rc<RefCell<Outbox>>,
        ready: Notify,
    ) -> String {
        loop {
            loop {
                match link.poll(self.0.clock.now().us) {
                    Ok(Some(LinkEvent::Frame(frame))) => {
                        self.0.inbox.push(Event::PeerFrame { peer, lane, frame: frame.body });
                    }
                    Ok(Some(LinkEvent::Rtt { rtt_us })) if lane == Lane::Control => {
                        self.0.inbox.push(Event::PeerRtt { peer, rtt_us });
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => return error.to_string(),
                }
            }
            let out = link.take_output();
            if !out.is_empty() {
                outbox.borrow_mut().push_link(out);
                ready.raise();
            }
            futures_lite::future::yield_now().await;
            let due = link.next_timer().unwrap_or(u64::MAX);
            let left = Duration::from_micros(due.saturating_sub(self.0.clock.now().us));
            let timer = async {
                Timer::new(left).await;
                None
            };
            match async { Some(reader.read().await) }.or(timer).await {
                Some(Ok(data)) if data.is_empty() => return "closed by the other side".into(),
                Some(Ok(data)) => link.push(data),
                Some(Err(error)) => return error.to_string(),
                None => {
                    if let Err(error) = link.on_timer(self.0.clock.now().us) {
                        return error.to_string();
                    }
                }
            }
        }
    }

    fn rules(&self, cluster: Option<&Cluster>) -> Rules {
        let wanted = cluster.and_then(|cluster| Some((cluster.user.clone()?, cluster.password.clone()?)));
        let verifier = Arc::new(move |given: Option<&Credentials>| match (&wanted, given) {
            (None, _) => true,
            (Some((user, password)), Some(given)) => {
                given.user == *user && crate::client::auth::secret_matches(password, &given.pass)
            }
            (Some(_), None) => false,
        });
        let known = |(peer, session): (&ServerId, &Session)| {
            let hello = session.hello.as_ref()?;
            let lanes = Lane::ALL.map(|lane| session.up && session.lanes.contains_key(&lane.code()));
            Some(Known {
                server_name: hello.server_name.clone(),
                server_id: hello.server_id.clone(),
                peer_id: peer.0,
                lanes,
            })
        };
        Rules { verifier, known: self.0.sessions.borrow().iter().filter_map(known).collect() }
    }

    fn is_up(&self, peer: ServerId) -> bool {
        self.0.sessions.borrow().get(&peer).is_some_and(|session| session.up)
    }

    fn has_lane(&self, peer: ServerId, lane: Lane) -> bool {
        self.lane_dialled(peer, lane).is_some()
    }

    /// Whether the standing connection of a lane was dialled by us; `None` when there is none.
    fn lane_dialled(&self, peer: ServerId, lane: Lane) -> Option<bool> {
        Some(self.0.sessions.borrow().get(&peer)?.lanes.get(&lane.code())?.dialled)
    }

    fn tell_once(&self, text: &str) {
        let mut told = self.0.told.borrow_mut();
        if told.len() > 1000 {
            told.clear();
        }
        if told.insert(text.to_owned()) {
            self.0.logger.warn(text);
        }
    }
}

/// Writes a lane's queue, batch by batch, until the connection is over.
async fn write(mut writer: Writer, outbox: Rc<RefCell<Outbox>>, ready: Notify) {
    let mut parts = Vec::new();
    loop {
        let bytes = outbox.borrow_mut().take(&mut parts, WRITE_BYTES);
        if bytes == 0 {
            ready.wait().await;
            continue;
        }
        if writer.write_parts(&parts).await.is_err() {
            return;
        }
        parts.clear();
        outbox.borrow_mut().on_written(bytes);
    }
}

async fn connect(route: &str) -> Result<Conn, String> {
    let addr = resolve(route).await?;
    dial(addr, DIAL_TIMEOUT).await.map_err(|e| e.to_string())
}

/// Addresses are read as they are; names are looked up off this core, for a resolver may take seconds.
async fn resolve(route: &str) -> Result<SocketAddr, String> {
    if let Ok(addr) = route.parse() {
        return Ok(addr);
    }
    let name = route.to_owned();
    let found = glommio::executor().spawn_blocking(move || name.to_socket_addrs().map(|mut all| all.next())).await;
    match found {
        Ok(Some(addr)) => Ok(addr),
        Ok(None) => Err("the name has no address".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// What the configured URL of a route says about who we are there; else the cluster's own user.
fn credentials(cluster: &Cluster, route: &str) -> Option<Credentials> {
    let listed = cluster.routes.iter().find(|listed| listed.to_string() == route);
    match listed.map(|listed| (listed.user.clone(), listed.password.clone())) {
        Some((Some(user), Some(pass))) => Some(Credentials { user, pass }),
        _ => match (&cluster.user, &cluster.password) {
            (Some(user), Some(pass)) => Some(Credentials { user: user.clone(), pass: pass.text().to_owned() }),
            _ => None,
        },
    }
}
