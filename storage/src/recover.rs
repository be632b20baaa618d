//! Opens a log: from what is on disk to a `Log`, or to a sentence that says why not.
//!
//! ```text
//!  list files ─► manifest ─► heads and footers of all segments ─► scan the few without a footer
//!                                                                        │
//!   finished ◄── hand out live records ◄── flush ◄── judge: torn or damaged
//! ```
//!
//! A state machine like the log: it asks for [`DiskOp`]s, is told [`DiskDone`]s and yields records in the order of the
//! log. A manifest or a segment that must be there and is missing, short or long ends in an error; nothing is ever
//! taken for empty. What the scan accepts is flushed before it is promised: after a crash of the process alone it may
//! not have been on the device.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::event::Damage;
use crate::footer::{Footer, Trailer};
use crate::judge::{Content, Piece, judge};
use crate::layout::blocks;
use crate::log::{Log, damage_of};
use crate::manifest::{Manifest, ManifestError};
use crate::op::{BLOCK, DiskData, DiskDone, DiskError, DiskOp, DiskOpKind, FileId, OpId};
use crate::options::StoreOptions;
use crate::record::{Lsn, Record};
use crate::replay::{Replay, Span};
use crate::restore::Restore;
use crate::scan::Scan;
use crate::segment::{Head, HeadState, RUNS_START};
use crate::set::SegmentSet;

/// Operations under way while heads and footers are read.
const PROBES_MAX: usize = 16;

/// A record that counts, as it was stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    pub lsn: Lsn,
    pub record: Record,
}

/// What recovery found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveryReport {
    /// There was no log, and a new one was made.
    pub created: bool,
    pub segments: usize,
    pub groups: usize,
    /// Records that were handed out.
    pub records: u64,
    pub bytes_read: u64,
    /// Runs that were on their way at the last stop and are cut; nothing of them was ever reported durable.
    pub runs_torn: u64,
    pub damaged: Vec<Damage>,
    /// Damaged places beyond those listed.
    pub damaged_more: u64,
}

/// Why a log is not opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecoverError {
    /// Something that must be there is missing or has the wrong length.
    Lost { what: String },
    /// Another format version.
    Foreign { what: String },
    /// A file that everything depends on is damaged.
    Damaged { what: String },
    /// The disk answered with an error.
    Disk { what: String },
    /// The options make no sense.
    Options { what: String },
}

impl std::fmt::Display for RecoverError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RecoverError::Lost { what } => write!(f, "lost log: {what}"),
            RecoverError::Foreign { what } => write!(f, "foreign log: {what}"),
            RecoverError::Damaged { what } => write!(f, "damaged log: {what}"),
            RecoverError::Disk { what } => write!(f, "cannot read the log: {what}"),
            RecoverError::Options { what } => write!(f, "store options: {what}"),
        }
    }
}

impl std::error::Error for RecoverError {}

impl RecoverError {
    /// What an operator can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            RecoverError::Lost { .. } | RecoverError::Damaged { .. } | RecoverError::Disk { .. } => {
                crate::identity::MOVE_AWAY
            }
            RecoverError::Foreign { .. } => "start the version of the server that wrote it, or a newer one",
            RecoverError::Options { .. } => "change the configuration (max_file_store, cores, segment_bytes)",
        }
    }
}

#[derive(Debug)]
enum Step {
    List,
    Manifest,
    NewManifest,
    Delete,
    Head(u32),
    Trailer(u32, u64),
    Footer(u32, Trailer),
    Scan(usize),
    Flush,
    Replay(Span),
}

/// Opens one log. Drain `poll_op`, then `poll_item` (nothing more is read while items wait), until `poll_finished`
/// answers.
#[derive(Debug)]
pub struct Recovery {
    options: StoreOptions,
    ops: VecDeque<DiskOp>,
    under_way: BTreeMap<OpId, Step>,
    op_next: u64,
    files: BTreeMap<u32, u64>,
    manifest_found: bool,
    /// Segments that are not probed yet.
    probes: VecDeque<u32>,
    restore: Option<Restore>,
    pieces: Vec<Piece>,
    /// The segment that is being scanned.
    scan: Option<(u32, Scan)>,
    /// Those to come: generation, number, last run if known.
    scans: VecDeque<(u64, u32, Option<u64>)>,
    run_last: u64,
    replay: Option<Replay>,
    items: VecDeque<Recovered>,
    report: RecoveryReport,
    finished: Option<Result<(), RecoverError>>,
}

