//! What an API handler may look at besides the thing that it handles. Cheap to make: only references.

use std::collections::BTreeMap;

use crate::account::Account;
use crate::cluster::table::{MetaEntry, ServerFacts, Table};
use crate::cluster::view::View;
use crate::config::Config;
use crate::ids::{Now, ServerId};
use crate::jetstream::Tally;

pub struct Facts<'a> {
    pub now: Now,
    /// The account that asks.
    pub account: &'a Account,
    /// It is the system account.
    pub is_system: bool,
    pub config: &'a Config,
    /// Name under which this server is known.
    pub server_name: &'a str,
    /// `None` when this server runs alone.
    pub cluster: Option<&'a str>,
    pub table: &'a Table,
    /// Entries that this server, as the meta leader, has proposed and that the table does not hold yet, by index.
    pub proposed: Option<&'a BTreeMap<u64, MetaEntry>>,
    pub view: &'a View,
    /// API requests of this account that this core has answered.
    pub tally: Tally,
}

impl<'a> Facts<'a> {
    pub fn domain(&self) -> Option<&'a str> {
        self.config.jetstream.as_ref()?.domain.as_deref()
    }

    /// Entries on their way into the table.
    pub fn proposed(&self) -> impl Iterator<Item = &'a MetaEntry> {
        self.proposed.into_iter().flat_map(BTreeMap::values)
    }

    /// Requests with unknown fields are refused.
    pub fn strict(&self) -> bool {
        self.config.jetstream.as_ref().is_none_or(|js| js.strict)
    }

    /// The name of a server, known from the table even while it is away; else its id.
    pub fn name_of(&self, server: ServerId) -> String {
        match self.facts_of(server) {
            Some(facts) => facts.name.clone(),
            None if server == self.view.me.server => self.server_name.to_owned(),
            None => server.to_string(),
        }
    }

    pub fn facts_of(&self, server: ServerId) -> Option<&'a ServerFacts> {
        self.table.servers.get(&server.0).or_else(|| self.view.peers.get(&server).map(|peer| &peer.facts))
    }
}
