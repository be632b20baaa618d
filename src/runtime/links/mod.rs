//! The links to other servers, on the core that owns them: three lanes each, dialled for ever or accepted.
//!
//! ```text
//!   route ──► keep: dial control, then data and bulk ──┐
//!                                                      ├──► sessions.rs: does it belong to a link? ──► lane.rs: tasks
//!   listener ──► accept: handshake ────────────────────┘
//! ```
//! A link is up when all three lanes stand and down as soon as one does not: then all are closed, the shard hears of it,
//! and whoever has the route dials again. For each server `PeerUp` and `PeerGone` alternate, and frames come between
//! them only. What both sides do when they dial at once, and when a server comes back, is decided by `sessions.rs`.

mod dial;
mod lane;
mod sessions;
mod told;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::FutureExt;
use glommio::timer::Timer;
use net::peer::hello::{Credentials, Hello};
use net::peer::lane::Lane;
use net::peer::link::{Known, Link, LinkEvent, Refusal, Rules, Verdict};
use net::uring::conn::Conn;
use net::uring::listen::Listener;

use super::clock::Clock;
use super::inbox::Inbox;
use super::judge::Judge;
use crate::client::auth::{Claim, secret_matches};
use crate::config::options::{Cluster, Secret};
use crate::event::Event;
use crate::ids::ServerId;
use crate::logging::Logger;
use dial::Route;
use lane::LaneConn;
use sessions::{Outcome, Sessions, Side};
use told::Told;

/// For a handshake where the configuration says nothing (the peer's default for routes).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// Strangers that may be in a handshake at once; beyond it new ones are closed. Each holds at most one hello.
const HANDSHAKES_MAX: usize = 256;

/// The other side closed before it had introduced itself.
const LEFT: &str = "closed during the handshake";

/// After a failed accept (out of file descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

#[derive(Clone)]
pub struct Links(Rc<Inner>);

struct Inner {
    clock: Clock,
    inbox: Inbox,
    judge: Judge,
    logger: Logger,
    /// This server's introduction; `store` follows the cluster that it joins.
    hello: RefCell<Hello>,
    cluster: RefCell<Option<Cluster>>,
    sessions: RefCell<Sessions<Conduit>>,
    /// Routes being kept.
    routes: RefCell<BTreeMap<String, Rc<Route>>>,
    told: Told,
    handshakes: Cell<usize>,
    /// Nothing is dialled or accepted any more.
    stopping: Cell<bool>,
}

/// A lane's connection, compared by identity.
#[derive(Clone)]
struct Conduit(Rc<LaneConn>);

impl PartialEq for Conduit {
    fn eq(&self, other: &Conduit) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

/// How a handshake ended.
enum Opened {
    /// The lane belongs to the link with this server.
    Lane(ServerId),
    /// It was not needed: another connection serves.
    Superfluous(ServerId),
    Refused(Refusal),
    Failed(String),
}

impl Links {
    pub fn new(
        clock: Clock,
        inbox: Inbox,
        judge: Judge,
        logger: Logger,
        hello: Hello,
        cluster: Option<Cluster>,
    ) -> Links {
        Links(Rc::new(Inner {
            clock,
            inbox,
            judge,
            logger,
            hello: RefCell::new(hello),
            cluster: RefCell::new(cluster),
            sessions: RefCell::new(Sessions::new()),
            routes: RefCell::default(),
            told: Told::default(),
            handshakes: Cell::new(0),
            stopping: Cell::new(false),
        }))
    }

    /// From now on peers are told that this server's store belongs to that cluster, and servers of another one are
    /// refused: those that are linked already part when they hear of it.
    pub fn joined(&self, cluster_id: &str) {
        self.0.hello.borrow_mut().store = Some(cluster_id.to_owned());
        for Conduit(lane) in self.0.sessions.borrow().connections() {
            lane.joined(cluster_id);
        }
    }

    /// The cluster goes by another server's name for it from now on.
    pub fn named(&self, cluster: String, made_up: bool) {
        let mut hello = self.0.hello.borrow_mut();
        (hello.cluster, hello.cluster_made_up) = (cluster, made_up);
    }

    /// Credentials, timeouts and tags after a reload; links that stand stay.
    pub fn reload(&self, tags: Vec<String>, cluster: Option<Cluster>) {
        self.0.hello.borrow_mut().tags = tags;
        *self.0.cluster.borrow_mut() = cluster;
    }

    /// This server sends its clients away: whoever is linked from now on is told of none of its addresses.
    pub fn leaving(&self) {
        self.0.hello.borrow_mut().client_urls.clear();
    }

    /// Dials and accepts nothing from now on. Links stay until the process ends: goodbyes still have to leave.
    pub fn stop(&self) {
        self.0.stopping.set(true);
        self.wake_routes();
    }

