//! The clients' sockets of one core: accept, one reading and one writing task each, and close.
//!
//! Reading hands every chunk to the shard as it came. Writing sends what the shard queued since the last write in one
//! call. A connection that is to be closed first gets rid of what was queued, within a bound, however it ends: nobody
//! keeps a descriptor by not reading.
//!
//! A connection that the shard sends to another core leaves its two tasks here and begins two there; its socket waits in
//! between for whoever takes it over. Connection numbers name their first core, so they stay the same.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_lite::FutureExt;
use futures_lite::future::yield_now;
use glommio::timer::Timer;
use net::uring::conn::{Closer, Conn, Reader, Writer};
use net::uring::listen::Listener;

use super::inbox::{Inbox, Notify};
use crate::event::Event;
use crate::ids::ConnId;
use crate::logging::Logger;

/// What a connection that must go may still take to be sent what is queued for it.
const LINGER: Duration = Duration::from_secs(2);

/// Pause after a failed accept (out of file descriptors, mostly): the condition rarely ends within microseconds.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Clients of all cores that are connected and not being closed. The bound on connections is the whole server's, and a
/// crowd that arrives at once finds every core before the cores could tell each other.
pub type Seats = Arc<AtomicU32>;

/// Sockets that one core let go of and another one has not taken over yet. Locked for a moment, and rarely: a
/// connection moves a few times in its life.
pub type Transit = Arc<Mutex<HashMap<ConnId, OwnedFd>>>;

#[derive(Clone)]
pub struct Clients(Rc<Inner>);

struct Inner {
    map: RefCell<HashMap<ConnId, Rc<Client>>>,
    seats: Seats,
    transit: Transit,
    stopping: Notify,
}

struct Client {
    queue: RefCell<Vec<Bytes>>,
    writing: Cell<bool>,
    ready: Notify,
    resumed: Notify,
    paused: Cell<bool>,
    closing: Cell<bool>,
    /// It leaves for another core: its tasks here end.
    parting: Cell<bool>,
    parts: Notify,
    /// Its socket once more, then.
    socket: RefCell<Option<OwnedFd>>,
    /// Where it is counted, until it leaves.
    seat: Cell<Option<Seats>>,
    /// Raised when the writing half is done.
    written: Notify,
    closer: Closer,
}

impl Client {
    fn new(conn: &Conn, seats: Seats) -> Client {
        Client {
            queue: RefCell::default(),
            writing: Cell::new(false),
            ready: Notify::default(),
            resumed: Notify::default(),
            paused: Cell::new(false),
            closing: Cell::new(false),
            parting: Cell::new(false),
            parts: Notify::default(),
            socket: RefCell::default(),
            seat: Cell::new(Some(seats)),
            written: Notify::default(),
            closer: conn.closer(),
        }
    }

    /// What is queued may still leave for a while, then the connection ends.
    fn end(self: &Rc<Client>) {
        if let Some(seats) = self.seat.take() {
            seats.fetch_sub(1, Ordering::Relaxed);
        }
        if self.closing.replace(true) {
            return;
        }
        self.ready.raise();
        let client = self.clone();
        glommio::spawn_local(async move {
            let late = async {
                Timer::new(LINGER).await;
            };
            client.written.wait().or(late).await;
            client.closer.close();
        })
        .detach();
    }
}

impl Clients {
    pub fn new(seats: Seats, transit: Transit) -> Clients {
        Clients(Rc::new(Inner { map: RefCell::default(), seats, transit, stopping: Notify::default() }))
    }

    pub fn write(&self, conn: ConnId, data: Vec<Bytes>) {
        if let Some(client) = self.0.map.borrow().get(&conn) {
            client.queue.borrow_mut().extend(data);
            client.ready.raise();
        }
    }

    pub fn pause(&self, conn: ConnId, paused: bool) {
        if let Some(client) = self.0.map.borrow().get(&conn) {
            client.paused.set(paused);
            client.resumed.raise();
        }
    }

    pub fn close(&self, conn: ConnId) {
        if let Some(client) = self.0.map.borrow().get(&conn) {
            client.end();
        }
    }

    /// Lets go of a client's socket; the shard hears when that has happened, or that it cannot be done.
    pub fn release(&self, conn: ConnId, inbox: &Inbox) {
        let Some(client) = self.0.map.borrow().get(&conn).cloned() else { return };
        let Ok(socket) = client.closer.to_fd() else {
            return inbox.push(Event::ClientReleased { conn, ok: false });
        };
        client.socket.replace(Some(socket));
        client.parting.set(true);
        client.parts.raise();
        client.ready.raise();
        client.resumed.raise();
    }

