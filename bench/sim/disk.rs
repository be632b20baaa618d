//! The disk of one core: files in memory, with operations under way kept apart from what is durable.
//!
//! ```text
//!  submit ──► flying ──(any order)──► finish ──► durable bytes
//!                 │
//!                 └── crash: every 512-byte sector of a write arrived, or did not
//! ```
//! It promises what `storage::op` asks of whoever runs operations, and no more: operations that are out at the same
//! time end in any order, and what has not been answered may be lost, torn or there.

use std::collections::BTreeMap;

use bytes::Bytes;
use storage::{DiskData, DiskDone, DiskError, DiskOp, DiskOpKind, FileId};

use crate::dice::Dice;

/// The unit in which a write arrives or does not.
const SECTOR: usize = 512;

/// What is wrong with a disk at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sickness {
    /// New segments find no space.
    pub full: bool,
    /// Writes fail.
    pub failing: bool,
    /// Nothing ends before this time, microseconds.
    pub stalled_until: u64,
}

#[derive(Debug, Default)]
pub struct Disk {
    pub files: BTreeMap<FileId, Vec<u8>>,
    pub sickness: Sickness,
    flying: BTreeMap<u64, Flight>,
    next: u64,
    /// The group and kind of the note that rotted last.
    struck: Option<(u64, u8)>,
}

