//! How many bytes the streams of an account may still take, where the account has a limit.
//!
//! Every core knows what its own leaders hold, counted once for every replica. Whoever takes messages in tells the other
//! cores and servers, ten times a second at the most, and whoever publishes asks them once a second. So what is on this
//! core is exact whenever a publish would be refused, and what is elsewhere is a moment old: an account whose streams fill
//! up in several places at once may pass its limit by what they take in that moment. Accounts without a limit cost
//! nothing here.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{JetStream, JsOutput};
use crate::cluster::view::View;
use crate::cluster::wire::{NodeMsg, Request, RequestKind};
use crate::ids::{AccountId, GroupId, Now, Place};
use crate::stream::Publish;
use crate::stream::config::{StorageKind, StreamConfig};

/// Between two looks at all streams of an account, microseconds: what is deleted counts no longer after this.
const LOOK_US: u64 = 100_000;
/// Between two questions to other cores and servers, microseconds.
const ASK_US: u64 = 1_000_000;
/// Bytes that a message counts for beyond its parts, at the most.
const MESSAGE_EXTRA_BYTES: usize = 64;

/// Between two times that a core tells what it holds, microseconds.
const TELL_US: u64 = 100_000;

/// The subject of what cores tell each other about an account; without a payload it is a question. No client's request
/// has it.
pub(super) const HELD_SUBJECT: &[u8] = b"$TRESTLE.HELD";

/// Bytes in streams, once for every replica.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Held {
    memory: u64,
    storage: u64,
}

impl Held {
    fn of(&self, kind: StorageKind) -> u64 {
        match kind {
            StorageKind::Memory => self.memory,
            StorageKind::File => self.storage,
        }
    }

    fn add(&mut self, kind: StorageKind, bytes: u64) {
        let sum = match kind {
            StorageKind::Memory => &mut self.memory,
            StorageKind::File => &mut self.storage,
        };
        *sum = sum.saturating_add(bytes);
    }
}

/// One account as this core sees it.
#[derive(Debug, Default)]
struct Usage {
    /// Of this core's leaders, and what was taken since.
    here: Held,
    looked_us: u64,
    asked_us: Option<u64>,
    told_us: u64,
    /// More was taken since it was last told.
    untold: bool,
    others: BTreeMap<Place, Held>,
}

/// By account: as many as the configuration has.
#[derive(Debug, Default)]
pub(super) struct Rooms(BTreeMap<AccountId, Usage>);

impl Rooms {
    pub(super) fn next_wakeup(&self) -> Option<u64> {
        self.0.values().filter(|usage| usage.untold).map(|usage| usage.told_us + TELL_US).min()
    }
}

impl JetStream {
    /// Tells a stream how large the next message may be for its account. `None`: it has no limit.
    pub(super) fn room(
        &mut self,
        now: Now,
        view: &View,
        publish: &Publish,
        account: AccountId,
        kept: Kept,
    ) -> Option<u64> {
        let limits = self.accounts.get(account)?.jetstream.as_ref()?;
        let limit = match kept.storage {
            StorageKind::Memory => limits.memory_bytes_max,
            StorageKind::File => limits.file_bytes_max,
        }?;
        self.ask_others(now, view, account);
        let headers = publish.headers.as_ref().map_or(0, Bytes::len);
        let wanted = publish.subject.len() + headers + publish.payload.len() + MESSAGE_EXTRA_BYTES;
        let room = |usage: &Usage| {
            let others = usage.others.values().map(|held| held.of(kept.storage)).fold(0, u64::saturating_add);
            let held = usage.here.of(kept.storage).saturating_add(others);
            limit.saturating_sub(held) / kept.replicas
        };
        let usage = self.rooms.0.entry(account).or_default();
        let old = now.us >= usage.looked_us + LOOK_US;
        if old || now.us > usage.looked_us && room(usage) < wanted as u64 {
            let here = self.held(account);
            let usage = self.rooms.0.entry(account).or_default();
            (usage.here, usage.looked_us) = (here, now.us);
        }
        self.rooms.0.get(&account).map(room)
    }

    /// A message was taken in.
    pub(super) fn took(&mut self, account: AccountId, kept: Kept, bytes: u64) {
        if let Some(usage) = self.rooms.0.get_mut(&account) {
            usage.here.add(kept.storage, bytes.saturating_mul(kept.replicas));
            usage.untold |= bytes > 0;
        }
    }

    /// What the leaders of this core hold for an account, with what is on its way into them.
    fn held(&self, account: AccountId) -> Held {
        let led = self.streams.values().filter(|hosted| hosted.leading && hosted.stream.account() == account);
        led.fold(Held::default(), |mut held, hosted| {
            let kept = Kept::of(hosted.stream.config());
            held.add(kept.storage, hosted.stream.held_bytes().saturating_mul(kept.replicas));
            held
        })
    }

    fn ask_others(&mut self, now: Now, view: &View, account: AccountId) {
        let usage = self.rooms.0.entry(account).or_default();
        if usage.asked_us.is_some_and(|asked| now.us < asked + ASK_US) {
            return;
        }
        usage.asked_us = Some(now.us);
        let places = self.tally_places(view);
        if let Some(usage) = self.rooms.0.get_mut(&account) {
            usage.others.retain(|place, _| places.contains(place));
        }
        for to in places {
            self.send_held(to, account, Bytes::new());
        }
    }

    /// Tells the others what was taken here.
    pub(super) fn wake_rooms(&mut self, now: Now, view: &View) {
        let due = |usage: &Usage| usage.untold && usage.told_us + TELL_US <= now.us;
        let accounts: Vec<AccountId> = self.rooms.0.iter().filter(|(_, u)| due(u)).map(|(id, _)| *id).collect();
        for account in accounts {
            if let Some(usage) = self.rooms.0.get_mut(&account) {
                (usage.untold, usage.told_us) = (false, now.us);
            }
            let held = self.held_text(account);
            for to in self.tally_places(view) {
                self.send_held(to, account, held.clone());
            }
        }
    }

    /// A question or what another core holds.
    pub(super) fn on_held(&mut self, request: &Request) {
        if request.payload.is_empty() {
            let held = self.held_text(request.account);
            self.send_held(request.origin, request.account, held);
        } else if let Ok(held) = serde_json::from_slice(&request.payload)
            && self.accounts.get(request.account).is_some()
        {
            self.rooms.0.entry(request.account).or_default().others.insert(request.origin, held);
        }
    }

    fn held_text(&self, account: AccountId) -> Bytes {
        serde_json::to_vec(&self.held(account)).unwrap_or_default().into()
    }

    fn send_held(&mut self, to: Place, account: AccountId, payload: Bytes) {
        let msg = NodeMsg::Request(Request {
            group: GroupId::META,
            hops: 0,
            origin: self.me,
            account,
            kind: RequestKind::Api,
            subject: Bytes::from_static(HELD_SUBJECT),
            reply: None,
            headers: None,
            payload,
        });
        self.out.push_back(JsOutput::Send { to, msg });
    }
}

/// What of a stream's configuration decides how its bytes count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    storage: StorageKind,
    replicas: u64,
}

impl Kept {
    pub(super) fn of(config: &StreamConfig) -> Kept {
        Kept { storage: config.storage, replicas: u64::try_from(config.num_replicas).unwrap_or(1).max(1) }
    }
}
