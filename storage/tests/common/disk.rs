//! A disk in memory that behaves as badly as a disk may.
//!
//! Operations are taken in and complete later, in any order. What is on its way at a crash is torn at sector grain; after
//! a crash of the process alone it may be readable and still be lost at the next power loss, unless it was flushed.

use std::collections::BTreeMap;

use bytes::Bytes;
use storage::{DiskData, DiskDone, DiskError, DiskOp, DiskOpKind, FileId};

use super::dice::Dice;

const SECTOR: usize = 512;

#[derive(Clone, Default)]
struct File {
    data: Vec<u8>,
    /// Sectors that a power loss takes back, with what was there before.
    volatile: BTreeMap<usize, Vec<u8>>,
}

#[derive(Clone)]
pub struct Disk {
    files: BTreeMap<FileId, File>,
    under_way: Vec<DiskOp>,
    pub dice: Dice,
    /// Most bytes of all files; more is NoSpace.
    pub bytes_max: usize,
    /// The next write fails.
    pub fail_write: bool,
    pub writes: u64,
}

impl Disk {
    pub fn new(seed: u64) -> Disk {
        Disk {
            files: BTreeMap::new(),
            under_way: Vec::new(),
            dice: Dice::new(seed),
            bytes_max: usize::MAX,
            fail_write: false,
            writes: 0,
        }
    }

    pub fn submit(&mut self, op: DiskOp) {
        self.under_way.push(op);
    }

    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// One of the operations under way completes.
    pub fn complete_one(&mut self) -> Option<DiskDone> {
        if self.under_way.is_empty() {
            return None;
        }
        let at = self.dice.below(self.under_way.len() as u64) as usize;
        let op = self.under_way.swap_remove(at);
        let result = self.run(op.kind);
        Some(DiskDone { id: op.id, result })
    }

    pub fn run(&mut self, kind: DiskOpKind) -> Result<DiskData, DiskError> {
        let size: usize = self.files.values().map(|file| file.data.len()).sum();
        match kind {
            DiskOpKind::Create { file, bytes } => {
                if self.files.contains_key(&file) {
                    return Err(DiskError::Exists);
                }
                if size + bytes as usize > self.bytes_max {
                    return Err(DiskError::NoSpace);
                }
                self.files.insert(file, File { data: vec![0; bytes as usize], ..File::default() });
                Ok(DiskData::Done)
            }
            DiskOpKind::Write { file, offset, data } => {
                if std::mem::take(&mut self.fail_write) {
                    return Err(DiskError::Io(5));
                }
                self.writes += 1;
                let data = data.concat();
                assert!(offset % 4096 == 0 && data.len() % 4096 == 0 && !data.is_empty(), "whole blocks");
                let file = self.files.get_mut(&file).ok_or(DiskError::Missing)?;
                let start = offset as usize;
                file.data.get_mut(start..start + data.len()).ok_or(DiskError::Short)?.copy_from_slice(&data);
                file.volatile.retain(|sector, _| !(start / SECTOR..(start + data.len()) / SECTOR).contains(sector));
                Ok(DiskData::Done)
            }
            DiskOpKind::Read { file, offset, len } => {
                assert!(offset % 4096 == 0 && len % 4096 == 0, "whole blocks");
                let file = self.files.get(&file).ok_or(DiskError::Missing)?;
                let bytes = file.data.get(offset as usize..offset as usize + len).ok_or(DiskError::Short)?;
                Ok(DiskData::Bytes(Bytes::copy_from_slice(bytes)))
            }
            DiskOpKind::Sync { file } => {
                self.files.get_mut(&file).ok_or(DiskError::Missing)?.volatile.clear();
                Ok(DiskData::Done)
            }
            DiskOpKind::Delete { file } => {
                self.files.remove(&file);
                Ok(DiskData::Done)
            }
            DiskOpKind::List => Ok(DiskData::Files(self.list())),
            DiskOpKind::ReadFile { file } => {
                let file = self.files.get(&file).ok_or(DiskError::Missing)?;
                Ok(DiskData::Bytes(Bytes::copy_from_slice(&file.data)))
            }
            DiskOpKind::WriteFileAtomic { file, data } => {
                self.files.insert(file, File { data: data.to_vec(), ..File::default() });
                Ok(DiskData::Done)
            }
        }
    }

    pub fn list(&self) -> Vec<(FileId, u64)> {
        self.files.iter().map(|(file, content)| (*file, content.data.len() as u64)).collect()
    }

    /// The process dies; with `power_loss` the machine as well. What was under way happened, did not, or did in part.
    pub fn crash(&mut self, power_loss: bool) {
        for op in std::mem::take(&mut self.under_way) {
            match op.kind {
                DiskOpKind::Write { file, offset, data } => self.tear(file, offset as usize, &data.concat()),
                DiskOpKind::Create { file, bytes } if self.dice.below(2) == 0 => {
                    let len = self.dice.below(bytes + 1) as usize;
                    self.files.entry(file).or_insert(File { data: vec![0; len], ..File::default() });
                }
                DiskOpKind::WriteFileAtomic { .. } | DiskOpKind::Delete { .. } if self.dice.below(2) == 0 => {
                    let _ = self.run(op.kind);
                }
                _ => {}
            }
        }
        if power_loss {
            for file in self.files.values_mut() {
                for (sector, before) in std::mem::take(&mut file.volatile) {
                    if self.dice.below(2) == 0 {
                        file.data[sector * SECTOR..][..SECTOR].copy_from_slice(&before);
                    }
                }
            }
        }
    }

    fn tear(&mut self, file: FileId, offset: usize, data: &[u8]) {
        let mode = self.dice.below(4);
        let Some(file) = self.files.get_mut(&file) else { return };
        for (i, sector) in data.chunks(SECTOR).enumerate() {
            let lands = match mode {
                0 => true,
                1 => false,
                _ => self.dice.below(3) > 0,
            };
            let at = offset / SECTOR + i;
            if lands && (at + 1) * SECTOR <= file.data.len() {
                let place = &mut file.data[at * SECTOR..][..SECTOR];
                file.volatile.entry(at).or_insert_with(|| place.to_vec());
                place.copy_from_slice(sector);
            }
        }
    }

    /// Rot: one bit of a file turns. False when there is no such place.
    pub fn flip(&mut self, file: FileId, offset: usize) -> bool {
        let bit = 1 << self.dice.below(8);
        self.files.get_mut(&file).and_then(|file| file.data.get_mut(offset)).map(|byte| *byte ^= bit).is_some()
    }

    pub fn content(&self, file: FileId) -> Option<&[u8]> {
        self.files.get(&file).map(|file| &file.data[..])
    }

    pub fn remove(&mut self, file: FileId) {
        self.files.remove(&file);
    }

    pub fn resize(&mut self, file: FileId, bytes: usize) {
        if let Some(file) = self.files.get_mut(&file) {
            file.data.resize(bytes, 0);
        }
    }

    pub fn replace(&mut self, file: FileId, data: Vec<u8>) {
        self.files.insert(file, File { data, ..File::default() });
    }
}
