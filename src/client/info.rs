//! INFO: what the server says of itself, first on every connection and again when something in it changes.
//!
//! Fields, their order and which of them are left out are the peer's; the client's key for encrypted auth callouts is
//! not there, as there are no callouts.

use std::net::SocketAddr;

use serde::Serialize;

use super::front::Front;

#[derive(Debug, Serialize)]
struct Info<'a> {
    server_id: &'a str,
    server_name: &'a str,
    version: &'a str,
    proto: u8,
    #[serde(skip_serializing_if = "str::is_empty")]
    git_commit: &'a str,
    go: &'a str,
    host: &'a str,
    port: u16,
    headers: bool,
    #[serde(skip_serializing_if = "is_false")]
    auth_required: bool,
    max_payload: u32,
    #[serde(skip_serializing_if = "is_false")]
    jetstream: bool,
    client_id: u64,
    client_ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    connect_urls: &'a [String],
    #[serde(skip_serializing_if = "is_false")]
    ldm: bool,
    #[serde(skip_serializing_if = "is_false")]
    connect_info: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_account: Option<&'a str>,
    #[serde(skip_serializing_if = "is_false")]
    acc_is_sys: bool,
    #[serde(skip_serializing_if = "is_zero")]
    api_lvl: u32,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// To whom INFO is said.
pub(super) struct Addressee<'a> {
    pub cid: u64,
    pub remote: SocketAddr,
    pub local: SocketAddr,
    /// Named in the INFO that answers the first PING behind CONNECT.
    pub account: Option<&'a str>,
    pub system: bool,
}

impl Front {
    /// The JSON of an INFO.
    pub(super) fn info(&self, to: &Addressee<'_>) -> Vec<u8> {
        let config = &self.config;
        let urls = self.connect_urls();
        let advertised = config.client_advertise.as_ref();
        let info = Info {
            server_id: &self.options.server_id,
            server_name: &self.options.server_name,
            version: &self.options.version,
            proto: 1,
            git_commit: &self.options.git_commit,
            go: &self.options.go,
            host: advertised.map_or(&config.listen.host, |advertise| &advertise.host),
            port: advertised.and_then(|advertise| advertise.port).unwrap_or(to.local.port()),
            headers: config.limits.headers,
            auth_required: self.gate.announced(),
            max_payload: config.limits.payload_bytes_max,
            jetstream: config.jetstream.is_some(),
            client_id: to.cid,
            client_ip: to.remote.ip().to_canonical().to_string(),
            cluster: self.options.cluster.as_deref(),
            domain: config.jetstream.as_ref().and_then(|jetstream| jetstream.domain.as_deref()),
            connect_urls: &urls,
            ldm: self.lame_duck.is_some(),
            connect_info: to.account.is_some(),
            remote_account: to.account,
            acc_is_sys: to.system,
            api_lvl: self.options.api_level,
        };
        // A struct of strings and numbers always has a JSON form.
        serde_json::to_vec(&info).unwrap_or_default()
    }

    /// Own URLs, then the others'; a lame duck sends its clients away and names only the others. A server without a
    /// cluster names nobody: its clients know where they are.
    fn connect_urls(&self) -> Vec<String> {
        if self.options.cluster.is_none() {
            return Vec::new();
        }
        let mut urls = if self.lame_duck.is_some() { Vec::new() } else { self.options.client_urls.clone() };
        urls.extend(self.other_urls.iter().filter(|url| !self.options.client_urls.contains(url)).cloned());
        urls
    }
}
