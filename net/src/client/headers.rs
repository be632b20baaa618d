//! The header block of a message: `NATS/1.0`, an optional status, then lines `Name: value`, then a blank line.
//!
//! ```text
//! NATS/1.0 503 No Responders\r\n        status line; code and text only in what servers send
//! Nats-Msg-Id: 17\r\n                   a name is compared byte by byte: upper and lower case differ, as in the peer
//! Nats-Msg-Id: 18\r\n                   names may repeat, the first one counts where one value is wanted
//! \r\n
//! ```
//!
//! Reading takes any bytes and never fails: what is not of this form is simply not found. Blanks around a value are not
//! part of it. Changes make a new block; lines that are not concerned keep their bytes.

use bytes::{BufMut, Bytes, BytesMut};

/// How every block begins.
pub const VERSION: &[u8] = b"NATS/1.0";
const END: &[u8] = b"\r\n";

/// What a requester hears when nobody listens on `subject`.
pub fn no_responders(subject: &[u8]) -> Bytes {
    [b"NATS/1.0 503\r\nNats-Subject: ", subject, b"\r\n\r\n"].concat().into()
}

/// A block as it was received, to be read.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    block: &'a [u8],
}

impl<'a> Headers<'a> {
    /// A view of a block; of none, when empty.
    pub fn new(block: &'a [u8]) -> Self {
        Headers { block }
    }

    /// The first value of a name.
    pub fn get(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// The same as text; `None` also when it is not UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&'a str> {
        self.get(name.as_bytes()).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All values of a name, in order.
    pub fn get_all(&self, name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Names and values in order, up to the blank line. Blanks before a value are not its own, those behind it are. Lines without a colon are passed over.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone {
        self.lines().filter_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            Some((&line[..colon], line[colon + 1..].trim_ascii_start()))
        })
    }

    /// Code and text of the status line, as in `NATS/1.0 503 No Responders`; `None` when there is no code.
    pub fn status(&self) -> Option<(u16, &'a [u8])> {
        let line = self.block.get(..line_end(self.block))?;
        let rest = line.strip_prefix(VERSION)?.trim_ascii();
        let (code, text) = rest.split_at_checked(3)?;
        let code = std::str::from_utf8(code).ok()?.parse().ok()?;
        Some((code, text.trim_ascii()))
    }

    /// Whether this looks like a block at all.
    pub fn is_valid(&self) -> bool {
        self.block.starts_with(VERSION) && self.block.ends_with(b"\r\n\r\n")
    }

    /// The lines behind the status line and before the blank one, without their ends.
    fn lines(&self) -> impl Iterator<Item = &'a [u8]> + Clone {
        let mut rest = skip_line(self.block);
        std::iter::from_fn(move || {
            let line = &rest[..line_end(rest)];
            rest = skip_line(rest);
            (!line.is_empty()).then_some(line)
        })
    }
}

/// The block with every value of `name` replaced by this one; a new block when there was none.
pub fn set(block: &[u8], name: &[u8], value: &[u8]) -> Bytes {
    let mut changed = copy_without(block, |other| other == name);
    put_line(&mut changed, name, value);
    changed.put_slice(END);
    changed.freeze()
}

/// The block with one more line at its end.
pub fn add(block: &[u8], name: &[u8], value: &[u8]) -> Bytes {
    let mut changed = copy_without(block, |_| false);
    put_line(&mut changed, name, value);
    changed.put_slice(END);
    changed.freeze()
}

/// The block without any line of that name; `None` when nothing but the version would be left, as in the peer.
pub fn remove(block: &[u8], name: &[u8]) -> Option<Bytes> {
    remove_if(block, |other| other == name)
}

/// The block without the lines whose names begin so.
pub fn remove_prefix(block: &[u8], prefix: &[u8]) -> Option<Bytes> {
    remove_if(block, |name| name.starts_with(prefix))
}

fn remove_if(block: &[u8], matches: impl Fn(&[u8]) -> bool) -> Option<Bytes> {
    let mut changed = copy_without(block, matches);
    if changed.len() <= VERSION.len() + END.len() {
        return None;
    }
    changed.put_slice(END);
    Some(changed.freeze())
}

/// Status line and header lines, without the blank line, and without the lines whose names match.
fn copy_without(block: &[u8], matches: impl Fn(&[u8]) -> bool) -> BytesMut {
    let mut copy = BytesMut::with_capacity(block.len() + 64);
    let status = &block[..line_end(block)];
    copy.put_slice(if status.starts_with(VERSION) { status } else { VERSION });
    copy.put_slice(END);
    for line in Headers::new(block).lines() {
        if !memchr::memchr(b':', line).is_some_and(|colon| matches(&line[..colon])) {
            copy.put_slice(line);
            copy.put_slice(END);
        }
    }
    copy
}

/// Makes a block from nothing.
#[derive(Clone, Debug)]
pub struct Builder {
    block: BytesMut,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// A block without a status.
    pub fn new() -> Self {
        let mut block = BytesMut::with_capacity(128);
        block.put_slice(VERSION);
        block.put_slice(END);
        Builder { block }
    }

    /// A block with a status, as servers send it: `NATS/1.0 404 No Messages`. The text may be empty.
    pub fn status(code: u16, text: &str) -> Self {
        let mut block = BytesMut::with_capacity(128);
        block.put_slice(VERSION);
        block.put_u8(b' ');
        super::write::decimal(&mut block, code.into());
        if !text.is_empty() {
            block.put_u8(b' ');
            put_safe(&mut block, text.as_bytes());
        }
        block.put_slice(END);
        Builder { block }
    }

