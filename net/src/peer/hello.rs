//! What a server says about itself when a link begins, and its bytes.
//!
//! ```text
//! "TRST" · version_min u16 · version_max u16 · field · field · ...
//! field = tag u8 · length u16 · bytes        numbers little-endian, text UTF-8, lists repeat their tag
//! ```
//!
//! A field that the receiver does not know is passed over and one that is missing has its default, so that servers of
//! different versions can at least understand why they do not fit.

use super::lane::Lane;
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// The versions of the messages behind the handshake that this build speaks. Since version 2 there are messages by which a
/// replica is let go; since version 3 a candidate says by whose word its group may begin anew.
pub const VERSION_MIN: u16 = 3;
pub const VERSION_MAX: u16 = 3;

/// Largest hello. With every list full of long URLs it stays far below; a stranger cannot make us hold more.
pub const HELLO_BYTES_MAX: usize = 64 * 1024;

const MARK: &[u8] = b"TRST";

/// Entries of one list that are taken; a cluster advertises one URL per server and address.
const LIST_MAX: usize = 256;

/// Longest text of one field: the longest URL that resolves is 255 bytes and its scheme, names are shorter.
const TEXT_BYTES_MAX: usize = 1024;

/// One server, as it introduces itself on one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Versions of the message protocol that the sender speaks, both included.
    pub version_min: u16,
    pub version_max: u16,
    pub server_name: String,
    /// New at every start, as nats-server's server id.
    pub server_id: String,
    /// Derived from the server's name: the same after a restart.
    pub peer_id: u64,
    pub cluster: String,
    /// Nobody configured the cluster's name: the sender takes over that of a server that it meets.
    pub cluster_made_up: bool,
    /// New at every start of the process.
    pub boot_id: u64,
    pub lane: Lane,
    /// Only towards the server that is dialled; removed once checked.
    pub credentials: Option<Credentials>,
    /// Where clients reach the sender, as advertised (`host:port`).
    pub client_urls: Vec<String>,
    /// Where servers reach the sender, as advertised; empty when it must not be gossiped.
    pub route_url: String,
    pub domain: String,
    /// Cores the sender runs on.
    pub cores: u16,
    pub jetstream: bool,
    pub tags: Vec<String>,
    /// The id of the cluster whose data the sender holds; `None` while its log is empty.
    pub store: Option<String>,
    /// Bytes the sender gives to file and memory streams; 0: no bound.
    pub file_bytes_max: u64,
    pub memory_bytes_max: u64,
}

/// User and password of a route.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub pass: String,
}

impl fmt::Debug for Credentials {
    /// Keeps passwords out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?}, ...)", self.user)
    }
}

impl Default for Hello {
    fn default() -> Self {
        Hello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            server_name: String::new(),
            server_id: String::new(),
            peer_id: 0,
            cluster: String::new(),
            cluster_made_up: false,
            boot_id: 0,
            lane: Lane::Control,
            credentials: None,
            client_urls: Vec::new(),
            route_url: String::new(),
            domain: String::new(),
            cores: 1,
            jetstream: false,
            tags: Vec::new(),
            store: None,
            file_bytes_max: 0,
            memory_bytes_max: 0,
        }
    }
}

/// The tags of the fields. A number is never used again for something else.
mod tag {
    pub const SERVER_NAME: u8 = 1;
    pub const SERVER_ID: u8 = 2;
    pub const PEER_ID: u8 = 3;
    pub const CLUSTER: u8 = 4;
    pub const BOOT_ID: u8 = 5;
    pub const LANE: u8 = 6;
    pub const USER: u8 = 7;
    pub const PASS: u8 = 8;
    pub const CLIENT_URL: u8 = 9;
    pub const ROUTE_URL: u8 = 10;
    pub const DOMAIN: u8 = 11;
    pub const CORES: u8 = 12;
    pub const JETSTREAM: u8 = 13;
    pub const TAG: u8 = 14;
    pub const STORE: u8 = 15;
    pub const FILE_BYTES: u8 = 16;
    pub const MEMORY_BYTES: u8 = 17;
    pub const CLUSTER_MADE_UP: u8 = 18;
}

impl Hello {
    /// The version that both sides speak, the newest one; `None` when there is none.
    pub fn common_version(&self, other: &Hello) -> Option<u16> {
        let newest = self.version_max.min(other.version_max);
        (newest >= self.version_min.max(other.version_min)).then_some(newest)
    }

    /// Whether this server takes over the name of the other's cluster: a configured name beats one that was made up, and
    /// of two made-up names the greater wins (peer behaviour), so that all end with the same.
    pub fn yields_name_to(&self, other: &Hello) -> bool {
        self.cluster_made_up && (!other.cluster_made_up || other.cluster > self.cluster)
    }

