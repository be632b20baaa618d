//! Who a store belongs to.
//!
//! One small text file in the root of a store, written last when a store is made. It is what tells a lost store from
//! a new one, and a foreign store from our own: segments without it, or it without the logs it promises, stop the
//! start with a sentence that names the file. Nothing here touches a disk; the caller reads, writes and lists.
//!
//! ```text
//! trestle store 1          format version
//! server n1-east           server name
//! cluster 5f1c...          32 hex digits, or "-" before a cluster is formed
//! shards 2                 logs below the root, shard-000 ...
//! created 1763719072000000000    unix nanoseconds
//! check 89abcdef           CRC-32 of all lines above, hex
//! ```

/// Version of everything on disk that this build reads and writes.
pub const FORMAT_VERSION: u32 = 1;
/// Most shards of one store: directory names have three digits.
pub const SHARDS_MAX: u16 = 999;
/// Longest server name in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Who a store belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    pub format_version: u32,
    /// Minted when a cluster forms; `None` before.
    pub cluster_id: Option<u128>,
    pub server_name: String,
    /// Number of logs, one per core.
    pub shards: u16,
    /// Unix nanoseconds.
    pub created: i64,
}

/// Why a store is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IdentityError {
    /// Logs without an identity, or an identity without the logs it promises.
    Lost { what: String },
    /// Another server's store.
    Foreign { what: String },
    /// Written by a build that uses another format.
    Version { what: String },
    /// The file is there but cannot be read as an identity.
    Damaged { what: String },
}

impl std::fmt::Display for IdentityError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            IdentityError::Lost { what } => write!(f, "lost store: {what}"),
            IdentityError::Foreign { what } => write!(f, "foreign store: {what}"),
            IdentityError::Version { what } => write!(f, "store of another version: {what}"),
            IdentityError::Damaged { what } => write!(f, "damaged store: {what}"),
        }
    }
}

impl std::error::Error for IdentityError {}

impl IdentityError {
    /// What an operator can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            IdentityError::Lost { .. } | IdentityError::Damaged { .. } => MOVE_AWAY,
            IdentityError::Foreign { .. } => "give this server its own store_dir, or the server_name that it had",
            IdentityError::Version { .. } => "start the version of the server that wrote it, or a newer one",
        }
    }
}

/// What can be done about a store of which something is missing.
pub const MOVE_AWAY: &str = "put back what is missing (a mount? a backup?), or move the directory away and start empty: \
                             replicas are filled again from the other servers";

/// Directory of a shard's log below the root of the store.
pub fn shard_dir(shard: u16) -> String {
    format!("shard-{shard:03}")
}

impl Identity {
    /// Decides what a store is. `stored` is the identity file if there is one; `logs` the shards whose directory holds
    /// a manifest or any segment, in any order.
    ///
    /// * `Ok(Some(identity))`: our store; every log in it must exist (`StoreOptions::create` false).
    /// * `Ok(None)`: no store yet: make the logs (`create` true), then write `Identity` last.
    pub fn check(
        stored: Option<&[u8]>,
        logs: &[ShardFound],
        server_name: &str,
    ) -> Result<Option<Identity>, IdentityError> {
        let Some(bytes) = stored else { return check_new(logs) };
        let identity = Identity::decode(bytes)?;
        if identity.server_name != server_name {
            return Err(IdentityError::Foreign {
                what: format!("it belongs to server \"{}\", this server is \"{server_name}\"", identity.server_name),
            });
        }
        for shard in 0..identity.shards {
            if !logs.iter().any(|log| log.shard == shard && log.manifest) {
                let dir = shard_dir(shard);
                return Err(IdentityError::Lost { what: format!("{dir}/manifest is missing; identity lists {dir}") });
            }
        }
        match logs.iter().find(|log| log.shard >= identity.shards && log.segments > 0) {
            None => Ok(Some(identity)),
            Some(log) => Err(IdentityError::Lost {
                what: format!(
                    "{} holds segments, but identity lists only {} shards",
                    shard_dir(log.shard),
                    identity.shards
                ),
            }),
        }
    }

    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let cluster = self.cluster_id.map_or_else(|| "-".to_string(), |id| format!("{id:032x}"));
        let text = format!(
            "trestle store {}\nserver {}\ncluster {cluster}\nshards {}\ncreated {}\n",
            self.format_version, self.server_name, self.shards, self.created
        );
        let check = crc32fast::hash(text.as_bytes());
        format!("{text}check {check:08x}\n").into_bytes()
    }

    /// Reads the file's bytes. Any bytes are answered with an identity or an error.
    pub fn decode(bytes: &[u8]) -> Result<Identity, IdentityError> {
        let damaged = |what: &str| IdentityError::Damaged { what: format!("identity: {what}") };
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("not text"))?;
        let version = text.strip_prefix("trestle store ").and_then(|rest| rest.lines().next());
        match version.and_then(|v| v.parse::<u32>().ok()) {
            Some(FORMAT_VERSION) => {}
            Some(other) => {
                let what = format!("format version {other}, this build reads version {FORMAT_VERSION}");
                return Err(IdentityError::Version { what });
            }
            None => return Err(damaged("does not begin with \"trestle store VERSION\"")),
        }
        let at = text.rfind("check ").ok_or_else(|| damaged("no check line"))?;
        let (body, check) = text.split_at(at);
        if check != format!("check {:08x}\n", crc32fast::hash(body.as_bytes())) {
            return Err(damaged("the checksum does not fit"));
        }
        parse_lines(body).ok_or_else(|| damaged("a line is missing or malformed"))
    }
}

/// A shard directory that was found in the root of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardFound {
    pub shard: u16,
    /// It has a manifest.
    pub manifest: bool,
    /// Segment files in it.
    pub segments: usize,
}

/// Without an identity a store is new only if nothing was ever stored: a start that was interrupted leaves manifests
/// and zeroed segments behind, and those logs say themselves that they are empty; a root that once had an identity
/// cannot be told from that by listing alone, so any segment is refused.
fn check_new(logs: &[ShardFound]) -> Result<Option<Identity>, IdentityError> {
    match logs.iter().find(|log| log.segments > 0) {
        None => Ok(None),
        Some(log) => Err(IdentityError::Lost {
            what: format!("{} holds segments, but the file identity is missing", shard_dir(log.shard)),
        }),
    }
}

fn parse_lines(body: &str) -> Option<Identity> {
    let mut lines = body.lines().skip(1);
    let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
    let server_name = field("server")?.to_string();
    let cluster = field("cluster")?;
    let shards = field("shards")?.parse().ok()?;
    let created = field("created")?.parse().ok()?;
    let cluster_id = match cluster {
        "-" => None,
        hex => Some(u128::from_str_radix(hex, 16).ok()?),
    };
    let sound = (1..=SHARDS_MAX).contains(&shards) && !server_name.is_empty() && server_name.len() <= NAME_BYTES_MAX;
    sound.then_some(Identity { format_version: FORMAT_VERSION, cluster_id, server_name, shards, created })
}
