//! Verifies a log or a whole store offline and says what it found, in words.
//!
//! Reads every byte that counts: heads, footers, and all runs, sealed or not, against every checksum. Changes nothing and
//! repairs nothing, so it may be run on a copy, or on a store whose server does not start. The rules are those of a
//! start (`recover.rs`), and what a start would refuse is a problem here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Formatter};
use std::path::Path;

use bytes::Bytes;

use crate::blocking::{Blocking, read_small};
use crate::event::Damage;
use crate::footer::{Footer, Trailer};
use crate::identity::{Identity, shard_dir};
use crate::judge::{Content, Piece, judge};
use crate::layout::blocks;
use crate::log::damage_of;
use crate::manifest::{Manifest, ManifestError};
use crate::op::{BLOCK, DiskData, DiskError, DiskOp, DiskOpKind, FileId, OpId};
use crate::record::{GroupId, Index, RecordKind};
use crate::restore::Restore;
use crate::scan::{Scan, ScanItem};
use crate::segment::{Head, HeadState, RUNS_START};
use crate::set::{SegmentSet, State};

/// Damaged places that a report prints; the rest is counted.
const PRINTED_MAX: usize = 100;

/// What a check of one log found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CheckReport {
    /// Why a server would not start on it; empty for a log that opens.
    pub problems: Vec<String>,
    pub segments: Vec<SegmentReport>,
    pub groups: Vec<GroupReport>,
    pub damaged: Vec<Damage>,
    /// Runs that a start would cut because they never became durable.
    pub runs_torn: u64,
}

/// One segment file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentReport {
    pub segment: u32,
    pub state: &'static str,
    pub generation: u64,
    /// First and last run; 0 and 0 without any.
    pub runs: (u64, u64),
    pub bytes_live: u64,
    pub bytes_dead: u64,
}

/// One group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupReport {
    pub group: GroupId,
    pub entries: u64,
    /// Lowest and highest entry; 0 and 0 without any.
    pub first: Index,
    pub last: Index,
    pub bytes_live: u64,
    /// What else it has: hard state, checkpoint, notes.
    pub has: Vec<&'static str>,
}

impl CheckReport {
    /// True when nothing is wrong; a torn end is not wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty() && self.damaged.is_empty()
    }
}

/// How the check reads: any function that runs read operations at once.
type Read<'a> = &'a mut dyn FnMut(DiskOpKind) -> Result<DiskData, DiskError>;

/// Checks one log.
pub fn check(read: Read) -> CheckReport {
    let mut report = CheckReport::default();
    match listed(read) {
        Ok(manifest) => check_segments(read, &manifest, &mut report),
        Err(problem) => report.problems.push(problem),
    }
    report
}

/// Checks the log in a directory.
pub fn check_dir(dir: &Path) -> CheckReport {
    let files = Blocking::new(dir);
    check(&mut |kind| files.run(DiskOp { id: OpId(0), kind }).result)
}

/// Checks a store: its identity and every log in it. Answers with the text to print and whether all is sound.
pub fn check_store(root: &Path) -> (String, bool) {
    let mut text = String::new();
    let identity = match read_small(&root.join("identity")) {
        Ok(bytes) => Identity::decode(&bytes).map_err(|error| error.to_string()),
        Err(error) => Err(format!("the file identity cannot be read: {error}")),
    };
    let identity = match identity {
        Ok(identity) => identity,
        Err(problem) => return (format!("PROBLEM {problem}\n"), false),
    };
    text.push_str(&format!("store of server \"{}\", {} shards\n", identity.server_name, identity.shards));
    let mut sound = true;
    for shard in 0..identity.shards {
        let name = shard_dir(shard);
        let report = check_dir(&root.join(&name));
        sound &= report.is_sound();
        text.push_str(&format!("{name}\n{report}"));
    }
    text.push_str(if sound { "the store is sound\n" } else { "the store is NOT sound\n" });
    (text, sound)
}