impl Recovery {
    pub fn new(options: StoreOptions) -> Recovery {
        let mut recovery = Recovery {
            ops: VecDeque::new(),
            under_way: BTreeMap::new(),
            op_next: 0,
            files: BTreeMap::new(),
            manifest_found: false,
            probes: VecDeque::new(),
            restore: None,
            pieces: Vec::new(),
            scan: None,
            scans: VecDeque::new(),
            run_last: 0,
            replay: None,
            items: VecDeque::new(),
            report: RecoveryReport::default(),
            finished: None,
            options,
        };
        match recovery.options.check() {
            Ok(()) => recovery.push(Step::List, DiskOpKind::List),
            Err(what) => recovery.fail(RecoverError::Options { what }),
        }
        recovery
    }

    /// Next operation for the disk. Ask until `None` after every answer and after taking items.
    pub fn poll_op(&mut self) -> Option<DiskOp> {
        if self.finished.is_none() && self.ops.is_empty() && self.items.is_empty() {
            self.plan();
        }
        self.ops.pop_front()
    }

    /// Takes the answer to an operation.
    pub fn on_done(&mut self, done: DiskDone) {
        let Some(step) = self.under_way.remove(&done.id) else { return };
        if self.finished.is_some() {
            return;
        }
        if let Ok(DiskData::Bytes(bytes)) = &done.result {
            self.report.bytes_read += bytes.len() as u64;
        }
        if let Err(error) = self.on_step(step, done.result) {
            self.fail(error);
        }
    }

    /// Next record. Within a group entries come in the order of their indexes, as far as all of them count.
    pub fn poll_item(&mut self) -> Option<Recovered> {
        self.items.pop_front()
    }

    /// The end: answers once, after the last item was taken and `poll_op` has nothing more.
    pub fn poll_finished(&mut self) -> Option<Result<(Log, RecoveryReport), RecoverError>> {
        if !self.items.is_empty() {
            return None;
        }
        if let Err(error) = self.finished.take()? {
            return Some(Err(error));
        }
        let restore = self.restore.take()?;
        let mut report = std::mem::take(&mut self.report);
        report.segments = restore.set.segments.len();
        report.damaged = restore.damage.listed.clone();
        report.damaged_more = restore.damage.more;
        let log = restore.into_log(self.options.clone(), self.run_last, self.op_next);
        report.groups = log.groups().count();
        Some(Ok((log, report)))
    }

    fn push(&mut self, step: Step, kind: DiskOpKind) {
        let id = OpId(self.op_next);
        self.op_next += 1;
        self.under_way.insert(id, step);
        self.ops.push_back(DiskOp { id, kind });
    }

    fn fail(&mut self, error: RecoverError) {
        self.ops.clear();
        self.items.clear();
        self.finished = Some(Err(error));
    }

    /// Goes on where nothing is under way.
    fn plan(&mut self) {
        while self.under_way.len() < PROBES_MAX
            && let Some(number) = self.probes.pop_front()
        {
            let kind = DiskOpKind::Read { file: FileId::Segment(number), offset: 0, len: RUNS_START as usize };
            self.push(Step::Head(number), kind);
        }
        if !self.under_way.is_empty() || self.restore.is_none() {
            return;
        }
        match &mut self.replay {
            None => self.plan_scan(),
            Some(_) => self.plan_replay(),
        }
    }

    fn on_step(&mut self, step: Step, result: Result<DiskData, DiskError>) -> Result<(), RecoverError> {
        match (step, result) {
            (Step::List, Ok(DiskData::Files(files))) => self.on_list(&files),
            (Step::Manifest, Ok(DiskData::Bytes(bytes))) => self.on_manifest(&bytes)?,
            (Step::NewManifest, Ok(_)) => self.report.created = true,
            (Step::Delete, Ok(_)) => {}
            (Step::Head(number), Ok(DiskData::Bytes(bytes))) => self.on_head(number, &bytes)?,
            (Step::Trailer(number, generation), result) => self.on_trailer(number, generation, bytes_of(&result)),
            (Step::Footer(number, trailer), result) => self.on_footer(number, trailer, bytes_of(&result)),
            (Step::Scan(asked), result) => self.on_scan(asked, bytes_of(&result)),
            (Step::Flush, Ok(_)) => {}
            (Step::Replay(span), result) => self.on_replay(span, bytes_of(&result)),
            (step, Err(error)) => return Err(RecoverError::Disk { what: format!("{}: {error}", place(&step)) }),
            (step, Ok(_)) => return Err(RecoverError::Disk { what: format!("{}: odd answer", place(&step)) }),
        }
        Ok(())
    }

