//! `trestle check DIR`: says offline what is in a store and what is damaged.

use std::path::{Path, PathBuf};

use storage::StoreLock;

/// The command's exit code: 0 for a sound store, 1 for one that is not or that cannot be read.
///
/// `words` is what follows `check` on the command line.
pub fn run(words: &[String]) -> i32 {
    let [dir] = words else {
        eprintln!("usage: trestle check DIR    (DIR: the store_dir of a server that is not running)");
        return 1;
    };
    match store_below(Path::new(dir)) {
        Ok(root) => verify(&root),
        Err(why) => {
            eprintln!("trestle: {why}");
            1
        }
    }
}

/// The store itself: operators name what they configured (`store_dir`), in which the store is `jetstream`.
fn store_below(dir: &Path) -> Result<PathBuf, String> {
    if !dir.is_dir() {
        return Err(format!("{} is not a directory", dir.display()));
    }
    let inner = dir.join("jetstream");
    Ok(if !dir.join("identity").exists() && inner.is_dir() { inner } else { dir.to_owned() })
}

fn verify(root: &Path) -> i32 {
    // A server that writes at the same time would make a sound store look torn. A file system that is mounted
    // read-only cannot be locked and cannot be written either.
    let _lock = match StoreLock::take(root) {
        Ok(lock) => Some(lock),
        Err(storage::LockError::Io(_)) => None,
        Err(taken) => {
            eprintln!("trestle: {}: {taken}; stop it first", root.display());
            return 1;
        }
    };
    let (text, sound) = storage::check::check_store(root);
    println!("{}", root.display());
    print!("{text}");
    i32::from(!sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_found_from_either_directory() {
        let dir = std::env::temp_dir().join(format!("trestle-check-{}", std::process::id()));
        let inner = dir.join("jetstream");
        std::fs::create_dir_all(&inner).unwrap();
        assert_eq!(store_below(&dir).unwrap(), inner);
        std::fs::write(inner.join("identity"), "").unwrap();
        assert_eq!(store_below(&inner).unwrap(), inner);
        assert_eq!(run(&[inner.display().to_string()]), 1, "an empty identity is not sound");
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(store_below(&dir).unwrap_err().ends_with("is not a directory"));
    }
}
