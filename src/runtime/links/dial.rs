//! Routes: who is dialled, how often, and with which credentials.
//!
//! A route from the configuration is dialled until the process ends, quickly at first; one that was learnt from another
//! server until that server has been away for a while. While the server behind a route is linked, by whichever side
//! dialled, its task sleeps.

use std::cell::Cell;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::FutureExt;
use futures_lite::future::zip;
use glommio::timer::Timer;
use net::peer::hello::Credentials;
use net::peer::lane::Lane;
use net::peer::link::{RefusalCode, keeps_our_dial};
use net::uring::conn::Conn;
use net::uring::dial::dial;

use super::super::inbox::Notify;
use super::sessions::Side;
use super::{Links, Opened};
use crate::config::options::Cluster;
use crate::ids::ServerId;

/// To reach the host at all.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// First and longest pause between two dials of a route. A cluster that starts together is linked within one of the
/// short ones; a server that is away costs two connects a second.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LAST: Duration = Duration::from_millis(500);

/// Of two servers that lost their link, the one whose dial would lose a contest waits longer: longer than opening a
/// link takes over a wide network.
const PAUSE_COURTESY: Duration = Duration::from_millis(250);

/// A route whose server is linked is looked at again after this, or at once when a link comes or goes.
const PAUSE_LINKED: Duration = Duration::from_secs(30);

/// A link that stood for less counts as a failed dial: the pauses grow.
const STEADY_US: u64 = 5_000_000;

/// "It stands already" may be an error of the other side, which has not noticed yet that a link is gone. It notices
/// within about a second; after so many tries it must be right.
const REDUNDANT_TRIES: u32 = 8;

/// Failures in a row until a learnt route is given up: some twenty seconds at the longest pause.
const LEARNT_TRIES: u32 = 40;

/// Routes that are dialled at once, beyond which none is learnt from others: far more than a cluster has servers, and what
/// one that tells nonsense can make this server dial.
const ROUTES_MAX: usize = 256;

/// A restarted server is refused while its old link is thought to be alive; only when that lasts it is worth a line.
const CLASH_TRIES: u32 = 8;

pub struct Route {
    wanted: Cell<bool>,
    pub changed: Notify,
    /// Who answered there.
    peer: Cell<Option<ServerId>>,
}

/// How a try to link with the server behind a route ended.
enum Attempt {
    Linked,
    /// The other side says so, but we do not know which server that is.
    Redundant,
    /// It ended without fault: both sides dialled. Try again soon.
    Again,
    Myself,
    Failed {
        text: String,
        code: Option<RefusalCode>,
    },
}

/// What a route remembers between tries.
struct Patience {
    pause: Duration,
    failures: u32,
    redundant: u32,
}

impl Patience {
    fn new() -> Patience {
        Patience { pause: PAUSE_FIRST, failures: 0, redundant: 0 }
    }

    fn next(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_LAST);
        pause
    }
}

/// Whether a person has to do something about it.
pub fn is_worth_a_word(code: RefusalCode) -> bool {
    !matches!(code, RefusalCode::Redundant | RefusalCode::SelfConnection | RefusalCode::DuplicateName)
}

