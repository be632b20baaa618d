//! The subscriptions of one connection, by the client's id and by their place, which the subject list points to.
//!
//! A place is given again once its subscription is gone. That is safe because the subject list forgets the place in
//! the same step, and because no subscription is made while a message is being handed out.

use std::collections::HashMap;

use ahash::RandomState;

use crate::cluster::interest::Key;

/// One SUB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sub {
    /// The client's own name for it.
    pub sid: Box<[u8]>,
    /// Filter and queue group; one copy for all subscriptions of this core.
    pub key: Key,
    pub received: u64,
    /// UNSUB with a number: over after that many messages since the SUB.
    pub max: Option<u64>,
    /// A deny rule may hit single subjects of the filter, so each message is checked.
    pub guarded: bool,
}

/// All of one connection.
#[derive(Debug)]
pub struct Subs {
    by_sid: HashMap<Box<[u8]>, u32, RandomState>,
    places: Vec<Option<Sub>>,
    free: Vec<u32>,
}

impl Subs {
    /// The hasher is seeded by the caller; nothing depends on the order of the map.
    pub fn new(hasher: RandomState) -> Subs {
        Subs { by_sid: HashMap::with_hasher(hasher), places: Vec::new(), free: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.by_sid.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_sid.is_empty()
    }

    /// The place of a client's id.
    pub fn find(&self, sid: &[u8]) -> Option<u32> {
        self.by_sid.get(sid).copied()
    }

    pub fn get(&self, place: u32) -> Option<&Sub> {
        self.places.get(place as usize).and_then(Option::as_ref)
    }

    pub fn get_mut(&mut self, place: u32) -> Option<&mut Sub> {
        self.places.get_mut(place as usize).and_then(Option::as_mut)
    }

    /// The id must not be taken: see [`Subs::find`].
    pub fn insert(&mut self, sid: &[u8], key: Key, guarded: bool) -> u32 {
        let sid: Box<[u8]> = sid.into();
        let sub = Sub { sid: sid.clone(), key, received: 0, max: None, guarded };
        let place = self.free.pop().unwrap_or(self.places.len() as u32);
        match self.places.get_mut(place as usize) {
            Some(empty) => *empty = Some(sub),
            None => self.places.push(Some(sub)),
        }
        let before = self.by_sid.insert(sid, place);
        assert!(before.is_none());
        place
    }

    pub fn remove(&mut self, place: u32) -> Option<Sub> {
        let sub = self.places.get_mut(place as usize)?.take()?;
        self.by_sid.remove(&sub.sid);
        self.free.push(place);
        Some(sub)
    }

    /// In the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Sub)> {
        self.places.iter().enumerate().filter_map(|(place, sub)| sub.as_ref().map(|sub| (place as u32, sub)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subs() -> Subs {
        Subs::new(RandomState::with_seeds(1, 2, 3, 4))
    }

    #[test]
    fn a_place_is_given_again_only_once_free() {
        let mut subs = subs();
        let first = subs.insert(b"1", Key::new(b"a", None), false);
        let second = subs.insert(b"2", Key::new(b"b", Some(b"q")), false);
        assert_ne!(first, second);
        assert_eq!(subs.remove(first).unwrap().sid[..], *b"1");
        assert_eq!(subs.remove(first), None);
        assert_eq!(subs.find(b"1"), None);
        assert_eq!(subs.insert(b"3", Key::new(b"c", None), true), first);
        assert_eq!(subs.find(b"3"), Some(first));
        assert_eq!(subs.len(), 2);
        assert_eq!(subs.iter().map(|(_, sub)| sub.sid.to_vec()).collect::<Vec<_>>(), [b"3".to_vec(), b"2".to_vec()]);
    }
}
