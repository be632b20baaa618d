//! From the tree and the flags to the checked `Config`.
//!
//! ```text
//!   tree ──► Draft (typed, nothing defaulted) ──► flags on top ──► finish: defaults, checks across blocks ──► Config
//! ```
//!
//! Every key is read, refused as not supported yet, remarked on as having no effect, or unknown: nothing is ignored
//! in silence. All problems are collected before any is reported. The texts are the peer's wherever it has one.

mod accounts;
mod auth;
mod cluster;
mod flags;
mod jetstream;
mod top;

use std::fmt;
use std::path::{Path, PathBuf};

use super::duration;
use super::lang::{self, LangError};
use super::options::{Auth, Cluster, Config, GLOBAL_ACCOUNT, HostPort, JetStream, Secret, User};
use super::place::Note;
use super::report::{Problem, Report};
use super::source::{Digested, Source};
use super::toml;
use super::tree::Map;
use crate::args::Flags;

/// Payloads above this are remarked on, as the peer does: each is copied whole at every hop.
const PAYLOAD_ADVISED_BYTES: u32 = 8 * 1024 * 1024;

/// Why there is no `Config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The text is not in the language.
    Lang(LangError),
    /// It is, but says things that are wrong; all of them.
    Problems(Vec<Problem>),
}

/// One problem a line, without a `nats-server: ` in front.
impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Lang(error) => write!(f, "{error}"),
            LoadError::Problems(problems) => {
                let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}

impl std::error::Error for LoadError {}

/// Reads the file that the flags name, if any, puts the flags on top and checks the whole.
///
/// A file that ends in `.toml` is TOML, every other one is in the peer's language.
pub fn load(source: &dyn Source, flags: &Flags) -> Result<Config, LoadError> {
    let source = Digested::new(source);
    let map = match flags.config.as_deref().filter(|path| !path.as_os_str().is_empty()) {
        Some(path) => Some((path, read(&source, path).map_err(LoadError::Lang)?)),
        None => None,
    };
    let mut report = Report::default();
    let mut draft = Draft::default();
    if let Some((path, map)) = &map {
        draft.config.file = Some(path.to_path_buf());
        draft.config.digest = source.digest();
        if map.is_empty() {
            report.notes.push(Note { text: format!("{}: config has no values or is empty", path.display()) });
        }
        draft.top(map, &mut report);
    }
    draft.flags(flags, &mut report);
    let config = draft.finish(&mut report);
    if report.problems.is_empty() { Ok(config) } else { Err(LoadError::Problems(report.problems)) }
}

fn read(source: &dyn Source, path: &Path) -> Result<Map, LangError> {
    let is_toml = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    if is_toml { toml::read_file(source, path) } else { lang::read_file(source, path) }
}

/// What the file and the flags have said, before defaults that depend on each other are filled in.
#[derive(Default)]
struct Draft {
    config: Config,
    host: Option<String>,
    port: Option<u16>,
    http_host: Option<String>,
    http_port: Option<u16>,
    /// The single user of `authorization` or of the flags.
    user: Option<String>,
    password: Option<Secret>,
    /// `users: []` was there, even if empty.
    users_listed: bool,
    cluster: Cluster,
    cluster_host: Option<String>,
    cluster_port: Option<u16>,
    /// A `cluster` block was there.
    cluster_block: bool,
    jetstream_on: bool,
    jetstream: JetStream,
    store_dir: Option<PathBuf>,
}

impl Draft {
    fn finish(mut self, report: &mut Report) -> Config {
        self.finish_addresses(report);
        self.finish_users(report);
        self.finish_jetstream();
        self.check_limits(report);
        self.check_names(report);
        self.check_jetstream(report);
        self.config.notes = std::mem::take(&mut report.notes);
        self.config
    }

    fn finish_addresses(&mut self, report: &mut Report) {
        let config = &mut self.config;
        if let Some(host) = self.host.take() {
            config.listen.host = host;
        }
        if let Some(port) = self.port {
            config.listen.port = port;
        }
        // The pages listen where clients do unless the file says otherwise.
        let http_host = self.http_host.take().unwrap_or_else(|| config.listen.host.clone());
        config.http = self.http_port.map(|port| HostPort { host: http_host, port });
        match self.cluster_port {
            Some(port) => {
                self.cluster.listen.port = port;
                if let Some(host) = self.cluster_host.take() {
                    self.cluster.listen.host = host;
                }
                config.cluster = Some(std::mem::take(&mut self.cluster));
            }
            None if self.cluster_block => {
                let text = "the cluster block has no listen or port: this server stands alone".to_string();
                report.notes.push(Note { text });
            }
            None => {}
        }
    }