    /// One more line.
    pub fn add(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        put_line(&mut self.block, name.as_bytes(), value.as_ref());
        self
    }

    /// The finished block.
    pub fn build(mut self) -> Bytes {
        self.block.put_slice(END);
        self.block.freeze()
    }
}

fn put_line(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    put_safe(out, name);
    out.put_slice(b": ");
    put_safe(out, value);
    out.put_slice(END);
}

/// Line breaks become blanks: a value that was taken from elsewhere cannot add lines of its own.
fn put_safe(out: &mut BytesMut, text: &[u8]) {
    out.extend(text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
}

/// The length of the first line without its end.
fn line_end(block: &[u8]) -> usize {
    memchr::memmem::find(block, END).unwrap_or(block.len())
}

/// What follows the first line.
fn skip_line(block: &[u8]) -> &[u8] {
    block.get(line_end(block) + END.len()..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    const BLOCK: &[u8] = b"NATS/1.0\r\nA: 1\r\nNats-Msg-Id:x y \r\nA: 2\r\nempty:\r\n\r\n";

    fn pairs(block: &[u8]) -> Vec<(&[u8], &[u8])> {
        Headers::new(block).iter().collect()
    }

    #[test]
    fn values_are_found_by_exact_name() {
        let headers = Headers::new(BLOCK);
        assert_eq!(headers.get(b"A"), Some(&b"1"[..]));
        assert_eq!(headers.get_str("Nats-Msg-Id"), Some("x y "));
        assert_eq!(headers.get(b"nats-msg-id"), None);
        assert_eq!(headers.get(b"empty"), Some(&b""[..]));
        assert_eq!(headers.get(b"NATS/1.0"), None);
        assert_eq!(headers.get_all(b"A").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(headers.iter().count(), 4);
        assert!(headers.is_valid());
    }

    #[test]
    fn a_status_has_a_code_and_maybe_a_text() {
        let status = |block: &'static [u8]| Headers::new(block).status();
        assert_eq!(status(b"NATS/1.0 503\r\n\r\n"), Some((503, &b""[..])));
        assert_eq!(status(b"NATS/1.0 404 No Messages\r\n\r\n"), Some((404, &b"No Messages"[..])));
        assert_eq!(status(b"NATS/1.0   100 Idle Heartbeat\r\nA: b\r\n\r\n"), Some((100, &b"Idle Heartbeat"[..])));
        assert_eq!(status(BLOCK), None);
        assert_eq!(status(b"NATS/1.0 x"), None);
        assert_eq!(status(b""), None);
    }

    #[test]
    fn setting_replaces_all_of_a_name_and_keeps_the_rest() {
        let changed = set(BLOCK, b"A", b"3");
        assert_eq!(&changed[..], b"NATS/1.0\r\nNats-Msg-Id:x y \r\nempty:\r\nA: 3\r\n\r\n");
        assert_eq!(&set(b"", b"A", b"3")[..], b"NATS/1.0\r\nA: 3\r\n\r\n");
        assert_eq!(&add(b"NATS/1.0 503\r\n\r\n", b"A", b"3")[..], b"NATS/1.0 503\r\nA: 3\r\n\r\n");
    }

    #[test]
    fn removing_the_last_line_leaves_no_block() {
        let changed = remove(BLOCK, b"A").unwrap();
        assert_eq!(pairs(&changed), [(&b"Nats-Msg-Id"[..], &b"x y "[..]), (b"empty", b"")]);
        assert_eq!(remove(b"NATS/1.0\r\nA: 1\r\n\r\n", b"A"), None);
        assert_eq!(remove_prefix(b"NATS/1.0\r\nNats-A: 1\r\nNats-B: 1\r\n\r\n", b"Nats-"), None);
        let status = remove(b"NATS/1.0 100 Idle\r\nA: 1\r\n\r\n", b"A").unwrap();
        assert_eq!(&status[..], b"NATS/1.0 100 Idle\r\n\r\n");
    }

    #[test]
    fn a_built_block_reads_back_and_cannot_be_broken_into() {
        let block = Builder::status(409, "Consumer\r\nDeleted").add("Nats-Last", "7").add("B", "x\r\nEvil: 1").build();
        assert_eq!(&block[..], b"NATS/1.0 409 Consumer  Deleted\r\nNats-Last: 7\r\nB: x  Evil: 1\r\n\r\n");
        assert_eq!(Headers::new(&block).status(), Some((409, &b"Consumer  Deleted"[..])));
        assert_eq!(&Builder::new().build()[..], b"NATS/1.0\r\n\r\n");
    }

    #[test]
    fn reading_stops_at_the_blank_line() {
        assert_eq!(pairs(b"NATS/1.0\r\nA: 1\r\n\r\nB: 2\r\n\r\n"), [(&b"A"[..], &b"1"[..])]);
    }

    #[test]
    fn damaged_blocks_never_panic_and_changes_of_them_are_whole() {
        let mut dice = Dice::new(21);
        for _ in 0..20_000 {
            let block = dice.damage(BLOCK);
            let headers = Headers::new(&block);
            let (_, _, _) = (headers.status(), headers.get(b"A"), headers.iter().count());
            let changed = set(&block, b"New", b"v");
            assert!(Headers::new(&changed).is_valid());
            assert_eq!(Headers::new(&changed).get(b"New"), Some(&b"v"[..]));
            if let Some(rest) = remove(&block, b"A") {
                assert_eq!(Headers::new(&rest).get(b"A"), None);
            }
        }
    }
}
