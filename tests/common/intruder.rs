//! A server that is none: it passes the handshake with the peers' own codec and then says whatever a test wants.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use net::peer::frame;
use net::peer::hello::{Credentials, Hello};
use net::peer::lane::Lane;
use net::peer::link::{Link, LinkEvent, RefusalCode, Rules, Timing};
use trestle::account::Accounts;
use trestle::args::Flags;
use trestle::cluster::codec;
use trestle::cluster::wire::NodeMsg;
use trestle::config::{self, source::Memory};
use trestle::ids::{CoreId, ServerId};

use super::cluster::ACCOUNTS;
use super::{PATIENCE, wait_for};

/// The accounts of the clusters that tests start.
pub fn accounts() -> Accounts {
    let path = PathBuf::from("intruder.conf");
    let files = BTreeMap::from([(path.clone(), ACCOUNTS.as_bytes().to_vec())]);
    let source = Memory { files, ..Memory::default() };
    Accounts::new(&config::load(&source, &Flags { config: Some(path), ..Flags::default() }).unwrap())
}

/// All three lanes of a link.
pub struct Intruder {
    pub id: ServerId,
    lanes: Vec<TcpStream>,
    /// What the server said of itself.
    pub met: Box<Hello>,
}

impl Intruder {
    /// Introduces itself on every lane, as soon as its former link is forgotten. `store`: the cluster whose data it claims
    /// to hold.
    pub fn enter(addr: &str, cluster: &str, name: &str, jetstream: bool, store: Option<String>) -> Intruder {
        let hello = Hello {
            server_name: name.into(),
            server_id: format!("N{name}"),
            peer_id: ServerId::of(name).0,
            cluster: cluster.into(),
            boot_id: 1,
            credentials: Some(Credentials { user: "route".into(), pass: "route".into() }),
            jetstream,
            // More than any server has: it must not cost the others anything.
            cores: u16::MAX,
            store,
            ..Hello::default()
        };
        wait_for("a welcome", || Intruder::try_enter(addr, &hello))
    }

    fn try_enter(addr: &str, hello: &Hello) -> Option<Intruder> {
        let (mut lanes, mut met) = (Vec::new(), Box::default());
        for lane in Lane::ALL {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            match handshake(&mut stream, Hello { lane, ..hello.clone() }) {
                LinkEvent::Established { hello, .. } => met = hello,
                LinkEvent::Refused { refusal, .. } if refusal.code == RefusalCode::Redundant => return None,
                other => panic!("no welcome on the {} lane: {other:?}", lane.name()),
            }
            lanes.push(stream);
        }
        // The link is up once the server says anything on it. A lane may still have been taken for one of the former link.
        let up = lanes[0].read(&mut [0; 1]).is_ok_and(|read| read > 0);
        up.then(|| Intruder { id: ServerId(hello.peer_id), lanes, met })
    }

    /// Bytes on a lane; a server that has hung up does not matter.
    pub fn raw(&mut self, lane: Lane, bytes: &[u8]) {
        let _ = self.lanes[usize::from(lane.code())].write_all(bytes);
    }

    /// A frame with one message for a core.
    pub fn say(&mut self, accounts: &Accounts, to: CoreId, msg: &NodeMsg) {
        let (mut body, mut out) = (BytesMut::new(), BytesMut::new());
        body.put_u16_le(to);
        body.put_u16_le(u16::MAX);
        codec::encode(msg, accounts, &mut body);
        let lane = msg.lane();
        frame::encode(&mut out, codec::FRAME_KIND, lane, 0, &body);
        self.raw(lane, &out);
    }

    /// Waits until the server has closed every lane.
    pub fn wait_end(&mut self) {
        for stream in &mut self.lanes {
            end_of(stream);
        }
    }
}

/// Reads until the other side is gone, or panics.
pub fn end_of(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = [0; 65_536];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
            Err(error) => panic!("the server does not hang up: {error}"),
        }
    }
}

/// Says hello on the route port; what comes of it.
pub fn handshake(stream: &mut TcpStream, hello: Hello) -> LinkEvent {
    let mut link = Link::dial(hello, Rules::open(), Timing::default());
    loop {
        let event = link.poll(0).unwrap();
        stream.write_all(&link.take_output()).unwrap();
        if let Some(event) = event {
            return event;
        }
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).unwrap();
        assert_ne!(read, 0, "closed without a word");
        link.push(Bytes::copy_from_slice(&bytes[..read]));
    }
}

/// One connection that sends bytes and hears what comes back within a moment, or the end.
pub fn throw(addr: &str, bytes: &[u8]) -> (TcpStream, Vec<u8>) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    // The server may close in the middle of it: that is an answer, too.
    let _ = stream.write_all(bytes);
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let (mut heard, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut part) {
        heard.extend_from_slice(&part[..read]);
    }
    (stream, heard)
}
