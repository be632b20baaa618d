//! How much this server gives to streams when its configuration does not say: three quarters of what the file system has
//! free and of the machine's memory at start, as the peer does. Placement and the pages show it; nothing is reserved.

use std::path::Path;

use crate::config::options::JetStream;

/// Bytes for streams, 0 where the system does not tell: then there is no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    pub file: u64,
    pub memory: u64,
}

impl Room {
    pub fn of(js: &JetStream, dir: &Path) -> Room {
        Room {
            file: js.file_bytes_max.unwrap_or_else(|| three_quarters(free(dir))),
            memory: js.memory_bytes_max.unwrap_or_else(|| three_quarters(memory())),
        }
    }
}

fn three_quarters(bytes: u64) -> u64 {
    bytes / 4 * 3
}

fn free(dir: &Path) -> u64 {
    nix::sys::statvfs::statvfs(dir).map_or(0, |found| found.blocks_available().saturating_mul(found.fragment_size()))
}

fn memory() -> u64 {
    nix::sys::sysinfo::sysinfo().map_or(0, |found| found.ram_total())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_wins_over_what_the_machine_has() {
        let js = JetStream { file_bytes_max: Some(7), ..JetStream::default() };
        let room = Room::of(&js, Path::new("/"));
        assert_eq!(room.file, 7);
        assert!(room.memory > 1 << 20, "{room:?}");
        let all = Room::of(&JetStream::default(), Path::new("/"));
        assert!(all.file > 0, "{all:?}");
        assert_eq!(Room::of(&JetStream::default(), Path::new("/no/such/folder")).file, 0);
    }
}