fn le(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[derive(Debug)]
struct Flight {
    op: DiskOp,
    /// The answer has been given before the bytes are durable: only a mutant does that.
    answered: bool,
}

impl Disk {
    /// An operation begins; its number and the time when it ends.
    pub fn submit(&mut self, now_us: u64, dice: &mut Dice, op: DiskOp) -> (u64, u64) {
        let mut takes = match &op.kind {
            DiskOpKind::Write { data, .. } => 60 + data.iter().map(Bytes::len).sum::<usize>() as u64 / 1024,
            DiskOpKind::Create { .. } => 3_000,
            _ => 40,
        };
        takes += dice.below(takes * 2);
        if dice.below(200) == 0 {
            takes += dice.below(20_000);
        }
        self.next += 1;
        self.flying.insert(self.next, Flight { op, answered: false });
        (self.next, (now_us + takes).max(self.sickness.stalled_until + dice.below(200)))
    }

    /// The operation ends: its bytes are durable, its answer is due (unless it was given before).
    pub fn finish(&mut self, number: u64) -> Option<DiskDone> {
        let Flight { op, answered } = self.flying.remove(&number)?;
        let result = self.run(op.kind);
        (!answered).then_some(DiskDone { id: op.id, result })
    }

    /// Answers a write that is still under way, as a disk that lies about its cache does.
    pub fn answer_early(&mut self, number: u64) -> Option<DiskDone> {
        let flight = self.flying.get_mut(&number)?;
        if !matches!(flight.op.kind, DiskOpKind::Write { .. }) {
            return None;
        }
        flight.answered = true;
        Some(DiskDone { id: flight.op.id, result: Ok(DiskData::Done) })
    }

    /// Runs an operation at once.
    pub fn run(&mut self, kind: DiskOpKind) -> Result<DiskData, DiskError> {
        let writes =
            matches!(kind, DiskOpKind::Write { .. } | DiskOpKind::Sync { .. } | DiskOpKind::WriteFileAtomic { .. });
        if self.sickness.failing && writes {
            return Err(DiskError::Io(5));
        }
        match kind {
            DiskOpKind::Create { .. } if self.sickness.full => return Err(DiskError::NoSpace),
            DiskOpKind::Create { file, .. } if self.files.contains_key(&file) => return Err(DiskError::Exists),
            DiskOpKind::Create { file, bytes } => {
                self.files.insert(file, vec![0; bytes as usize]);
            }
            DiskOpKind::Write { file, offset, data } => {
                let bytes = data.concat();
                let target = self.files.get_mut(&file).ok_or(DiskError::Missing)?;
                let at = offset as usize;
                target.get_mut(at..at + bytes.len()).ok_or(DiskError::Short)?.copy_from_slice(&bytes);
            }
            DiskOpKind::Read { file, offset, len } => {
                let source = self.files.get(&file).ok_or(DiskError::Missing)?;
                let bytes = source.get(offset as usize..offset as usize + len).ok_or(DiskError::Short)?;
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

    /// The process dies: what was under way has happened, has not, or has in part.
    pub fn crash(&mut self, dice: &mut Dice) {
        self.sickness = Sickness::default();
        for (_, flight) in std::mem::take(&mut self.flying) {
            match flight.op.kind {
                DiskOpKind::Write { file, offset, data } => {
                    // A lie is found out: what was answered early is what the device had not written yet.
                    let keeps = if flight.answered { 0 } else { dice.pick(&[0, 50, 100]) };
                    self.tear(dice, file, offset as usize, &data.concat(), keeps);
                }
                other if dice.chance(50) => {
                    // Whether it worked is of no interest: nobody is left to hear it.
                    let _ = self.run(other);
                }
                _ => {}
            }
        }
    }

    fn tear(&mut self, dice: &mut Dice, file: FileId, offset: usize, data: &[u8], keeps_percent: u64) {
        let Some(target) = self.files.get_mut(&file) else { return };
        for (at, sector) in data.chunks(SECTOR).enumerate() {
            let start = offset + at * SECTOR;
            if dice.chance(keeps_percent)
                && let Some(place) = target.get_mut(start..start + sector.len())
            {
                place.copy_from_slice(sector);
            }
        }
    }

    /// Flips one bit in the used part of some segment; where, in words. Sometimes it is one of the newest checkpoint or note
    /// of some group, and then the next one hits what was written in its place.
    pub fn rot(&mut self, dice: &mut Dice) -> Option<String> {
        if dice.below(3) == 0
            && let Some(place) = self.rot_note(dice)
        {
            return Some(place);
        }
        let segments: Vec<FileId> =
            self.files.keys().copied().filter(|file| matches!(file, FileId::Segment(_))).collect();
        if segments.is_empty() {
            return None;
        }
        let file = dice.pick(&segments);
        let data = self.files.get_mut(&file)?;
        let used = data.iter().rposition(|byte| *byte != 0)?;
        let at = dice.below(used as u64 + 1) as usize;
        data[at] ^= 1 << dice.below(8);
        Some(format!("{} at {at}", file.name()))
    }

    /// What counts of a group beside its entries are few bytes in many: found by what ON_DISK says about runs.
    fn rot_note(&mut self, dice: &mut Dice) -> Option<String> {
        let word = |data: &[u8], at: usize| data.get(at..at + 8).map_or(0, le);
        let half = |data: &[u8], at: usize| data.get(at..at + 4).map_or(0, le) as usize;
        // By group and kind: the LSN, the file and the place of the newest body.
        let mut notes: BTreeMap<(u64, u8), (u64, FileId, usize)> = BTreeMap::new();
        for (file, data) in self.files.iter().filter(|(file, _)| matches!(file, FileId::Segment(_))) {
            for run in (0..data.len()).step_by(storage::BLOCK).filter(|run| data[*run..].starts_with(b"TRSTRUN1")) {
                for entry in (0..half(data, run + 12).min(1 << 16)).map(|at| run + 64 + 56 * at) {
                    let kind = data.get(entry + 36).copied().unwrap_or_default();
                    let (lsn, body, len) =
                        (word(data, entry + 24), run + half(data, entry + 40), half(data, entry + 44));
                    if !matches!(kind, 2 | 3 | 64..) || len == 0 || body + len > data.len() {
                        continue;
                    }
                    let newest = notes.entry((word(data, entry), kind)).or_insert((0, *file, 0));
                    if lsn >= newest.0 {
                        *newest = (lsn, *file, body + (len - 1) / 2);
                    }
                }
            }
        }
        let all: Vec<(u64, u8)> = notes.keys().copied().collect();
        if all.is_empty() {
            return None;
        }
        let which = self.struck.take().filter(|which| notes.contains_key(which)).unwrap_or_else(|| {
            let which = dice.pick(&all);
            self.struck = Some(which);
            which
        });
        let (_, file, at) = notes[&which];
        *self.files.get_mut(&file)?.get_mut(at)? ^= 1 << dice.below(8);
        Some(format!("{} at {at}", file.name()))
    }

    /// What is durable, on a disk of its own.
    pub fn copy(&self) -> Disk {
        Disk { files: self.files.clone(), ..Disk::default() }
    }

    /// Everything of a name and its length: whether a store is there at all.
    pub fn is_blank(&self) -> bool {
        self.files.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::OpId;

    fn write(id: u64, offset: u64, byte: u8) -> DiskOp {
        let data = vec![Bytes::from(vec![byte; 4096])];
        DiskOp { id: OpId(id), kind: DiskOpKind::Write { file: FileId::Segment(0), offset, data } }
    }

    fn disk() -> Disk {
        let mut disk = Disk::default();
        disk.run(DiskOpKind::Create { file: FileId::Segment(0), bytes: 1 << 16 }).unwrap();
        disk
    }

    #[test]
    fn an_answered_write_survives_a_crash_and_one_under_way_is_torn_by_sectors() {
        let mut dice = Dice::new(1);
        let mut torn = 0;
        for _ in 0..50 {
            let mut disk = disk();
            let (first, _) = disk.submit(0, &mut dice, write(1, 0, 1));
            assert!(disk.finish(first).unwrap().result.is_ok());
            disk.submit(0, &mut dice, write(2, 4096, 2));
            disk.crash(&mut dice);
            let bytes = &disk.files[&FileId::Segment(0)];
            assert!(bytes[..4096].iter().all(|b| *b == 1));
            let sectors: Vec<u8> = bytes[4096..8192].chunks(SECTOR).map(|sector| sector[0]).collect();
            torn += u32::from(sectors.contains(&0) && sectors.contains(&2));
        }
        assert!(torn > 0);
    }

    #[test]
    fn an_early_answer_is_a_lie_that_a_crash_shows() {
        let mut dice = Dice::new(1);
        let mut disk = disk();
        let (number, _) = disk.submit(0, &mut dice, write(1, 0, 9));
        assert!(disk.answer_early(number).is_some());
        disk.crash(&mut dice);
        assert!(disk.files[&FileId::Segment(0)].iter().all(|b| *b == 0));
    }

    #[test]
    fn a_full_disk_takes_writes_but_no_new_segment() {
        let mut disk = disk();
        disk.sickness.full = true;
        let create = DiskOpKind::Create { file: FileId::Segment(1), bytes: 4096 };
        assert_eq!(disk.run(create), Err(DiskError::NoSpace));
        assert!(disk.run(write(1, 0, 1).kind).is_ok());
    }
}
