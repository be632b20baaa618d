//! A page on its way: who asked, and the parts that are there.

use bytes::Bytes;

use super::page::Page;
use super::part::PagePart;
use crate::ids::{AccountId, ConnId, CoreId};

/// Who gets the page.
#[derive(Debug, Clone, PartialEq)]
pub enum Face {
    /// A `$SYS` request; without a reply subject nobody does.
    Request {
        account: AccountId,
        reply: Option<Bytes>,
    },
    Http {
        conn: ConnId,
    },
    /// Whoever listens.
    Unasked {
        account: AccountId,
        subjects: Vec<Bytes>,
    },
}

#[derive(Debug)]
pub struct Pending {
    pub page: Page,
    pub face: Face,
    pub deadline_us: u64,
    cores: CoreId,
    parts: Vec<PagePart>,
}

impl Pending {
    pub fn new(page: Page, face: Face, cores: CoreId, deadline_us: u64) -> Pending {
        Pending { page, face, deadline_us, cores, parts: Vec::new() }
    }

    /// Nobody has been asked yet.
    pub fn is_fresh(&self) -> bool {
        self.parts.is_empty()
    }

    pub fn is_complete(&self) -> bool {
        self.parts.len() >= usize::from(self.cores)
    }

    /// One part per core counts.
    pub fn add(&mut self, part: PagePart) {
        if self.parts.iter().all(|other| other.core != part.core) {
            self.parts.push(part);
        }
    }

    /// The parts in the order of the cores, so that the same parts always make the same page.
    pub fn take(mut self) -> (Page, Face, Vec<PagePart>) {
        self.parts.sort_by_key(|part| part.core);
        (self.page, self.face, self.parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_complete_with_one_part_of_each_core() {
        let mut pending = Pending::new(Page::Varz, Face::Http { conn: ConnId(1) }, 2, 5);
        assert!(pending.is_fresh());
        let part = |core| PagePart { core, ..PagePart::default() };
        pending.add(part(1));
        pending.add(part(1));
        assert!(!pending.is_fresh() && !pending.is_complete());
        pending.add(part(0));
        assert!(pending.is_complete());
        let (_, _, parts) = pending.take();
        assert_eq!(parts.iter().map(|part| part.core).collect::<Vec<_>>(), [0, 1]);
    }
}
