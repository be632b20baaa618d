//! How many connections an account has on this server: told when one comes or goes, every half a minute, and when the
//! system account asks. `$G` is left out of what is told unasked, as on the peer.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::Serialize;

use super::accountz::{AccountStat, account_stat};
use super::envelope::{Json, ServerInfo};
use super::events;
use super::page::Page;
use super::part::{PagePart, Sums};
use super::pending::Face;
use super::scene::Scene;
use super::text::now_text;
use crate::account::Accounts;
use crate::ids::{AccountId, Now};

const KIND: &str = "io.nats.server.advisory.v1.account_connections";

/// Between two reports of an account in which nothing happens.
const BEAT_US: u64 = 30_000_000;

#[derive(Debug, Serialize)]
struct AccountConns<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    timestamp: String,
    server: ServerInfo<'a>,
    #[serde(flatten)]
    stat: AccountStat,
}

/// Which accounts are to be told about.
#[derive(Debug, Default)]
pub struct Conns {
    changed: BTreeSet<AccountId>,
    /// 0: the first beat has not been set yet.
    beat_at_us: u64,
}

impl Conns {
    pub fn changed(&mut self, account: AccountId) {
        if account != Accounts::GLOBAL {
            self.changed.insert(account);
        }
    }

    /// When [`Conns::beat`] wants to be called; microseconds of [`Now::us`].
    pub fn next_wakeup(&self) -> u64 {
        self.beat_at_us
    }

    /// All accounts are due once more, perhaps.
    pub fn beat(&mut self, now: Now, accounts: impl Iterator<Item = AccountId>) {
        if now.us < self.beat_at_us {
            return;
        }
        if std::mem::replace(&mut self.beat_at_us, now.us + BEAT_US) > 0 {
            self.changed.extend(accounts.filter(|account| *account != Accounts::GLOBAL));
        }
    }

    /// What is to be made now, said in the system account `to`.
    pub fn take(&mut self, to: AccountId, names: &BTreeMap<AccountId, String>) -> Vec<(Face, Page)> {
        let changed = std::mem::take(&mut self.changed);
        let told = |name: &String| {
            let subjects = [format!("$SYS.SERVER.ACCOUNT.{name}.CONNS"), format!("$SYS.ACCOUNT.{name}.SERVER.CONNS")];
            let face = Face::Unasked { account: to, subjects: subjects.into_iter().map(Bytes::from).collect() };
            (face, Page::AccountConns { account: name.clone(), asked: false })
        };
        changed.iter().filter_map(|account| names.get(account)).map(told).collect()
    }
}

/// The JSON; `None`: there is nothing to tell. Whoever asks hears of connections only.
pub fn body(scene: &Scene, account: &str, asked: bool, parts: &[PagePart], seq: u64) -> Option<Bytes> {
    let sums = Sums::of(parts);
    let row = sums.accounts.iter().find(|row| row.name == account)?;
    if asked && row.connections == 0 {
        return None;
    }
    let options = &scene.server.options;
    let advisory = AccountConns {
        kind: KIND,
        id: events::unique_id(options.boot, options.core, seq),
        timestamp: now_text(scene.now),
        server: ServerInfo::new(scene.server, seq, scene.now),
        stat: account_stat(row),
    };
    Some(advisory.compact().into())
}

/// What the body of a request may say.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct ConnsOptions {
    pub acc: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_global_account_is_never_told_about_and_the_first_beat_tells_nothing() {
        let names = BTreeMap::from([(Accounts::GLOBAL, "$G".to_owned()), (AccountId(2), "A".to_owned())]);
        let (mut conns, mut now) = (Conns::default(), Now { us: 5, wall_ns: 0 });
        conns.beat(now, names.keys().copied());
        assert!(conns.take(AccountId(1), &names).is_empty());
        assert_eq!(conns.next_wakeup(), 5 + BEAT_US);
        conns.changed(Accounts::GLOBAL);
        assert!(conns.take(AccountId(1), &names).is_empty());
        now.us += BEAT_US;
        conns.beat(now, names.keys().copied());
        conns.changed(AccountId(2));
        let told = conns.take(AccountId(1), &names);
        assert_eq!(told.len(), 1);
        let Face::Unasked { account, subjects } = &told[0].0 else { panic!("{told:?}") };
        assert_eq!(*account, AccountId(1));
        assert_eq!(subjects[1], "$SYS.ACCOUNT.A.SERVER.CONNS");
    }
}
