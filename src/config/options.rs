//! The validated configuration of one server: what every other module reads.
//!
//! `Config` promises that each field has a checked value with its default filled in; nothing below it looks at a
//! configuration file again. It does no IO and parses nothing: `lang` and `toml` turn text into a tree, `build`
//! turns the tree into this, `reload` compares two of them.
//!
//! Sizes are bytes, times are `Duration`, a port of 0 means "let the kernel pick one" (the file's `-1`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::place::Note;

/// The account that users without an account belong to (the peer's name).
pub const GLOBAL_ACCOUNT: &str = "$G";
/// The system account when no other is named (the peer's name).
pub const SYSTEM_ACCOUNT: &str = "$SYS";

/// Most cores one server runs on: each pair of cores shares a ring, so their number grows with the square.
pub const CORES_MAX: u16 = 256;

/// Everything an operator can say to one server, after the checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file it came from; `None` when flags alone configured the server.
    pub file: Option<PathBuf>,
    /// `sha256:..` of the texts that were read, so that two servers or two moments can be compared; empty without a file.
    pub digest: String,
    /// `None`: the server uses its id as its name, as the peer does.
    pub server_name: Option<String>,
    /// Placement tags, lower-cased and trimmed as the peer keeps them, first one wins.
    pub server_tags: Vec<String>,
    /// Free words of the operator, shown in the pages only.
    pub server_metadata: BTreeMap<String, String>,
    /// Where clients connect.
    pub listen: HostPort,
    /// What INFO tells clients instead of `listen` (`host[:port]`).
    pub client_advertise: Option<Advertise>,
    /// The monitoring pages; `None`: no HTTP.
    pub http: Option<HostPort>,
    /// Always starts with `/` and does not end with one unless it is `/` alone.
    pub http_base_path: String,
    pub pid_file: Option<PathBuf>,
    /// A folder where `<program>_<pid>.ports` is written once all ports are known.
    pub ports_file_dir: Option<PathBuf>,
    pub log: LogOptions,
    pub limits: Limits,
    pub lame_duck: LameDuck,
    pub auth: Auth,
    /// The accounts of the `accounts` block, in the file's order. `$G` and the system account are always valid and
    /// need not be here: see `Config::account_names`.
    pub accounts: Vec<Account>,
    /// `None`: the operator has switched the system account off (`no_system_account: true`).
    pub system_account: Option<String>,
    pub cluster: Option<Cluster>,
    pub jetstream: Option<JetStream>,
    /// Trestle's own block.
    pub trestle: Trestle,
    /// Accepted directives that have no effect here, and other remarks for the start-up log.
    pub notes: Vec<Note>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            file: None,
            digest: String::new(),
            server_name: None,
            server_tags: Vec::new(),
            server_metadata: BTreeMap::new(),
            listen: HostPort { host: "0.0.0.0".to_string(), port: 4222 },
            client_advertise: None,
            http: None,
            http_base_path: "/".to_string(),
            pid_file: None,
            ports_file_dir: None,
            log: LogOptions::default(),
            limits: Limits::default(),
            lame_duck: LameDuck::default(),
            auth: Auth::default(),
            accounts: Vec::new(),
            system_account: Some(SYSTEM_ACCOUNT.to_string()),
            cluster: None,
            jetstream: None,
            trestle: Trestle::default(),
            notes: Vec::new(),
        }
    }
}

impl Config {
    /// Every account that exists: `$G` first, then the file's order, then the system account if the file has no
    /// block for it. O(accounts).
    pub fn account_names(&self) -> Vec<&str> {
        let mut names = vec![GLOBAL_ACCOUNT];
        for account in &self.accounts {
            if account.name != GLOBAL_ACCOUNT {
                names.push(&account.name);
            }
        }
        if let Some(system) = &self.system_account
            && !names.contains(&system.as_str())
        {
            names.push(system);
        }
        names
    }

    /// The account of that name, if the file has a block for it. O(accounts).
    pub fn account(&self, name: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.name == name)
    }

    /// Whether streams may be created in the account: only where JetStream runs. `$G` has it as long as
    /// there is no other account besides the system account; others have it where their block says so. The system
    /// account never has it.
    pub fn account_jetstream(&self, name: &str) -> Option<AccountJetStream> {
        self.jetstream.as_ref()?;
        if self.system_account.as_deref() == Some(name) {
            return None;
        }
        match self.account(name) {
            Some(account) => account.jetstream.clone(),
            None if name == GLOBAL_ACCOUNT && self.global_only() => Some(AccountJetStream::default()),
            None => None,
        }
    }

    /// Whether `$G` is the only account besides the system account.
    fn global_only(&self) -> bool {
        let own =
            |account: &&Account| account.name != GLOBAL_ACCOUNT && Some(&account.name) != self.system_account.as_ref();
        !self.accounts.iter().any(|account| own(&account))
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// 0: the kernel picks a free port.
    pub port: u16,
}

/// What is told to others instead of the own listening address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise {
    pub host: String,
    /// `None`: the port that is really listened on.
    pub port: Option<u16>,
}