fn listed(read: Read) -> Result<Manifest, String> {
    let files = match read(DiskOpKind::List) {
        Ok(DiskData::Files(files)) => files.into_iter().collect::<BTreeMap<FileId, u64>>(),
        Ok(_) => return Err("the directory cannot be listed".into()),
        Err(error) => return Err(format!("the directory cannot be listed: {error}")),
    };
    let bytes = match read(DiskOpKind::ReadFile { file: FileId::Manifest }) {
        Ok(DiskData::Bytes(bytes)) => bytes,
        Ok(_) => return Err("manifest: odd answer".into()),
        Err(error) => return Err(format!("manifest: {error}")),
    };
    let manifest = Manifest::decode(&bytes).map_err(|error| match error {
        ManifestError::Version(version) => format!("manifest: format version {version} is not one of ours"),
        ManifestError::Damaged(what) => format!("manifest: {what}"),
    })?;
    for number in &manifest.segments {
        let file = FileId::Segment(*number);
        match files.get(&file) {
            None => return Err(format!("{} is missing; manifest lists it", file.name())),
            Some(bytes) if *bytes != manifest.segment_bytes => {
                return Err(format!("{} has {bytes} bytes instead of {}", file.name(), manifest.segment_bytes));
            }
            Some(_) => {}
        }
    }
    Ok(manifest)
}

fn check_segments(read: Read, manifest: &Manifest, report: &mut CheckReport) {
    let set = SegmentSet::new(manifest.salt, manifest.segment_bytes as u32, None, 100);
    let mut restore = Restore::new(set);
    let mut pieces = Vec::new();
    let mut bad = Vec::new();
    for number in &manifest.segments {
        match check_segment(read, manifest, *number, &mut restore, &mut bad) {
            Ok(piece) => pieces.extend(piece),
            Err(problem) => report.problems.push(problem),
        }
    }
    pieces.sort_by_key(|piece| piece.generation);
    let verdict = judge(pieces);
    report.runs_torn = verdict.torn;
    restore.add_verdict(verdict);
    restore.settle();
    for damage in bad {
        let Bad { entry, segment } = damage;
        if restore.index.mark_damaged(&entry, segment) {
            report.damaged.push(damage_of(&entry, segment, "the checksum of the record does not fit"));
        }
    }
    report.damaged.append(&mut restore.damage.listed);
    describe(&restore, report);
}

/// A stored record that does not read back.
struct Bad {
    entry: crate::run::Entry,
    segment: u32,
}

fn check_segment(
    read: Read,
    manifest: &Manifest,
    number: u32,
    restore: &mut Restore,
    bad: &mut Vec<Bad>,
) -> Result<Option<Piece>, String> {
    let file = FileId::Segment(number);
    let mut at = |offset: u64, len: usize| bytes_at(read, file, offset, len);
    let (salt, segment_bytes) = (manifest.salt, manifest.segment_bytes);
    let head = at(0, RUNS_START as usize).and_then(|bytes| Head::decode(salt, number, segment_bytes, &bytes));
    let Some(head) = head else {
        return Err(format!("{}: both copies of its head are damaged", file.name()));
    };
    if head.state == HeadState::Free {
        restore.add_free(number, &head);
        return Ok(None);
    }
    restore.add_open(number, &head);
    let last = at(segment_bytes - BLOCK as u64, BLOCK);
    let trailer = last.and_then(|block| Trailer::decode(salt, head.generation, segment_bytes as u32, &block));
    let footer = trailer.and_then(|trailer| {
        let body = at(u64::from(trailer.body_offset), blocks(trailer.body_bytes as usize))?;
        Footer::decode(salt, &trailer, &body)
    });
    let items = scan(read, manifest, number, head.generation);
    let content = match (trailer, footer) {
        (Some(trailer), Some(footer)) => {
            bad.extend(unread(&footer, &items).map(|entry| Bad { entry, segment: number }));
            restore.add_sealed(number, trailer, footer);
            Content::Sealed { run_last: trailer.run_last }
        }
        (trailer, _) => {
            if let Some(trailer) = &trailer {
                restore.add_footerless(number, trailer);
            }
            Content::Scanned { items, run_last: trailer.map(|trailer| trailer.run_last) }
        }
    };
    Ok(Some(Piece { segment: number, generation: head.generation, content }))
}