    fn on_list(&mut self, files: &[(FileId, u64)]) {
        for (file, bytes) in files {
            match file {
                FileId::Segment(number) => drop(self.files.insert(*number, *bytes)),
                FileId::Manifest => self.manifest_found = true,
                FileId::Identity => {}
            }
        }
        if self.manifest_found {
            return self.push(Step::Manifest, DiskOpKind::ReadFile { file: FileId::Manifest });
        }
        if !self.options.create || !self.files.is_empty() {
            let what = format!("the file manifest is missing ({} segment files are there)", self.files.len());
            return self.fail(RecoverError::Lost { what });
        }
        let manifest = Manifest {
            salt: self.options.seed,
            segment_bytes: self.options.segment_bytes,
            segments: std::collections::BTreeSet::new(),
        };
        self.begin(&manifest);
        let data = Bytes::from(manifest.encode());
        self.push(Step::NewManifest, DiskOpKind::WriteFileAtomic { file: FileId::Manifest, data });
    }

    fn on_manifest(&mut self, bytes: &[u8]) -> Result<(), RecoverError> {
        let manifest = Manifest::decode(bytes).map_err(|error| match error {
            ManifestError::Version(found) => {
                RecoverError::Foreign { what: format!("manifest: format version {found} is not one of ours") }
            }
            ManifestError::Damaged(what) => RecoverError::Damaged { what: format!("manifest: {what}") },
        })?;
        for number in &manifest.segments {
            let name = FileId::Segment(*number).name();
            match self.files.get(number) {
                None => return Err(RecoverError::Lost { what: format!("{name} is missing; manifest lists it") }),
                Some(bytes) if *bytes != manifest.segment_bytes => {
                    let what = format!("{name} has {bytes} bytes instead of {}", manifest.segment_bytes);
                    return Err(RecoverError::Lost { what });
                }
                Some(_) => {}
            }
        }
        let unlisted: Vec<u32> = self.files.keys().filter(|n| !manifest.segments.contains(n)).copied().collect();
        for number in unlisted {
            self.push(Step::Delete, DiskOpKind::Delete { file: FileId::Segment(number) });
        }
        self.probes = manifest.segments.iter().copied().collect();
        self.begin(&manifest);
        Ok(())
    }

    fn begin(&mut self, manifest: &Manifest) {
        self.options.segment_bytes = manifest.segment_bytes;
        self.options.run_bytes_max = self.options.run_bytes_max.min(manifest.segment_bytes as usize / 4);
        let percent = self.options.move_dead_percent;
        let set = SegmentSet::new(manifest.salt, manifest.segment_bytes as u32, self.options.bytes_max, percent);
        self.restore = Some(Restore::new(set));
    }

    fn geometry(&self) -> (u64, u32) {
        self.restore.as_ref().map_or((0, 0), |restore| (restore.set.salt, restore.set.segment_bytes))
    }

    fn on_head(&mut self, number: u32, bytes: &[u8]) -> Result<(), RecoverError> {
        let (salt, segment_bytes) = self.geometry();
        let Some(head) = Head::decode(salt, number, u64::from(segment_bytes), bytes) else {
            let what = format!("{}: both copies of its head are damaged", FileId::Segment(number).name());
            return Err(RecoverError::Damaged { what });
        };
        let Some(restore) = &mut self.restore else { return Ok(()) };
        if head.state == HeadState::Free {
            restore.add_free(number, &head);
            return Ok(());
        }
        restore.add_open(number, &head);
        let offset = u64::from(segment_bytes) - BLOCK as u64;
        let kind = DiskOpKind::Read { file: FileId::Segment(number), offset, len: BLOCK };
        self.push(Step::Trailer(number, head.generation), kind);
        Ok(())
    }

    fn on_trailer(&mut self, number: u32, generation: u64, bytes: Option<&Bytes>) {
        let (salt, segment_bytes) = self.geometry();
        let trailer = bytes.and_then(|bytes| Trailer::decode(salt, generation, segment_bytes, bytes));
        let Some(trailer) = trailer else { return self.scans.push_back((generation, number, None)) };
        let len = blocks(trailer.body_bytes as usize);
        let kind = DiskOpKind::Read { file: FileId::Segment(number), offset: u64::from(trailer.body_offset), len };
        self.push(Step::Footer(number, trailer), kind);
    }