/// Where log lines go and which ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// `None`: standard error.
    pub file: Option<PathBuf>,
    /// Rotate the file once it is this long; 0: never.
    pub size_limit_bytes: u64,
    /// Rotated files kept; 0: all of them.
    pub files_max: u32,
    pub debug: bool,
    pub trace: bool,
    /// Trace the system account's clients too.
    pub trace_verbose: bool,
    /// Trace only the headers of messages.
    pub trace_headers: bool,
    /// Bytes of a message shown in a trace line; 0: all.
    pub trace_bytes_max: u32,
    /// Put the time in front of each line.
    pub time: bool,
    pub time_utc: bool,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            file: None,
            size_limit_bytes: 0,
            files_max: 0,
            debug: false,
            trace: false,
            trace_verbose: false,
            trace_headers: false,
            trace_bytes_max: 0,
            time: true,
            time_utc: false,
        }
    }
}

/// The bounds on what clients may do. 0 never means "unlimited" here: an absent bound is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub payload_bytes_max: u32,
    pub control_line_bytes_max: u32,
    /// Bytes that may wait to be written to one connection before it counts as a slow consumer.
    pub pending_bytes_max: u64,
    /// `None`: unlimited. The peer's default is 65536.
    pub connections_max: Option<u32>,
    /// Per connection; `None`: unlimited.
    pub subscriptions_max: Option<u32>,
    /// Tokens in a subject that a client subscribes to; `None`: unlimited.
    pub sub_tokens_max: Option<u8>,
    /// How long one write to a client may take.
    pub write_deadline: Duration,
    pub ping_interval: Duration,
    /// Pings that may be unanswered before the connection is closed as stale.
    pub pings_out_max: u32,
    pub headers: bool,
    /// Keep the results of subject matching.
    pub sublist_cache: bool,
    /// Closed connections remembered for the connections page.
    pub closed_clients_max: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            payload_bytes_max: 1024 * 1024,
            control_line_bytes_max: 4096,
            pending_bytes_max: 64 * 1024 * 1024,
            connections_max: Some(64 * 1024),
            subscriptions_max: None,
            sub_tokens_max: None,
            write_deadline: Duration::from_secs(10),
            ping_interval: Duration::from_secs(120),
            pings_out_max: 2,
            headers: true,
            sublist_cache: true,
            closed_clients_max: 10_000,
        }
    }
}

/// How a server leaves in lame duck mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LameDuck {
    /// Over how long the clients are closed; at least 30 s.
    pub duration: Duration,
    /// How long it waits before it closes the first; shorter than `duration`.
    pub grace_period: Duration,
}

impl Default for LameDuck {
    fn default() -> LameDuck {
        LameDuck { duration: Duration::from_secs(120), grace_period: Duration::from_secs(10) }
    }
}

/// Who may connect. With neither users nor a token nor a single user, everyone may, into `$G`.
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    /// `authorization { token: ... }`: plain text or bcrypt.
    pub token: Option<Secret>,
    /// All users of the `authorization` block (account `$G`) and of all accounts; names are unique.
    pub users: Vec<User>,
    /// How long a client may take to present itself.
    pub timeout: Duration,
    /// The user whose rights a client without credentials gets; always one of `users`.
    pub no_auth_user: Option<String>,
}

impl Default for Auth {
    fn default() -> Auth {
        Auth { token: None, users: Vec::new(), timeout: Duration::from_secs(2), no_auth_user: None }
    }
}

impl Auth {
    /// Whether a client has to present anything at all.
    pub fn required(&self) -> bool {
        self.token.is_some() || !self.users.is_empty()
    }
}

/// A password or token as the file has it.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    Plain(String),
    /// `$2a$..`, `$2b$..`, `$2x$..` or `$2y$..`: compare with bcrypt, which costs milliseconds on purpose.
    Bcrypt(String),
}

impl Secret {
    /// Tells a bcrypt hash from plain text by its prefix, as the peer does.
    pub fn new(text: String) -> Secret {
        let hashed = ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| text.starts_with(prefix));
        if hashed { Secret::Bcrypt(text) } else { Secret::Plain(text) }
    }

    /// The text as it stands in the file.
    pub fn text(&self) -> &str {
        match self {
            Secret::Plain(text) | Secret::Bcrypt(text) => text,
        }
    }
}

/// Never prints what it holds: a `Config` may end up in a log line.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Secret::Plain(_)) { "Secret(plain)" } else { "Secret(bcrypt)" })
    }
}

/// One user with a name and a password.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    pub name: String,
    pub password: Secret,
    /// `$G` for users of the `authorization` block.
    pub account: String,
    /// Own permissions, else the block's `default_permissions`; `None`: everything is allowed.
    pub permissions: Option<Permissions>,
}

/// What a user may publish and subscribe to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Permissions {
    pub publish: SubjectRules,
    pub subscribe: SubjectRules,
    /// Lets a service answer on reply subjects that it was sent, whatever `publish` says.
    pub responses: Option<ResponseRule>,
}