    /// Appends the bytes. Lists and texts beyond what a receiver takes are cut.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_slice(MARK);
        out.put_u16_le(self.version_min);
        out.put_u16_le(self.version_max);
        put_text(out, tag::SERVER_NAME, &self.server_name);
        put_text(out, tag::SERVER_ID, &self.server_id);
        put_field(out, tag::PEER_ID, &self.peer_id.to_le_bytes());
        put_text(out, tag::CLUSTER, &self.cluster);
        put_field(out, tag::BOOT_ID, &self.boot_id.to_le_bytes());
        put_field(out, tag::LANE, &[self.lane.code()]);
        if let Some(Credentials { user, pass }) = &self.credentials {
            put_text(out, tag::USER, user);
            put_text(out, tag::PASS, pass);
        }
        // The lists come last and share what room is left, so that the whole stays within what a receiver takes.
        put_text(out, tag::ROUTE_URL, &self.route_url);
        put_text(out, tag::DOMAIN, &self.domain);
        put_field(out, tag::CORES, &self.cores.to_le_bytes());
        put_field(out, tag::JETSTREAM, &[u8::from(self.jetstream)]);
        if let Some(store) = &self.store {
            put_text(out, tag::STORE, store);
        }
        put_field(out, tag::CLUSTER_MADE_UP, &[u8::from(self.cluster_made_up)]);
        put_field(out, tag::FILE_BYTES, &self.file_bytes_max.to_le_bytes());
        put_field(out, tag::MEMORY_BYTES, &self.memory_bytes_max.to_le_bytes());
        put_list(out, tag::TAG, &self.tags, HELLO_BYTES_MAX / 2);
        put_list(out, tag::CLIENT_URL, &self.client_urls, HELLO_BYTES_MAX - 16);
    }

    /// Reads what [`Hello::encode`] wrote, in this version or another.
    pub fn decode(body: &Bytes) -> Result<Hello, &'static str> {
        let mut rest = body.strip_prefix(MARK).ok_or("no hello")?;
        let mut hello =
            Hello { version_min: take_u16(&mut rest)?, version_max: take_u16(&mut rest)?, ..Hello::default() };
        if hello.version_min > hello.version_max {
            return Err("version range is empty");
        }
        while let Some((tag, after)) = rest.split_first() {
            rest = after;
            let length = usize::from(take_u16(&mut rest)?);
            let (value, after) = rest.split_at_checked(length).ok_or("field is cut off")?;
            rest = after;
            hello.take_field(*tag, value)?;
        }
        if hello.server_name.is_empty() || hello.server_id.is_empty() {
            return Err("no server name or id");
        }
        Ok(hello)
    }

    fn take_field(&mut self, tag: u8, value: &[u8]) -> Result<(), &'static str> {
        match tag {
            tag::SERVER_NAME => self.server_name = text(value)?,
            tag::SERVER_ID => self.server_id = text(value)?,
            tag::PEER_ID => self.peer_id = u64::from_le_bytes(number(value)?),
            tag::CLUSTER => self.cluster = text(value)?,
            tag::BOOT_ID => self.boot_id = u64::from_le_bytes(number(value)?),
            tag::LANE => self.lane = Lane::from_code(u8::from_le_bytes(number(value)?)).ok_or("unknown lane")?,
            tag::USER => self.credentials_mut().user = text(value)?,
            tag::PASS => self.credentials_mut().pass = text(value)?,
            tag::CLIENT_URL => push(&mut self.client_urls, value)?,
            tag::ROUTE_URL => self.route_url = text(value)?,
            tag::DOMAIN => self.domain = text(value)?,
            tag::CORES => self.cores = u16::from_le_bytes(number(value)?),
            tag::JETSTREAM => self.jetstream = number::<1>(value)? != [0],
            tag::TAG => push(&mut self.tags, value)?,
            tag::STORE => self.store = Some(text(value)?),
            tag::CLUSTER_MADE_UP => self.cluster_made_up = number::<1>(value)? != [0],
            tag::FILE_BYTES => self.file_bytes_max = u64::from_le_bytes(number(value)?),
            tag::MEMORY_BYTES => self.memory_bytes_max = u64::from_le_bytes(number(value)?),
            _ => {}
        }
        Ok(())
    }

    fn credentials_mut(&mut self) -> &mut Credentials {
        self.credentials.get_or_insert_with(|| Credentials { user: String::new(), pass: String::new() })
    }
}

fn put_field(out: &mut BytesMut, tag: u8, value: &[u8]) {
    out.put_u8(tag);
    out.put_u16_le(value.len() as u16);
    out.put_slice(value);
}

fn put_text(out: &mut BytesMut, tag: u8, value: &str) {
    put_field(out, tag, cut(value, TEXT_BYTES_MAX).as_bytes());
}

