//! The data directory before any core runs: whose it is, how many logs it has, and the lock that keeps others out.
//!
//! A directory that was lost or belongs to somebody else is refused with a sentence; it is never taken for an empty
//! one. Everything here is blocking and happens once.
//!
//! ```text
//!   making   identity to be; written before the logs of a new store, removed after `identity` was written
//!   identity whose store this is: its presence says that the store is whole
//! ```
//! A first start that was cut short leaves `making` without `identity`. Nobody was let in then, so nothing is lost by
//! beginning again; logs without either file are a store that lost its identity, and refused.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use storage::identity::{FORMAT_VERSION, Identity, ShardFound, shard_dir};
use storage::{FileId, StoreLock};

const MAKING: &str = "making";

/// What the store says of itself.
#[derive(Debug)]
pub struct Store {
    pub root: PathBuf,
    pub identity: Identity,
    /// Nothing was stored before this start.
    pub fresh: bool,
    _lock: StoreLock,
}

impl Store {
    /// Opens the store of a server below `dir`, or prepares a new one for `shards` cores.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn open(dir: &Path, server_name: &str, shards: u16, created_ns: i64) -> Result<Store, String> {
        // glommio takes absolute paths only; and whoever reads the log should not have to guess.
        let root = std::path::absolute(dir).map_err(|e| format!("the store directory {}: {e}", dir.display()))?;
        let at = root.display();
        fs::create_dir_all(&root).map_err(|e| format!("cannot create the store directory {at}: {e}"))?;
        let lock = StoreLock::take(&root).map_err(|e| format!("{at}: {e}"))?;
        let stored = read_identity(&root)?;
        match stored {
            None => clear_unfinished(&root)?,
            // The first start ended between its last two steps. Left there, it would pass a store whose identity is lost one
            // day for one that never began.
            Some(_) => remove(&root.join(MAKING))?,
        }
        let found = find_shards(&root)?;
        let known = Identity::check(stored.as_deref(), &found, server_name)
            .map_err(|e| format!("the store {at} is refused: {e}; {}", e.advice()))?;
        let fresh = known.is_none();
        let identity = known.unwrap_or_else(|| Identity {
            format_version: FORMAT_VERSION,
            cluster_id: None,
            server_name: server_name.to_owned(),
            shards,
            created: created_ns,
        });
        let store = Store { root, identity, fresh, _lock: lock };
        if fresh {
            write_file(&store.root, MAKING, &store.identity.encode())?;
        }
        Ok(store)
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

    /// The last step of making a store: all logs stand, and perhaps a cluster has formed meanwhile.
    pub fn finish_making(&self, cluster_id: Option<u128>) -> Result<(), String> {
        Store::write_identity(&self.root, &Identity { cluster_id, ..self.identity.clone() })?;
        remove(&self.root.join(MAKING))
    }

    /// Replaces the identity, durably.
    pub fn write_identity(root: &Path, identity: &Identity) -> Result<(), String> {
        write_file(root, &FileId::Identity.name(), &identity.encode())
    }
}

/// Removes what a first start left behind that did not come to its end.
fn clear_unfinished(root: &Path) -> Result<(), String> {
    if !root.join(MAKING).exists() {
        return Ok(());
    }
    for found in find_shards(root)? {
        let dir = root.join(shard_dir(found.shard));
        fs::remove_dir_all(&dir).map_err(|e| format!("cannot remove the unfinished {}: {e}", dir.display()))?;
    }
    remove(&root.join(MAKING))
}

fn write_file(root: &Path, name: &str, bytes: &[u8]) -> Result<(), String> {
    let (path, draft) = (root.join(name), root.join(format!("{name}.new")));
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::create(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        fs::File::open(root)?.sync_all()
    };
    write().map_err(|e| format!("cannot write {}: {e}", path.display()))
}

fn remove(path: &Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(format!("cannot remove {}: {error}", path.display())),
        _ => Ok(()),
    }
}

fn read_identity(root: &Path) -> Result<Option<Vec<u8>>, String> {
    let path = root.join(FileId::Identity.name());
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("trestle-store-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    fn add_log(root: &Path, shard: u16) {
        let dir = root.join(shard_dir(shard));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(FileId::Manifest.name()), "m").unwrap();
        fs::write(dir.join(FileId::Segment(1).name()), "s").unwrap();
    }

    #[test]
    fn a_first_start_that_was_cut_short_begins_again() {
        let dir = scratch("cut");
        drop(Store::open(&dir, "a", 2, 1).unwrap());
        add_log(&dir, 0);
        let again = Store::open(&dir, "a", 1, 2).unwrap();
        assert!(again.fresh && !again.shard(0).exists());
        add_log(&dir, 0);
        again.finish_making(None).unwrap();
        drop(again);
        let whole = Store::open(&dir, "a", 4, 3).unwrap();
        assert_eq!((whole.fresh, whole.identity.shards, whole.identity.created), (false, 1, 2));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_store_that_stands_is_never_taken_for_an_unfinished_one() {
        let dir = scratch("stands");
        let store = Store::open(&dir, "a", 1, 1).unwrap();
        add_log(&dir, 0);
        store.finish_making(None).unwrap();
        drop(store);
        // As a crash between the two steps of `finish_making` leaves it.
        fs::write(dir.join(MAKING), "").unwrap();
        assert!(!Store::open(&dir, "a", 1, 1).unwrap().fresh);
        fs::remove_file(dir.join("identity")).unwrap();
        let lost = Store::open(&dir, "a", 1, 1).unwrap_err();
        assert!(lost.contains("lost store") && dir.join("shard-000/segment-00000001").exists(), "{lost}");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn stores_of_others_and_stores_without_identity_are_refused() {
        let dir = scratch("refused");
        let store = Store::open(&dir, "a", 1, 1).unwrap();
        add_log(&dir, 0);
        let taken = Store::open(&dir, "a", 1, 1).unwrap_err();
        assert!(taken.contains("another server uses this store"), "{taken}");
        store.finish_making(None).unwrap();
        drop(store);
        let foreign = Store::open(&dir, "b", 1, 1).unwrap_err();
        assert!(foreign.contains("belongs to server \"a\""), "{foreign}");
        fs::remove_file(dir.join("identity")).unwrap();
        let lost = Store::open(&dir, "a", 1, 1).unwrap_err();
        assert!(lost.contains("lost store"), "{lost}");
        fs::remove_dir_all(dir).unwrap();
    }
}
