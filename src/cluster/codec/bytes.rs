//! Fields of messages as bytes: writing them, and reading them from foreign bytes without trusting a length.

use bytes::{BufMut, Bytes, BytesMut};

use super::CodecError;
use crate::account::Accounts;
use crate::ids::{AccountId, Place, ServerId};

/// Appends fields.
pub(super) struct Writer<'a> {
    pub out: &'a mut BytesMut,
    pub accounts: &'a Accounts,
}

impl Writer<'_> {
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.out.put_u8(value);
        self
    }

    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.out.put_u32_le(value);
        self
    }

    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.out.put_u64_le(value);
        self
    }

    pub fn flag(&mut self, value: bool) -> &mut Self {
        self.u8(u8::from(value))
    }

    /// Any bytes with their length.
    pub fn text(&mut self, value: &[u8]) -> &mut Self {
        self.out.put_u32_le(value.len() as u32);
        self.out.put_slice(value);
        self
    }

    pub fn option(&mut self, value: &Option<Bytes>) -> &mut Self {
        self.flag(value.is_some());
        if let Some(value) = value {
            self.text(value);
        }
        self
    }

    pub fn texts(&mut self, values: &[Bytes]) -> &mut Self {
        self.u32(values.len() as u32);
        for value in values {
            self.text(value);
        }
        self
    }

    pub fn strings(&mut self, values: &[String]) -> &mut Self {
        self.u32(values.len() as u32);
        for value in values {
            self.text(value.as_bytes());
        }
        self
    }

    /// By name: the other side has other numbers.
    pub fn account(&mut self, account: AccountId) -> &mut Self {
        let accounts = self.accounts;
        self.text(accounts.name(account).as_bytes())
    }

    pub fn place(&mut self, place: Place) -> &mut Self {
        self.u64(place.server.0);
        self.out.put_u16_le(place.core);
        self
    }
}

/// Takes fields off the front.
pub(super) struct Reader<'a> {
    pub rest: Bytes,
    pub accounts: &'a Accounts,
    /// Set when a field named an account that is not here; the message is read on, to be passed over whole.
    pub unknown: Option<String>,
    /// Set when a subject cannot be one: the message is passed over, too.
    pub unfit: bool,
}

impl Reader<'_> {
    pub fn u8(&mut self) -> Result<u8, CodecError> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u32(&mut self) -> Result<u32, CodecError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, CodecError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn flag(&mut self) -> Result<bool, CodecError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::Bad("flag")),
        }
    }

    pub fn text(&mut self) -> Result<Bytes, CodecError> {
        let length = self.u32()? as usize;
        if length > self.rest.len() {
            return Err(CodecError::Short);
        }
        Ok(self.rest.split_to(length))
    }

    pub fn string(&mut self) -> Result<String, CodecError> {
        String::from_utf8(self.text()?.to_vec()).map_err(|_| CodecError::Bad("text"))
    }

    pub fn option(&mut self) -> Result<Option<Bytes>, CodecError> {
        if self.flag()? { self.text().map(Some) } else { Ok(None) }
    }

    pub fn texts(&mut self) -> Result<Vec<Bytes>, CodecError> {
        self.list(4, |from| from.text())
    }

    /// A subject that clients are shown: nothing in it may end its word on their line.
    pub fn subject(&mut self) -> Result<Bytes, CodecError> {
        let subject = self.text()?;
        let breaks = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        self.unfit |= subject.is_empty() || subject.iter().any(breaks);
        Ok(subject)
    }

    pub fn option_subject(&mut self) -> Result<Option<Bytes>, CodecError> {
        if self.flag()? { self.subject().map(Some) } else { Ok(None) }
    }

    /// What a stream listens to.
    pub fn filters(&mut self) -> Result<Vec<Bytes>, CodecError> {
        let filters = self.texts()?;
        self.unfit |= !filters.iter().all(|filter| net::subject::is_valid_filter(filter));
        Ok(filters)
    }

    pub fn strings(&mut self) -> Result<Vec<String>, CodecError> {
        self.list(4, |from| from.string())
    }

    /// A counted list whose items take at least `item_bytes_min` each: a count that the rest cannot hold is refused
    /// before anything is allocated for it.
    pub fn list<T>(
        &mut self,
        item_bytes_min: usize,
        read: impl Fn(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Vec<T>, CodecError> {
        let count = self.u32()? as usize;
        if count > self.rest.len() / item_bytes_min {
            return Err(CodecError::Short);
        }
        (0..count).map(|_| read(self)).collect()
    }

    pub fn account(&mut self) -> Result<AccountId, CodecError> {
        let name = self.text()?;
        let id = std::str::from_utf8(&name).ok().and_then(|name| self.accounts.id(name));
        if id.is_none() {
            self.unknown = Some(String::from_utf8_lossy(&name).into_owned());
        }
        Ok(id.unwrap_or(Accounts::GLOBAL))
    }

    pub fn place(&mut self) -> Result<Place, CodecError> {
        let server = ServerId(self.u64()?);
        Ok(Place { server, core: u16::from_le_bytes(self.array()?) })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (head, _) = self.rest.split_first_chunk::<N>().ok_or(CodecError::Short)?;
        let head = *head;
        let _ = self.rest.split_to(N);
        Ok(head)
    }
}