/// As much of the text as fits into so many bytes, in whole characters.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn put_list(out: &mut BytesMut, tag: u8, values: &[String], bytes_max: usize) {
    for value in values.iter().take(LIST_MAX) {
        if out.len() + value.len() + 3 > bytes_max {
            return;
        }
        put_text(out, tag, value);
    }
}

fn take_u16(rest: &mut &[u8]) -> Result<u16, &'static str> {
    let (bytes, after) = rest.split_first_chunk::<2>().ok_or("hello is cut off")?;
    *rest = after;
    Ok(u16::from_le_bytes(*bytes))
}

fn number<const N: usize>(value: &[u8]) -> Result<[u8; N], &'static str> {
    value.try_into().map_err(|_| "number of the wrong size")
}

fn text(value: &[u8]) -> Result<String, &'static str> {
    if value.len() > TEXT_BYTES_MAX {
        return Err("text is too long");
    }
    String::from_utf8(value.to_vec()).map_err(|_| "text is not UTF-8")
}

fn push(list: &mut Vec<String>, value: &[u8]) -> Result<(), &'static str> {
    if list.len() >= LIST_MAX {
        return Err("list is too long");
    }
    list.push(text(value)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    fn full() -> Hello {
        Hello {
            version_min: 3,
            version_max: 7,
            server_name: "emea_1".into(),
            server_id: "NABC".into(),
            peer_id: u64::MAX - 1,
            cluster: "C1".into(),
            boot_id: 77,
            lane: Lane::Bulk,
            credentials: Some(Credentials { user: "route".into(), pass: "s3cret".into() }),
            client_urls: vec!["10.0.0.1:4222".into(), "10.0.0.2:4222".into()],
            route_url: "10.0.0.1:6222".into(),
            domain: "hub".into(),
            cores: 32,
            jetstream: true,
            tags: vec!["dc:1".into(), "region:emea".into()],
            store: Some("u7x".into()),
            cluster_made_up: true,
            file_bytes_max: 1 << 40,
            memory_bytes_max: 1 << 30,
        }
    }

    fn encoded(hello: &Hello) -> Bytes {
        let mut out = BytesMut::new();
        hello.encode(&mut out);
        out.freeze()
    }

    #[test]
    fn every_field_reads_back() {
        assert_eq!(Hello::decode(&encoded(&full())), Ok(full()));
        let bare = Hello { server_name: "a".into(), server_id: "b".into(), ..Hello::default() };
        assert_eq!(Hello::decode(&encoded(&bare)), Ok(bare));
    }

    #[test]
    fn an_unknown_field_is_passed_over() {
        let mut out = BytesMut::from(&encoded(&full())[..]);
        put_field(&mut out, 200, b"from a later version");
        assert_eq!(Hello::decode(&out.freeze()), Ok(full()));
    }

    #[test]
    fn the_newest_common_version_is_chosen() {
        let range = |version_min, version_max| Hello { version_min, version_max, ..Hello::default() };
        assert_eq!(range(1, 3).common_version(&range(2, 5)), Some(3));
        assert_eq!(range(4, 5).common_version(&range(1, 4)), Some(4));
        assert_eq!(range(1, 1).common_version(&range(2, 5)), None);
    }

    #[test]
    fn a_hello_with_endless_lists_is_cut_to_what_is_taken() {
        let mut hello = full();
        hello.tags = (0..5_000).map(|n| format!("{n}{}", "t".repeat(2_000))).collect();
        hello.client_urls = hello.tags.clone();
        let bytes = encoded(&hello);
        assert!(bytes.len() <= HELLO_BYTES_MAX);
        let read = Hello::decode(&bytes).unwrap();
        assert_eq!(read.server_name, hello.server_name);
        assert!(!read.tags.is_empty());
        assert!(!read.client_urls.is_empty());
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("a\u{e4}b", 2), "a");
        assert_eq!(cut("a\u{e4}b", 3), "a\u{e4}");
        assert_eq!(cut("ab", 9), "ab");
    }

    #[test]
    fn passwords_are_not_printed() {
        assert!(!format!("{:?}", full()).contains("s3cret"));
    }

    #[test]
    fn damaged_hellos_are_errors_or_other_hellos() {
        let mut dice = Dice::new(8);
        let bytes = encoded(&full());
        let mut refused = 0;
        for _ in 0..20_000 {
            let damaged = Bytes::from(dice.damage(&bytes));
            match Hello::decode(&damaged) {
                Ok(hello) => assert!(encoded(&hello).len() <= HELLO_BYTES_MAX),
                Err(reason) => {
                    assert!(!reason.is_empty());
                    refused += 1;
                }
            }
        }
        assert!(refused > 1_000);
    }
}