    /// Sends a frame if the link is up. A side that does not keep up loses its link.
    pub fn send(&self, peer: ServerId, lane: Lane, frame: Bytes) {
        let conn = self.0.sessions.borrow().lane(peer, lane).cloned();
        if let Some(Conduit(conn)) = conn
            && !conn.send(frame)
        {
            self.close(peer, &format!("it does not keep up on the {} lane", lane.name()));
        }
    }

    /// Nothing waits to be written.
    pub fn is_flushed(&self) -> bool {
        let sessions = self.0.sessions.borrow();
        sessions.standing().all(|(_, _, lanes)| lanes.iter().flatten().all(|Conduit(lane)| lane.is_flushed()))
    }

    /// Breaks a link.
    pub fn close(&self, peer: ServerId, why: &str) {
        let name = self.name(peer);
        let outcome = self.0.sessions.borrow_mut().drop_link(peer);
        self.settle(peer, &name, outcome, why);
    }

    /// Accepts lanes for ever.
    pub async fn accept(self, listener: Listener) {
        while !self.0.stopping.get() {
            match listener.accept().await {
                Ok(conn) if self.0.handshakes.get() < HANDSHAKES_MAX && !self.0.stopping.get() => self.welcome(conn),
                Ok(_) => {}
                Err(error) => {
                    self.tell("accept", &format!("Error accepting a route connection: {error}; trying again"));
                    Timer::new(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn welcome(&self, conn: Conn) {
        self.0.handshakes.set(self.0.handshakes.get() + 1);
        let links = self.clone();
        glommio::spawn_local(async move {
            let from = conn.remote_addr().ip().to_string();
            let opened = links.open(conn, None).await;
            links.0.handshakes.set(links.0.handshakes.get() - 1);
            match opened {
                Opened::Refused(refusal) if dial::is_worth_a_word(refusal.code) => {
                    links.tell(&from, &format!("Route connection from {from} refused: {}", refusal.text));
                }
                Opened::Failed(why) => {
                    let text = format!("Connection from {from} on the route port was closed: {why}");
                    // Whoever only looks whether somebody listens is no trouble.
                    if why == LEFT { links.0.logger.debug(text) } else { links.tell(&from, &text) }
                }
                _ => {}
            }
        })
        .detach();
    }

    /// Handshakes a connection, dialled (with the route and the lane to open) or accepted, and lets it live if both
    /// sides agree and it is needed.
    async fn open(&self, mut conn: Conn, dialled: Option<(&str, Lane)>) -> Opened {
        let mut link = self.new_link(dialled);
        let timeout = self.0.cluster.borrow().as_ref().map_or(HANDSHAKE_TIMEOUT, |cluster| cluster.auth_timeout);
        let late = async {
            Timer::new(timeout).await;
            Err("the handshake took too long".to_owned())
        };
        let event = self.handshake(&mut conn, &mut link).or(late).await;
        let side = if dialled.is_some() { Side::Ours } else { Side::Theirs };
        match event {
            Ok(LinkEvent::Established { hello, .. }) => self.install(conn, link, hello, side),
            Ok(LinkEvent::Refused { refusal, .. }) => Opened::Refused(refusal),
            Ok(_) => Opened::Failed("unexpected answer".into()),
            Err(why) => Opened::Failed(why),
        }
    }

    fn new_link(&self, dialled: Option<(&str, Lane)>) -> Link {
        let cluster = self.0.cluster.borrow();
        let mut us = self.0.hello.borrow().clone();
        let rules = self.rules(cluster.as_ref());
        match dialled {
            Some((route, lane)) => {
                us.lane = lane;
                us.credentials = cluster.as_ref().and_then(|cluster| dial::credentials(cluster, route));
                Link::dial(us, rules, lane::timing(lane))
            }
            None => Link::accept(us, rules, lane::timing(Lane::Control)),
        }
    }

    async fn handshake(&self, conn: &mut Conn, link: &mut Link) -> Result<LinkEvent, String> {
        loop {
            let event = link.poll(self.0.clock.now().us).map_err(|e| e.to_string())?;
            let out = link.take_output();
            conn.write_all(&out).await.map_err(|e| e.to_string())?;
            match event {
                Some(LinkEvent::Asked { credentials }) => {
                    let right = self.compare(credentials).await;
                    if let Some(refused) = link.judged(self.0.clock.now().us, right) {
                        conn.write_all(&link.take_output()).await.map_err(|e| e.to_string())?;
                        return Ok(refused);
                    }
                    continue;
                }
                Some(event) => return Ok(event),
                None => {}
            }
            let data = conn.read().await.map_err(|e| e.to_string())?;
            if data.is_empty() {
                return Err(LEFT.into());
            }
            link.push(data);
        }
    }

    /// Whether a caller knows the cluster's password, found out beside the cores.
    async fn compare(&self, credentials: Option<Credentials>) -> bool {
        let cluster = self.0.cluster.borrow().as_ref().and_then(|c| Some((c.password.clone()?, c.auth_timeout)));
        let (Some((secret, patience)), Some(Credentials { pass, .. })) = (cluster, credentials) else { return false };
        let claim = Box::new(Claim { secret, given: pass });
        self.0.judge.ask(claim, patience).await.unwrap_or(false)
    }

    /// Both sides agree: the lane joins its link, or is closed when another connection serves.
    fn install(&self, conn: Conn, link: Link, hello: Box<Hello>, side: Side) -> Opened {
        let (peer, name) = (ServerId(hello.peer_id), hello.server_name.clone());
        let one = Rc::new(LaneConn::new(peer, side, link, &conn, self.0.clock, self.0.inbox.clone()));
        let lane = one.lane();
        let us = self.0.hello.borrow().clone();
        // It may have come to hold data while this handshake was on its way.
        us.store.iter().for_each(|cluster| one.joined(cluster));
        let outcome = self.0.sessions.borrow_mut().offer(&us, hello, side, lane, Conduit(one.clone()));
        let (kept, whole) = (outcome.kept, outcome.up);
        self.settle(peer, &name, outcome, "it has started anew");
        if !kept {
            return Opened::Superfluous(peer);
        }
        let links = self.clone();
        one.start(conn, move |one, why| links.broken(one, why));
        if !whole {
            self.await_others(one);
        }
        Opened::Lane(peer)
    }

    fn broken(&self, one: &Rc<LaneConn>, why: &str) {
        let name = self.name(one.peer);
        let outcome = self.0.sessions.borrow_mut().broken(one.peer, one.side, &Conduit(one.clone()));
        self.settle(one.peer, &name, outcome, why);
    }

    /// A lane whose link does not come up within the time of a few handshakes is given up.
    fn await_others(&self, one: Rc<LaneConn>) {
        let links = self.clone();
        let timeout = self.0.cluster.borrow().as_ref().map_or(HANDSHAKE_TIMEOUT, |cluster| cluster.auth_timeout);
        glommio::spawn_local(async move {
            Timer::new(timeout * Lane::ALL.len() as u32).await;
            if !one.is_up() {
                links.broken(&one, "its other lanes did not come");
                one.close();
            }
        })
        .detach();
    }

    /// Carries out what a change to the sessions brought.
    fn settle(&self, peer: ServerId, name: &str, outcome: Outcome<Conduit>, why: &str) {
        for Conduit(conn) in &outcome.close {
            conn.close();
        }
        if outcome.down {
            self.0.logger.info(format!("Route to {name} is down: {why}"));
            self.0.inbox.push(Event::PeerGone { peer, why: why.to_owned() });
            self.wake_routes();
        }
        if outcome.up {
            self.announce(peer);
        }
    }

    fn announce(&self, peer: ServerId) {
        let (hello, lanes) = {
            let sessions = self.0.sessions.borrow();
            let Some(hello) = sessions.hello(peer) else { return };
            let lanes = Lane::ALL.map(|lane| sessions.lane(peer, lane).cloned());
            (Box::new(hello.clone()), lanes)
        };
        self.0.logger.info(format!("Route to {} is up", hello.server_name));
        self.0.inbox.push(Event::PeerUp { peer, hello });
        for Conduit(lane) in lanes.into_iter().flatten() {
            lane.set_up();
        }
        self.wake_routes();
    }

    /// What a caller is checked against. A link that has fallen silent does not stand in anybody's way: it may be the
    /// remains of the caller's former boot.
    fn rules(&self, cluster: Option<&Cluster>) -> Rules {
        let wanted = cluster.and_then(|cluster| Some((cluster.user.clone()?, cluster.password.clone()?)));
        let verifier = Arc::new(move |given: Option<&Credentials>| match (&wanted, given) {
            (None, _) => Verdict::Yes,
            (Some((user, _)), Some(given)) if given.user != *user => Verdict::No,
            (Some((_, Secret::Bcrypt(_))), Some(_)) => Verdict::Later,
            (Some((_, password)), Some(given)) if secret_matches(password, &given.pass) => Verdict::Yes,
            (Some(_), _) => Verdict::No,
        });
        let sessions = self.0.sessions.borrow();
        let alive =
            sessions.standing().filter(|(_, _, lanes)| lanes[0].as_ref().is_some_and(|Conduit(c)| c.is_alive()));
        let known = alive.map(|(peer, hello, _)| Known {
            server_name: hello.server_name.clone(),
            server_id: hello.server_id.clone(),
            peer_id: peer.0,
            lanes: [true; 3],
        });
        Rules { verifier, known: known.collect() }
    }

    fn name(&self, peer: ServerId) -> String {
        self.0.sessions.borrow().hello(peer).map_or_else(|| peer.to_string(), |hello| hello.server_name.clone())
    }

    fn wake_routes(&self) {
        for route in self.0.routes.borrow().values() {
            route.changed.raise();
        }
    }

    fn tell(&self, about: &str, text: &str) {
        if self.0.told.is_new(about, text) {
            self.0.logger.error(text);
        }
    }
}