/// The footer's entries whose bodies the scan did not find whole.
fn unread<'a>(footer: &'a Footer, items: &[ScanItem]) -> impl Iterator<Item = crate::run::Entry> + 'a {
    let mut whole = BTreeSet::new();
    for item in items {
        let entries = match item {
            ScanItem::Run(run) => &run.entries,
            ScanItem::Gap { salvaged, .. } => salvaged,
        };
        whole.extend(entries.iter().filter(|(_, whole)| *whole).map(|(entry, _)| (entry.offset, entry.lsn)));
    }
    footer.entries.iter().filter(move |entry| !whole.contains(&(entry.offset, entry.lsn))).copied()
}

fn scan(read: Read, manifest: &Manifest, number: u32, generation: u64) -> Vec<ScanItem> {
    let mut scan = Scan::new(manifest.salt, generation, manifest.segment_bytes as u32);
    let mut items = Vec::new();
    while let Some((offset, len)) = scan.want() {
        match bytes_at(read, FileId::Segment(number), offset, len) {
            Some(bytes) => scan.feed(&bytes),
            None => scan.feed_unreadable(len),
        }
        items.extend(std::iter::from_fn(|| scan.poll()));
    }
    items
}

fn bytes_at(read: Read, file: FileId, offset: u64, len: usize) -> Option<Bytes> {
    match read(DiskOpKind::Read { file, offset, len }) {
        Ok(DiskData::Bytes(bytes)) => Some(bytes),
        _ => None,
    }
}

fn describe(restore: &Restore, report: &mut CheckReport) {
    for (number, segment) in &restore.set.segments {
        report.segments.push(SegmentReport {
            segment: *number,
            state: match segment.state {
                State::Sealed => "sealed",
                State::Active => "open",
                State::Closed => "full, without a footer",
                State::Ready => "ready",
                _ => "free",
            },
            generation: segment.generation,
            runs: segment.runs,
            bytes_live: segment.live,
            bytes_dead: segment.used - segment.live,
        });
    }
    for (id, group) in restore.index.groups.iter().filter(|(_, group)| !group.is_gone()) {
        let noted = group.latest.iter().filter(|single| single.entry.kind != RecordKind::FLOOR);
        let singles: u64 = noted.clone().map(|single| single.entry.cost()).sum();
        report.groups.push(GroupReport {
            group: *id,
            entries: group.slots.len(),
            first: group.slots.first().unwrap_or(0),
            last: group.slots.last().unwrap_or(0),
            bytes_live: singles + group.slots.range(0, u64::MAX).map(|place| place.cost()).sum::<u64>(),
            has: noted.map(|single| single.entry.kind.word()).collect(),
        });
    }
}

impl Display for CheckReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        for problem in &self.problems {
            writeln!(f, "  PROBLEM {problem}")?;
        }
        for segment in &self.segments {
            writeln!(f, "  {segment}")?;
        }
        for group in &self.groups {
            writeln!(f, "  {group}")?;
        }
        if self.runs_torn > 0 {
            writeln!(f, "  torn end: {} runs never became durable and will be cut", self.runs_torn)?;
        }
        for damage in self.damaged.iter().take(PRINTED_MAX) {
            writeln!(f, "  DAMAGED {damage}")?;
        }
        if self.damaged.len() > PRINTED_MAX {
            writeln!(f, "  DAMAGED {} more places", self.damaged.len() - PRINTED_MAX)?;
        }
        let words = if self.is_sound() { "sound" } else { "NOT sound" };
        writeln!(f, "  {words}: {} segments, {} groups", self.segments.len(), self.groups.len())
    }
}

impl Display for SegmentReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let SegmentReport { segment, state, generation, runs, bytes_live, bytes_dead } = self;
        write!(f, "segment {segment}: {state}, generation {generation}")?;
        if runs.1 > 0 {
            write!(f, ", runs {} to {}, {bytes_live} bytes live, {bytes_dead} dead", runs.0, runs.1)?;
        }
        Ok(())
    }
}

impl Display for GroupReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "group {:x}: ", self.group.0)?;
        match self.entries {
            0 => write!(f, "no entries")?,
            count => write!(f, "{count} entries, {} to {}", self.first, self.last)?,
        }
        write!(f, ", {} bytes", self.bytes_live)?;
        for word in &self.has {
            write!(f, ", {word}")?;
        }
        Ok(())
    }
}