/// An empty `allow` (`None`) allows all that `deny` does not forbid; `Some(vec![])` allows nothing. Each entry is a
/// valid subject with wildcards, for `subscribe` optionally followed by a blank and a queue name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectRules {
    pub allow: Option<Vec<String>>,
    pub deny: Vec<String>,
}

/// `allow_responses`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseRule {
    /// Answers per request; `None`: unlimited.
    pub messages_max: Option<u32>,
    /// `None`: for ever.
    pub expires: Option<Duration>,
}

impl Default for ResponseRule {
    fn default() -> ResponseRule {
        ResponseRule { messages_max: Some(1), expires: Some(Duration::from_secs(120)) }
    }
}

/// One block of `accounts`. Its users are in `Auth::users`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    pub name: String,
    /// `None`: JetStream is off for the account.
    pub jetstream: Option<AccountJetStream>,
    pub limits: AccountLimits,
}

/// Bounds on one account over the whole cluster; `None`: unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountLimits {
    pub connections_max: Option<u32>,
    pub subscriptions_max: Option<u32>,
    pub payload_bytes_max: Option<u32>,
}

/// JetStream bounds of one account; `None`: unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountJetStream {
    pub memory_bytes_max: Option<u64>,
    pub file_bytes_max: Option<u64>,
    pub streams_max: Option<u32>,
    pub consumers_max: Option<u32>,
    pub ack_pending_max: Option<u32>,
    /// A stream must say how many bytes it may hold.
    pub bytes_required: bool,
    pub memory_stream_bytes_max: Option<u64>,
    pub file_stream_bytes_max: Option<u64>,
}

/// The `cluster` block: talking to the other servers. A block without an address to listen on is none, as with the
/// peer: such a server stands alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Never contains blanks. `None`: one is made up at start, as the peer does.
    pub name: Option<String>,
    pub listen: HostPort,
    pub advertise: Option<Advertise>,
    /// Do not gossip the clients' URLs of this server.
    pub no_advertise: bool,
    pub routes: Vec<Route>,
    /// What another server must present when it dials in; `None`: nothing.
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub auth_timeout: Duration,
}

impl Default for Cluster {
    fn default() -> Cluster {
        Cluster {
            name: None,
            listen: HostPort { host: "0.0.0.0".to_string(), port: 0 },
            advertise: None,
            no_advertise: false,
            routes: Vec::new(),
            user: None,
            password: None,
            auth_timeout: Duration::from_secs(2),
        }
    }
}

/// One seed URL of `routes`: `nats://user:password@host:port`, `nats-route://host:port`.
#[derive(Clone, PartialEq, Eq)]
pub struct Route {
    pub host: String,
    pub port: u16,
    pub user: Option<String>,
    pub password: Option<String>,
}

/// Shows where, never the credentials.
impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Route({self})")
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The `jetstream` block.
#[derive(Clone, Debug, PartialEq)]
pub struct JetStream {
    /// As the operator named it; the data lie in `<store_dir>/jetstream`, as with the peer.
    pub store_dir: PathBuf,
    /// `None`: the server decides from the machine (the peer: 3/4 of the memory).
    pub memory_bytes_max: Option<u64>,
    /// `None`: the server decides from the disk (the peer: 3/4 of what is free).
    pub file_bytes_max: Option<u64>,
    pub domain: Option<String>,
    /// A tag prefix: no two replicas of a stream on servers that share a tag with it.
    pub unique_tag: Option<String>,
    /// Requests with unknown fields are refused.
    pub strict: bool,
    pub limits: JetStreamLimits,
}

impl Default for JetStream {
    fn default() -> JetStream {
        JetStream {
            store_dir: PathBuf::from("/tmp/nats"),
            memory_bytes_max: None,
            file_bytes_max: None,
            domain: None,
            unique_tag: None,
            strict: true,
            limits: JetStreamLimits::default(),
        }
    }
}

/// `jetstream { limits { .. } }`: guards for the whole server; `None`: unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JetStreamLimits {
    pub ack_pending_max: Option<u32>,
    /// Replicated assets (streams and consumers) this server takes.
    pub ha_assets_max: Option<u32>,
    pub request_batch_max: Option<u32>,
    pub duplicate_window_max: Option<Duration>,
}

/// Trestle's own block, in two parts that must not be mixed up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trestle {
    pub hard: Hard,
    pub soft: Soft,
}

/// What decides how the bytes on disk look. Read when a data directory is made; a later start with other values is
/// refused by the store, never half obeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hard {
    /// Logs in the data directory; `None`: as many as cores at the first start.
    pub shards: Option<u16>,
    /// Size of one log segment; a power of two between 1 MiB and 1 GiB.
    pub segment_bytes: u64,
}

impl Default for Hard {
    fn default() -> Hard {
        Hard { shards: None, segment_bytes: 64 * 1024 * 1024 }
    }
}

/// What only tunes: any value is right on any data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Soft {
    /// Cores to run on; `None`: the CPUs that the process may use.
    pub cores: Option<u16>,
}