impl Links {
    /// Dials a route until [`Links::undial`]; one that was only learnt (`lasting` false) until its server has been
    /// gone for a while.
    pub fn dial(&self, route: String, lasting: bool) {
        let mut routes = self.0.routes.borrow_mut();
        let crowded = !lasting && routes.len() >= ROUTES_MAX;
        if routes.contains_key(&route) || crowded || self.0.stopping.get() {
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

    /// A link that stands stays.
    pub fn undial(&self, route: &str) {
        if let Some(route) = self.0.routes.borrow().get(route) {
            route.wanted.set(false);
            route.changed.raise();
        }
    }

    /// The life of one route.
    async fn keep(&self, route: &str, state: &Route, lasting: bool) {
        let mut patience = Patience::new();
        while state.wanted.get() && !self.0.stopping.get() {
            match self.attempt(route, state).await {
                Attempt::Linked => self.rest(route, state, &mut patience).await,
                Attempt::Myself => {
                    self.0.logger.debug(format!("Route {route} leads to this server itself"));
                    state.wanted.set(false);
                }
                Attempt::Redundant if patience.redundant >= REDUNDANT_TRIES => {
                    patience = Patience::new();
                    self.pause(state, PAUSE_LINKED).await;
                }
                Attempt::Redundant => {
                    patience.redundant += 1;
                    Timer::new(patience.next()).await;
                }
                Attempt::Again => {
                    Timer::new(patience.next() + self.courtesy(state)).await;
                }
                Attempt::Failed { text, code } => {
                    patience.failures += 1;
                    self.complain(route, &text, code, patience.failures);
                    if !lasting && patience.failures > LEARNT_TRIES {
                        return;
                    }
                    Timer::new(patience.next()).await;
                }
            }
        }
    }

    /// Sleeps while the link stands, and as long as a link that did not stand long deserves.
    async fn rest(&self, route: &str, state: &Route, patience: &mut Patience) {
        self.0.told.forget(route);
        let since = self.0.clock.now().us;
        while state.wanted.get() && !self.0.stopping.get() && self.is_linked(state) {
            self.pause(state, PAUSE_LINKED).await;
        }
        if self.0.clock.now().us - since >= STEADY_US {
            *patience = Patience::new();
        }
        if !self.0.stopping.get() {
            Timer::new(patience.next() + self.courtesy(state)).await;
        }
    }

    fn complain(&self, route: &str, text: &str, code: Option<RefusalCode>, failures: u32) {
        if code == Some(RefusalCode::DuplicateName) && failures < CLASH_TRIES {
            return;
        }
        self.tell(route, &format!("Error trying to connect to route {route}: {text}"));
    }

    async fn pause(&self, state: &Route, longest: Duration) {
        let over = async {
            Timer::new(longest).await;
        };
        state.changed.wait().or(over).await;
    }

    /// Extra patience of the side whose dial would lose.
    fn courtesy(&self, state: &Route) -> Duration {
        let sessions = self.0.sessions.borrow();
        let loses = state.peer.get().and_then(|peer| {
            let them = sessions.hello(peer)?;
            Some(!keeps_our_dial(&self.0.hello.borrow(), them))
        });
        if loses.unwrap_or(self.0.hello.borrow().boot_id & 1 == 1) { PAUSE_COURTESY } else { Duration::ZERO }
    }

    fn is_linked(&self, state: &Route) -> bool {
        state.peer.get().is_some_and(|peer| self.0.sessions.borrow().is_up(peer))
    }

    /// Opens the lanes of a link, control first: who is there, and whether our dial counts, is known then.
    async fn attempt(&self, route: &str, state: &Route) -> Attempt {
        if self.is_linked(state) {
            return Attempt::Linked;
        }
        let peer = match self.open_lane(route, Lane::Control).await {
            Opened::Lane(peer) => peer,
            other => return self.judge(state, other),
        };
        state.peer.set(Some(peer));
        let (data, bulk) = zip(self.open_lane(route, Lane::Data), self.open_lane(route, Lane::Bulk)).await;
        for opened in [data, bulk] {
            if !matches!(opened, Opened::Lane(_)) {
                let outcome = self.0.sessions.borrow_mut().give_up(peer, Side::Ours);
                self.settle(peer, "", outcome, "");
                return self.judge(state, opened);
            }
        }
        if self.is_linked(state) { Attempt::Linked } else { Attempt::Again }
    }

    fn judge(&self, state: &Route, opened: Opened) -> Attempt {
        match opened {
            Opened::Lane(peer) | Opened::Superfluous(peer) => {
                state.peer.set(Some(peer));
                if self.is_linked(state) { Attempt::Linked } else { Attempt::Again }
            }
            Opened::Refused(refusal) => match refusal.code {
                RefusalCode::Redundant if self.is_linked(state) => Attempt::Linked,
                RefusalCode::Redundant => Attempt::Redundant,
                RefusalCode::SelfConnection => Attempt::Myself,
                code => Attempt::Failed { text: refusal.text, code: Some(code) },
            },
            Opened::Failed(text) => Attempt::Failed { text, code: None },
        }
    }

    async fn open_lane(&self, route: &str, lane: Lane) -> Opened {
        match connect(route).await {
            Ok(conn) => self.open(conn, Some((route, lane))).await,
            Err(text) => Opened::Failed(text),
        }
    }
}

async fn connect(route: &str) -> Result<Conn, String> {
    let addr = resolve(route).await?;
    dial(addr, DIAL_TIMEOUT).await.map_err(|e| match e.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => e.to_string(),
    })
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
pub fn credentials(cluster: &Cluster, route: &str) -> Option<Credentials> {
    let listed = cluster.routes.iter().find(|listed| listed.to_string() == route);
    match listed.map(|listed| (listed.user.clone(), listed.password.clone())) {
        Some((Some(user), Some(pass))) => Some(Credentials { user, pass }),
        _ => match (&cluster.user, &cluster.password) {
            (Some(user), Some(pass)) => Some(Credentials { user: user.clone(), pass: pass.text().to_owned() }),
            _ => None,
        },
    }
}
