//! What a page is made of: this server, its links, and the parts of this core, at one moment. Only references.

use std::collections::BTreeMap;

use super::SystemOptions;
use crate::account::Accounts;
use crate::client::Front;
use crate::cluster::table::{ServerFacts, Table};
use crate::cluster::view::View;
use crate::config::Config;
use crate::config::options::JetStream as JetStreamConfig;
use crate::ids::{GroupId, Now, ServerId};
use crate::jetstream::JetStream;

pub struct Scene<'a> {
    pub now: Now,
    pub server: &'a Server,
    pub front: &'a Front,
    /// `None`: JetStream is off here.
    pub js: Option<&'a JetStream>,
    pub view: &'a View,
}

/// This server, as far as its own pages and those of others show it.
#[derive(Debug)]
pub struct Server {
    pub options: SystemOptions,
    pub facts: ServerFacts,
    pub vitals: Vitals,
    pub links: BTreeMap<ServerId, Link>,
    /// Requests per HTTP path since the start.
    pub http_counts: BTreeMap<&'static str, u64>,
    pub config_wall_ns: i64,
}

/// What only the process knows about itself.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Vitals {
    /// Of one CPU, over the last seconds; above 100 with several cores.
    pub cpu_percent: f64,
    /// Resident.
    pub memory_bytes: u64,
}

/// A standing link to another server.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// Counts links over the life of this server.
    pub number: u64,
    pub server_id: String,
    pub name: String,
    /// Empty when it must not be told to others.
    pub route_url: String,
    pub client_urls: Vec<String>,
    pub since: Now,
    /// 0: not measured.
    pub rtt_us: u64,
}

impl Server {
    pub fn config(&self) -> &Config {
        &self.options.config
    }

    pub fn id(&self) -> &str {
        &self.options.server_id
    }

    pub fn name(&self) -> &str {
        &self.options.server_name
    }
}

impl<'a> Scene<'a> {
    pub fn config(&self) -> &'a Config {
        self.server.config()
    }

    pub fn accounts(&self) -> &'a Accounts {
        self.front.accounts()
    }

    /// The `jetstream` block, when JetStream runs here.
    pub fn js_config(&self) -> Option<&'a JetStreamConfig> {
        self.js.and(self.config().jetstream.as_ref())
    }

    pub fn table(&self) -> Option<&'a Table> {
        self.js.map(JetStream::table)
    }

    /// A server's name, known from the table even while it is away; else its id.
    pub fn name_of(&self, server: ServerId) -> String {
        if server == self.view.me.server {
            return self.server.name().to_owned();
        }
        let known = self.table().and_then(|table| table.servers.get(&server.0));
        match known.or_else(|| self.view.peers.get(&server).map(|peer| &peer.facts)) {
            Some(facts) => facts.name.clone(),
            None => server.to_string(),
        }
    }

    /// Who leads the meta group: only what is announced.
    pub fn meta_leader(&self) -> Option<ServerId> {
        self.view.leads.leader(GroupId::META)
    }
}