    /// Takes over a socket that a core let go of.
    pub fn adopt(&self, conn: ConnId, inbox: Inbox) {
        let socket = self.0.transit.lock().expect("nobody panics with this lock").remove(&conn);
        match socket.ok_or_else(|| io::ErrorKind::NotFound.into()).and_then(Conn::from_fd) {
            Ok(socket) => self.run(conn, socket, inbox),
            Err(error) => {
                self.0.seats.fetch_sub(1, Ordering::Relaxed);
                inbox.push(Event::ClientGone { conn, why: format!("Read Error: {error}") });
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.map.borrow().is_empty()
    }

    /// Nothing waits to be written or is being written.
    pub fn is_flushed(&self) -> bool {
        self.0.map.borrow().values().all(|client| client.queue.borrow().is_empty() && !client.writing.get())
    }

    /// Ends [`Clients::accept`]; who is connected stays.
    pub fn stop_accepting(&self) {
        self.0.stopping.raise();
    }

    /// Accepts until [`Clients::stop_accepting`]. `number` gives connection ids that no other listener of this server
    /// uses.
    pub async fn accept(self, listener: Listener, inbox: Inbox, number: Rc<Cell<u64>>, logger: Logger) {
        let stop = self.0.stopping.clone();
        let accepting = async {
            let mut failing = false;
            loop {
                match listener.accept().await {
                    Ok(conn) => {
                        failing = false;
                        let id = ConnId(number.replace(number.get() + 1));
                        self.serve(id, conn, inbox.clone());
                    }
                    Err(error) if is_passing(&error) => {}
                    Err(error) => {
                        if !std::mem::replace(&mut failing, true) {
                            logger.error(format!("Error accepting a client connection: {error}; trying again"));
                        }
                        Timer::new(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        accepting.or(stop.wait()).await;
    }

    fn serve(&self, id: ConnId, conn: Conn, inbox: Inbox) {
        let (remote, local) = (conn.remote_addr(), conn.local_addr());
        let others = self.0.seats.fetch_add(1, Ordering::Relaxed);
        inbox.push(Event::Accepted { conn: id, remote, local, others });
        self.run(id, conn, inbox);
    }

    /// Reads and writes a connection that has its seat.
    fn run(&self, id: ConnId, conn: Conn, inbox: Inbox) {
        let client = Rc::new(Client::new(&conn, self.0.seats.clone()));
        self.0.map.borrow_mut().insert(id, client.clone());
        let (reader, writer) = conn.split();
        glommio::spawn_local(write(id, writer, client.clone(), inbox.clone())).detach();
        let clients = self.clone();
        glommio::spawn_local(async move {
            let ended = read(id, reader, &client, &inbox).await;
            let event = match ended {
                Ended::Over(why) => {
                    client.end();
                    Event::ClientGone { conn: id, why }
                }
                Ended::Parts(socket) => {
                    // What was written is told before.
                    client.written.wait().await;
                    client.seat.take();
                    clients.0.transit.lock().expect("nobody panics with this lock").insert(id, socket);
                    Event::ClientReleased { conn: id, ok: true }
                }
            };
            clients.0.map.borrow_mut().remove(&id);
            inbox.push(event);
        })
        .detach();
    }
}

/// How the reading of a connection ends.
enum Ended {
    /// The connection is over; why.
    Over(String),
    /// It goes on elsewhere.
    Parts(OwnedFd),
}

/// Reads until the connection is over, or leaves.
async fn read(id: ConnId, mut reader: Reader, client: &Client, inbox: &Inbox) -> Ended {
    loop {
        while client.paused.get() && !client.closing.get() && !client.parting.get() {
            client.resumed.wait().await;
        }
        let parts = async {
            client.parts.wait().await;
            None
        };
        let Some(read) = async { Some(reader.read().await) }.or(parts).await else {
            let Some(socket) = client.socket.take() else { continue };
            return Ended::Parts(socket);
        };
        match read {
            Ok(data) if data.is_empty() => return Ended::Over("Client Closed".into()),
            Ok(data) => inbox.push(Event::ClientBytes { conn: id, data }),
            Err(error) => return Ended::Over(format!("Read Error: {error}")),
        }
        // A connection that always has more must not keep the shard from its turn.
        yield_now().await;
    }
}

/// Writes what is queued, batch by batch, and closes at the end.
async fn write(id: ConnId, mut writer: Writer, client: Rc<Client>, inbox: Inbox) {
    loop {
        let parts = std::mem::take(&mut *client.queue.borrow_mut());
        if parts.is_empty() {
            if client.closing.get() {
                break;
            }
            if client.parting.get() {
                return client.written.raise();
            }
            client.ready.wait().await;
            continue;
        }
        let bytes = parts.iter().map(Bytes::len).sum();
        client.writing.set(true);
        let sent = writer.write_parts(&parts).await;
        client.writing.set(false);
        if sent.is_err() {
            client.queue.borrow_mut().clear();
            break;
        }
        inbox.push(Event::ClientWritten { conn: id, bytes });
    }
    client.closer.close();
    client.written.raise();
    client.paused.set(false);
    client.resumed.raise();
}

/// The other side gave up before we answered; nothing is wrong here.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