    /// The single user becomes a user like the others.
    fn finish_users(&mut self, report: &mut Report) {
        let auth: &mut Auth = &mut self.config.auth;
        if let Some(name) = &auth.no_auth_user {
            if auth.users.is_empty() && !self.users_listed {
                report.problem(format!("no_auth_user: {name:?} present, but users/nkeys are not defined"));
            } else if !auth.users.iter().any(|user| user.name == *name) {
                report.problem(format!(
                    "no_auth_user: {name:?} not present as user or nkey in authorization block or account configuration"
                ));
            }
        }
        let Some(name) = self.user.take() else { return };
        if auth.users.is_empty() {
            let password = self.password.take().unwrap_or_else(|| Secret::new(String::new()));
            auth.users.push(User { name, password, account: GLOBAL_ACCOUNT.to_string(), permissions: None });
        } else {
            let text = format!("the single user {name:?} has no effect: the configuration lists users");
            report.notes.push(Note { text });
        }
    }

    fn finish_jetstream(&mut self) {
        if let Some(dir) = self.store_dir.take() {
            self.jetstream.store_dir = dir;
        }
        if self.jetstream_on {
            self.config.jetstream = Some(std::mem::take(&mut self.jetstream));
        }
    }

    fn check_limits(&self, report: &mut Report) {
        let (limits, lame_duck) = (&self.config.limits, &self.config.lame_duck);
        if lame_duck.grace_period >= lame_duck.duration {
            report.problem(format!(
                "lame duck grace period ({}) should be strictly lower than lame duck duration ({})",
                duration::show(lame_duck.grace_period),
                duration::show(lame_duck.duration)
            ));
        }
        if u64::from(limits.payload_bytes_max) > limits.pending_bytes_max {
            report.problem(format!(
                "max_payload ({}) cannot be higher than max_pending ({})",
                limits.payload_bytes_max, limits.pending_bytes_max
            ));
        }
        if limits.payload_bytes_max > PAYLOAD_ADVISED_BYTES {
            let text = "Maximum payloads over 8.00 MB are generally discouraged and could lead to poor performance";
            report.notes.push(Note { text: text.to_string() });
        }
    }

    /// Names in the file were looked at where they stand; these may come from flags.
    fn check_names(&self, report: &mut Report) {
        let config = &self.config;
        let cluster_name = config.cluster.as_ref().and_then(|cluster| cluster.name.as_ref());
        for (what, name) in [("server", config.server_name.as_ref()), ("cluster", cluster_name)] {
            if name.is_some_and(|name| name.contains(' ')) {
                report.problem(format!("{what} name cannot contain spaces"));
            }
        }
        if let Some(system) = &config.system_account
            && system != super::options::SYSTEM_ACCOUNT
            && config.account(system).is_none()
        {
            report.problem("error resolving system account: account missing");
        }
    }

    fn check_jetstream(&self, report: &mut Report) {
        let config = &self.config;
        let system = config.system_account.as_ref().and_then(|name| config.account(name));
        if system.is_some_and(|account| account.jetstream.is_some()) {
            report.problem("jetstream can not be enabled on the system account");
        }
        let Some(jetstream) = &config.jetstream else { return };
        if jetstream.domain.as_ref().is_some_and(|domain| !valid_domain(domain)) {
            report.problem("invalid domain name: may not contain ., * or >");
        }
        let Some(cluster) = &config.cluster else { return };
        if config.server_name.is_none() {
            report.problem("jetstream cluster requires `server_name` to be set");
        }
        if cluster.name.is_none() {
            report.problem("jetstream cluster requires `cluster.name` to be set");
        }
    }
}

/// A domain becomes one token of `$JS.<domain>.API.>`.
fn valid_domain(domain: &str) -> bool {
    !domain.is_empty() && !domain.contains(|c: char| c.is_whitespace() || matches!(c, '.' | '*' | '>' | '/' | '\\'))
}

#[cfg(test)]
mod tests;