    fn on_footer(&mut self, number: u32, trailer: Trailer, bytes: Option<&Bytes>) {
        let (salt, _) = self.geometry();
        let footer = bytes.and_then(|bytes| Footer::decode(salt, &trailer, bytes));
        let Some(restore) = &mut self.restore else { return };
        let Some(footer) = footer else {
            restore.add_footerless(number, &trailer);
            return self.scans.push_back((trailer.generation, number, Some(trailer.run_last)));
        };
        restore.add_sealed(number, trailer, footer);
        let content = Content::Sealed { run_last: trailer.run_last };
        self.pieces.push(Piece { segment: number, generation: trailer.generation, content });
    }

    fn plan_scan(&mut self) {
        let (salt, segment_bytes) = self.geometry();
        if self.scan.is_none() {
            self.scans.make_contiguous().sort_unstable();
            let Some((generation, number, run_last)) = self.scans.pop_front() else { return self.on_all_read() };
            let content = Content::Scanned { items: Vec::new(), run_last };
            self.pieces.push(Piece { segment: number, generation, content });
            self.scan = Some((number, Scan::new(salt, generation, segment_bytes)));
        }
        let Some((number, scan)) = &self.scan else { return };
        match scan.want() {
            Some((offset, len)) => {
                let kind = DiskOpKind::Read { file: FileId::Segment(*number), offset, len };
                self.push(Step::Scan(len), kind);
            }
            None => {
                self.scan = None;
                self.plan_scan();
            }
        }
    }

    fn on_scan(&mut self, asked: usize, bytes: Option<&Bytes>) {
        let Some((_, scan)) = &mut self.scan else { return };
        match bytes {
            Some(bytes) => scan.feed(bytes),
            None => scan.feed_unreadable(asked),
        }
        if let Some(Piece { content: Content::Scanned { items, .. }, .. }) = self.pieces.last_mut() {
            items.extend(std::iter::from_fn(|| scan.poll()));
        }
    }

    /// Everything was read that says what there is.
    fn on_all_read(&mut self) {
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.sort_by_key(|piece| piece.generation);
        let verdict = judge(pieces);
        self.run_last = verdict.run_last;
        self.report.runs_torn = verdict.torn;
        let Some(restore) = &mut self.restore else { return };
        restore.add_verdict(verdict);
        restore.settle();
        self.replay = Some(Replay::new(&restore.index, self.options.replay));
        for number in restore.to_flush() {
            self.push(Step::Flush, DiskOpKind::Sync { file: FileId::Segment(number) });
        }
        if self.under_way.is_empty() {
            self.plan_replay();
        }
    }

    fn plan_replay(&mut self) {
        let (Some(replay), Some(restore)) = (&mut self.replay, &self.restore) else { return };
        if !replay.advance(&restore.index) {
            self.finished = Some(Ok(()));
            return;
        }
        let spans: Vec<Span> = std::iter::from_fn(|| replay.poll_span()).collect();
        for span in spans {
            let Span { segment, offset, len } = span;
            let kind = DiskOpKind::Read { file: FileId::Segment(segment), offset: u64::from(offset), len };
            self.push(Step::Replay(span), kind);
        }
        self.take_window();
    }

    fn on_replay(&mut self, span: Span, bytes: Option<&Bytes>) {
        if let Some(replay) = &mut self.replay {
            replay.feed(span, bytes);
        }
        self.take_window();
    }

    fn take_window(&mut self) {
        let (Some(replay), Some(restore)) = (&mut self.replay, &mut self.restore) else { return };
        for found in replay.take_window().into_iter().flatten() {
            match found {
                Ok((lsn, entry, record)) => {
                    if entry.kind.latest_wins() {
                        restore.index.keep_body(&entry, &record.body);
                    }
                    self.report.records += 1;
                    self.items.push_back(Recovered { lsn, record });
                }
                Err((entry, segment)) => {
                    if restore.index.mark_damaged(&entry, segment) {
                        restore.damage.push(damage_of(&entry, segment, "the record cannot be read"));
                    }
                }
            }
        }
    }
}

fn bytes_of(result: &Result<DiskData, DiskError>) -> Option<&Bytes> {
    match result {
        Ok(DiskData::Bytes(bytes)) => Some(bytes),
        _ => None,
    }
}

fn place(step: &Step) -> String {
    match step {
        Step::List => "list of files".into(),
        Step::Manifest | Step::NewManifest => FileId::Manifest.name(),
        Step::Head(number) => FileId::Segment(*number).name(),
        _ => "segment".into(),
    }
}
