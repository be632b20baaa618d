//! Accounts: walls between groups of clients. A subject of one account is nothing to the others.
//!
//! This is the list of them: names, numbers and limits as the configuration has them. Numbers are given in the order
//! in which names are first met and never given twice, so that all cores of a server, which see the same
//! configurations in the same order, agree on them. An account that a reload removes keeps its number and is closed.
//!
//! Who listens inside an account is not here but in [`crate::route`].

use std::collections::BTreeMap;

use crate::config::options::{AccountJetStream, AccountLimits, Config, GLOBAL_ACCOUNT};
use crate::ids::AccountId;

/// One account as configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    pub id: AccountId,
    pub name: String,
    /// `None`: JetStream is off for this account.
    pub jetstream: Option<AccountJetStream>,
    pub limits: AccountLimits,
    /// False once a reload has removed it: nobody may enter, and what it stored stays untouched.
    pub open: bool,
}

/// All accounts that this process has ever known, by number.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    list: Vec<Account>,
    by_name: BTreeMap<String, AccountId>,
    system: Option<AccountId>,
}

impl Accounts {
    /// `$G`, where clients live that are told no other account. Always number 0.
    pub const GLOBAL: AccountId = AccountId(0);

    pub fn new(config: &Config) -> Accounts {
        let mut accounts = Accounts::default();
        accounts.reload(config);
        accounts
    }

    /// Takes a new configuration over. O(accounts · log accounts).
    pub fn reload(&mut self, config: &Config) {
        for account in &mut self.list {
            account.open = false;
        }
        for name in config.account_names() {
            let id = self.enter(name);
            let block = config.account(name);
            let jetstream = jetstream_of(config, name);
            let account = &mut self.list[id.0 as usize];
            account.open = true;
            account.jetstream = jetstream;
            account.limits = block.map(|block| block.limits.clone()).unwrap_or_default();
        }
        self.system = config.system_account.as_ref().and_then(|name| self.id(name));
    }

    pub fn id(&self, name: &str) -> Option<AccountId> {
        self.by_name.get(name).copied()
    }

    /// `None` only for a number that [`Accounts::id`] never gave.
    pub fn get(&self, id: AccountId) -> Option<&Account> {
        self.list.get(id.0 as usize)
    }

    /// The name, or nothing for an unknown number.
    pub fn name(&self, id: AccountId) -> &str {
        self.get(id).map_or("", |account| account.name.as_str())
    }

    /// The account of operators; `None` when the configuration switches it off.
    pub fn system(&self) -> Option<AccountId> {
        self.system
    }

    pub fn is_system(&self, id: AccountId) -> bool {
        self.system == Some(id)
    }

    /// In the order of their numbers, closed ones included.
    pub fn iter(&self) -> impl Iterator<Item = &Account> {
        self.list.iter()
    }

    /// How many numbers are given.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn enter(&mut self, name: &str) -> AccountId {
        if let Some(id) = self.id(name) {
            return id;
        }
        let id = AccountId(self.list.len() as u32);
        self.list.push(Account {
            id,
            name: name.to_string(),
            jetstream: None,
            limits: AccountLimits::default(),
            open: true,
        });
        self.by_name.insert(name.to_string(), id);
        id
    }
}

/// Without any `accounts` block JetStream is for `$G` (the peer's rule); with one, only where a block says so.
fn jetstream_of(config: &Config, name: &str) -> Option<AccountJetStream> {
    config.jetstream.as_ref()?;
    if let Some(block) = config.account(name) {
        return block.jetstream.clone();
    }
    let alone = config.accounts.iter().all(|account| Some(&account.name) == config.system_account.as_ref());
    (name == GLOBAL_ACCOUNT && alone).then(AccountJetStream::default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::{Account as Block, JetStream};

    fn config(names: &[&str]) -> Config {
        let accounts = names.iter().map(|name| Block { name: name.to_string(), ..Block::default() }).collect();
        Config { accounts, ..Config::default() }
    }

    #[test]
    fn numbers_follow_the_configuration_and_are_kept_over_reloads() {
        let mut accounts = Accounts::new(&config(&["A", "B"]));
        assert_eq!(accounts.id("$G"), Some(Accounts::GLOBAL));
        assert_eq!(accounts.id("A"), Some(AccountId(1)));
        assert_eq!(accounts.id("$SYS"), Some(AccountId(3)));
        accounts.reload(&config(&["C", "B"]));
        assert_eq!(accounts.id("B"), Some(AccountId(2)));
        assert_eq!(accounts.id("C"), Some(AccountId(4)));
        assert!(!accounts.get(AccountId(1)).unwrap().open);
        assert!(accounts.get(AccountId(2)).unwrap().open);
        accounts.reload(&config(&["A"]));
        assert!(accounts.get(AccountId(1)).unwrap().open);
        assert_eq!(accounts.name(AccountId(77)), "");
    }

    #[test]
    fn the_system_account_is_the_one_that_the_configuration_names() {
        let accounts = Accounts::new(&Config { system_account: Some("A".to_string()), ..config(&["A"]) });
        assert!(accounts.is_system(accounts.id("A").unwrap()));
        assert_eq!(accounts.id("$SYS"), None);
        let none = Accounts::new(&Config { system_account: None, ..config(&[]) });
        assert_eq!(none.system(), None);
    }

    #[test]
    fn jetstream_is_for_the_global_account_until_accounts_are_configured() {
        let with = |names: &[&str]| Config { jetstream: Some(JetStream::default()), ..config(names) };
        assert!(Accounts::new(&with(&[])).get(Accounts::GLOBAL).unwrap().jetstream.is_some());
        assert!(Accounts::new(&with(&["$SYS"])).get(Accounts::GLOBAL).unwrap().jetstream.is_some());
        assert!(Accounts::new(&with(&["A"])).get(Accounts::GLOBAL).unwrap().jetstream.is_none());
        assert!(Accounts::new(&config(&[])).get(Accounts::GLOBAL).unwrap().jetstream.is_none());
    }
}
