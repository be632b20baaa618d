//! The data directory before any core runs: whose it is, how many logs it has, and the lock that keeps others out.
//!
//! A directory that was lost or belongs to somebody else is refused with a sentence; it is never taken for an empty
//! one. Everything here is blocking and happens once.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use storage::FileId;
use storage::identity::{FORMAT_VERSION, Identity, ShardFound, shard_dir};

/// What the store says of itself.
pub struct Store {
    pub root: PathBuf,
    pub identity: Identity,
    /// Nothing was stored before this start.
    pub fresh: bool,
}

impl Store {
    /// Opens the store of a server below `dir`, or prepares a new one for `shards` cores.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn open(dir: &Path, server_name: &str, shards: u16, created_ns: i64) -> Result<Store, String> {
        // io_uring opens files relative to no directory at all.
        let root = std::path::absolute(dir).map_err(|e| format!("the store directory {}: {e}", dir.display()))?;
        fs::create_dir_all(&root).map_err(|e| format!("cannot create the store directory {}: {e}", root.display()))?;
        let stored = read_identity(&root)?;
        let found = find_shards(&root)?;
        let known = Identity::check(stored.as_deref(), &found, server_name)
            .map_err(|e| format!("the store {} is refused: {e}", root.display()))?;
        match known {
            Some(identity) => Ok(Store { root, identity, fresh: false }),
            None => {
                let server_name = server_name.to_owned();
                let identity =
                    Identity { format_version: FORMAT_VERSION, cluster_id: None, server_name, shards, created: created_ns };
                Ok(Store { root, identity, fresh: true })
            }
        }
    }

    /// The server that a store belongs to, if there is a store that can be read: a server without a configured name
    /// goes by the name under which it stored.
    pub fn owner(dir: &Path) -> Option<String> {
        let bytes = read_identity(dir).ok()??;
        Some(Identity::decode(&bytes).ok()?.server_name)
    }

    /// The directory of one core's log.
    pub fn shard(&self, shard: u16) -> PathBuf {
        self.root.join(shard_dir(shard))
    }

    /// Writes the identity: the last step of making a store, and again when it joins a cluster.
    pub fn write_identity(&self) -> Result<(), String> {
        let path = self.root.join(FileId::Identity.name());
        let draft = self.root.join("identity.new");
        let write = || -> std::io::Result<()> {
            let mut file = fs::File::create(&draft)?;
            file.write_all(&self.identity.encode())?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            fs::File::open(&self.root)?.sync_all()
        };
        write().map_err(|e| format!("cannot write {}: {e}", path.display()))
    }
}

fn read_identity(root: &Path) -> Result<Option<Vec<u8>>, String> {
    let path = root.join(FileId::Identity.name());
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

fn find_shards(root: &Path) -> Result<Vec<ShardFound>, String> {
    let mut found = Vec::new();
    let broken = |e: std::io::Error| format!("cannot list {}: {e}", root.display());
    for entry in fs::read_dir(root).map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let name = entry.file_name();
        let Some(digits) = name.to_str().and_then(|name| name.strip_prefix("shard-")) else { continue };
        let Ok(shard) = digits.parse::<u16>() else { continue };
        let mut one = ShardFound { shard, manifest: false, segments: 0 };
        for file in fs::read_dir(entry.path()).map_err(broken)? {
            match file.map_err(broken)?.file_name().to_str().and_then(FileId::from_name) {
                Some(FileId::Manifest) => one.manifest = true,
                Some(FileId::Segment(_)) => one.segments += 1,
                _ => {}
            }
        }
        found.push(one);
    }
    Ok(found)
}
