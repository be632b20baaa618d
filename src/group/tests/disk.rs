//! A disk in memory: what was written is durable when its answer is out; a crash keeps, loses or tears by sectors what
//! was still on its way.

use std::collections::BTreeMap;

use bytes::Bytes;
use storage::{DiskData, DiskDone, DiskError, DiskOp, DiskOpKind, FileId};

use super::world::Rng;

const SECTOR: usize = 512;

#[derive(Default)]
pub struct Disk {
    pub files: BTreeMap<FileId, Vec<u8>>,
    /// Operations under way, by when they end.
    flying: BTreeMap<(u64, u64), DiskOp>,
    /// Bytes of all segments together beyond which `Create` answers "no space".
    pub bytes_max: Option<u64>,
}

impl Disk {
    pub fn submit(&mut self, ends_us: u64, op: DiskOp) {
        self.flying.insert((ends_us, op.id.0), op);
    }

    pub fn next(&self) -> Option<u64> {
        self.flying.keys().next().map(|key| key.0)
    }

    /// The next operation that has ended.
    pub fn finish(&mut self, now_us: u64) -> Option<DiskDone> {
        let key = *self.flying.keys().next().filter(|key| key.0 <= now_us)?;
        let op = self.flying.remove(&key)?;
        Some(DiskDone { id: op.id, result: self.run(op.kind) })
    }

    fn run(&mut self, kind: DiskOpKind) -> Result<DiskData, DiskError> {
        match kind {
            DiskOpKind::Create { file, bytes } => {
                let used: u64 = self.files.values().map(|file| file.len() as u64).sum();
                if self.bytes_max.is_some_and(|max| used + bytes > max) {
                    return Err(DiskError::NoSpace);
                }
                if self.files.contains_key(&file) {
                    return Err(DiskError::Exists);
                }
                self.files.insert(file, vec![0; bytes as usize]);
            }
            DiskOpKind::Write { file, offset, data } => {
                let bytes: Vec<u8> = data.concat();
                let target = self.files.get_mut(&file).ok_or(DiskError::Missing)?;
                let at = offset as usize;
                target.get_mut(at..at + bytes.len()).ok_or(DiskError::Short)?.copy_from_slice(&bytes);
            }
            DiskOpKind::Read { file, offset, len } => {
                let source = self.files.get(&file).ok_or(DiskError::Missing)?;
                let at = offset as usize;
                let bytes = source.get(at..at + len).ok_or(DiskError::Short)?;
                return Ok(DiskData::Bytes(Bytes::copy_from_slice(bytes)));
            }
            DiskOpKind::Sync { .. } => {}
            DiskOpKind::Delete { file } => {
                self.files.remove(&file);
            }
            DiskOpKind::List => {
                return Ok(DiskData::Files(self.files.iter().map(|(file, data)| (*file, data.len() as u64)).collect()));
            }
            DiskOpKind::ReadFile { file } => {
                let data = self.files.get(&file).ok_or(DiskError::Missing)?;
                return Ok(DiskData::Bytes(Bytes::copy_from_slice(data)));
            }
            DiskOpKind::WriteFileAtomic { file, data } => {
                self.files.insert(file, data.to_vec());
            }
        }
        Ok(DiskData::Done)
    }

    /// The process dies: of every write under way some sectors arrive, or none, or all.
    pub fn crash(&mut self, rng: &mut Rng) {
        for (_, op) in std::mem::take(&mut self.flying) {
            let DiskOpKind::Write { file, offset, data } = op.kind else {
                if rng.chance(50) {
                    let _ = self.run(op.kind);
                }
                continue;
            };
            let Some(target) = self.files.get_mut(&file) else { continue };
            let fate = rng.below(3);
            for (at, sector) in data.concat().chunks(SECTOR).enumerate() {
                let start = offset as usize + at * SECTOR;
                if fate == 2 || fate == 1 && rng.chance(50) {
                    target[start..start + sector.len()].copy_from_slice(sector);
                }
            }
        }
    }
}
