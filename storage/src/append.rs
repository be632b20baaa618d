//! The write path: records gather while runs are on their way, and each run takes everything that has gathered.
//!
//! With one or two runs in flight the size of a run follows the device by itself: a slow disk gets large runs, an idle
//! one gets each record at once. Runs are numbered without a hole. They may complete in any order, but a run counts as
//! durable only with all before it, and run `n` is formed only when run `n - writes_in_flight_max` is durable.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::event::{AppendError, LogEvent};
use crate::log::{Log, Purpose};
use crate::op::{BLOCK, DiskData, DiskError, DiskOpKind, FileId};
use crate::options::{UNSTORED_BYTES_MAX, record_bytes_max};
use crate::record::{GroupId, Index, Lsn, Record, RecordKind};
use crate::run::{ENTRIES_MAX, ENTRY_BYTES, Entry, RunHeader, encode, run_bytes};

/// Bodies up to this size may use the space that is held back, if their kind or their caller says that they matter more
/// than what clients store.
const RESERVED_BYTES_MAX: usize = 64 << 10;
/// What one record costs in a footer, about; for deciding whether the store is full.
const FOOTER_COST: usize = 16;

/// How deep a record may reach into the two segments' worth of space that is held back for a full store. One of them stays
/// free to move what lives into, so that a full log turns over for ever as long as something in it dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// Not at all: what clients store.
    Plain,
    /// A quarter: what others have agreed to store and this log must follow.
    Follow,
    /// Somewhat more: small entries that are soon replaced by others (what consumers note).
    Progress,
    /// To five eighths of a segment: a state that a replica is taught, which lets go of much of what is here.
    Taught,
    /// All but a quarter of a segment: entries by which space comes back (deletes, purges) or a group gets a leader, and large
    /// checkpoints and notes, without which nothing that was released comes back.
    Relief,
    /// To the end: votes, cuts, tombstones, small checkpoints and notes, moves.
    Vital,
}

impl Claim {
    /// What a record may claim whose caller claims that much for its entries.
    fn of(self, kind: RecordKind, body: usize) -> Claim {
        match kind {
            RecordKind::ENTRY => self,
            _ if body > RESERVED_BYTES_MAX => Claim::Relief,
            _ => Claim::Vital,
        }
    }

    /// What must stay free behind a record, of `segment` bytes that are held back.
    fn leaves(self, segment: usize) -> usize {
        let eighths = match self {
            Claim::Plain => 16,
            Claim::Follow => 12,
            Claim::Progress => 9,
            Claim::Taught => 5,
            Claim::Relief => 2,
            Claim::Vital => 0,
        };
        segment / 8 * eighths
    }
}

/// A record that waits for its run.
#[derive(Debug)]
struct Waiting {
    entry: Entry,
    body: Bytes,
    /// Counts every record that enters the log, copies too.
    seq: u64,
    /// The newest LSN that callers know when this one is durable.
    upto: Lsn,
}

/// A run on its way to the disk.
#[derive(Debug)]
struct Flight {
    run: u64,
    done: bool,
    seq: u64,
    upto: Lsn,
    bytes: usize,
    lsns: Vec<Lsn>,
}

/// State of the write path. `durable_run < run_next` and `durable_seq <= seq`.
#[derive(Debug)]
pub(crate) struct Writer {
    pub lsn_next: u64,
    pub durable_lsn: Lsn,
    /// Records that entered the log.
    pub seq: u64,
    pub durable_seq: u64,
    /// Bodies and entries that are not durable.
    pub unstored: usize,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    flights: VecDeque<Flight>,
    run_next: u64,
    pub durable_run: u64,
    session: u32,
    session_first: u64,
    /// Last run that carried records, and the newest one that a run on disk knows to be durable.
    run_filled: u64,
    run_noted: u64,
    mark: bool,
}

impl Writer {
    /// A new session behind run `run_last`.
    pub fn new(run_last: u64, session: u32, lsn_last: Lsn) -> Writer {
        Writer {
            lsn_next: lsn_last.0 + 1,
            durable_lsn: lsn_last,
            seq: 0,
            durable_seq: 0,
            unstored: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            flights: VecDeque::new(),
            run_next: run_last + 1,
            durable_run: run_last,
            session,
            session_first: run_last + 1,
            run_filled: run_last,
            run_noted: 0,
            mark: false,
        }
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.flights.is_empty()
    }

    pub fn session(&self) -> u32 {
        self.session
    }

    /// True while so much waits that nothing of the log's own should join the line.
    pub fn is_loaded(&self, run_bytes_max: usize) -> bool {
        self.waiting_bytes > 2 * run_bytes_max
    }
}

impl Log {
    /// Takes a record. It can be read at once and is durable when `durable()` reaches the answer.
    ///
    /// An entry supersedes every entry of its group with the same or a higher index. That takes a truncation before
    /// it; a crash may come between the two.
    pub fn append(&mut self, record: Record) -> Result<Lsn, AppendError> {
        self.append_with(record, Claim::Plain)
    }

    /// The same for an entry that may use space which is held back from others.
    pub fn append_with(&mut self, record: Record, claim: Claim) -> Result<Lsn, AppendError> {
        let lawful = match record.kind {
            RecordKind::ENTRY => {
                let floor = self.index.groups.get(&record.group).map_or(0, |group| group.floor);
                record.index > 0 && record.index >= floor
            }
            RecordKind::TOMBSTONE | RecordKind::FLOOR => false,
            kind => kind.known(),
        };
        if !lawful {
            return Err(AppendError::Invalid);
        }
        if record.kind == RecordKind::TRUNCATE {
            return self.truncate(record.group, record.index).map(|lsn| lsn.unwrap_or(self.appended()));
        }
        self.admit(claim.of(record.kind, record.body.len()), record.body.len())?;
        if record.kind == RecordKind::ENTRY && self.top_of(record.group) >= record.index {
            self.cut(record.group, record.index);
        }
        Ok(self.enter(record, None))
    }

    /// Entries from `from` on are dead, after a restart too. Answers with the record that says so, `None` when there
    /// was nothing to do.
    pub fn truncate(&mut self, group: GroupId, from: Index) -> Result<Option<Lsn>, AppendError> {
        if self.top_of(group) < from {
            return Ok(None);
        }
        self.admit(Claim::Vital, 0)?;
        Ok(Some(self.cut(group, from)))
    }

    /// Entries below `below` are dead: head retention or compaction. The caller's own record of why (a checkpoint)
    /// must be appended before.
    pub fn release(&mut self, group: GroupId, below: Index) {
        self.index.release(group, below, &mut self.deaths);
        self.bury();
    }

    /// `bytes_dead` more bytes of an entry's body no longer count; with the last of them the entry is dead.
    pub fn kill(&mut self, group: GroupId, index: Index, bytes_dead: u32) {
        self.index.kill(group, index, bytes_dead, &mut self.deaths);
        self.bury();
    }

    /// Drops everything of a group. Its number may be used again.
    pub fn drop_group(&mut self, group: GroupId) -> Result<Lsn, AppendError> {
        self.admit(Claim::Vital, 0)?;
        self.index.drop_group(group, &mut self.deaths);
        let lsn = self.enter(note(RecordKind::TOMBSTONE, group, 0), None);
        self.bury();
        Ok(lsn)
    }

    /// Stores a damaged or lost entry again, as a peer has it; it supersedes nothing. Other kinds are appended: a
    /// newer record of theirs heals them.
    pub fn heal(&mut self, record: Record) -> Result<Lsn, AppendError> {
        if record.kind != RecordKind::ENTRY {
            return self.append(record);
        }
        let group = self.index.groups.get(&record.group);
        let known = group.and_then(|group| group.slots.get(record.index));
        let floor = group.map_or(0, |group| group.floor);
        if record.index < floor.max(1) || known.is_some_and(|place| !place.damaged) {
            return Err(AppendError::Invalid);
        }
        self.admit(Claim::Plain, record.body.len())?;
        let original = match known {
            Some(place) if (place.term, place.epoch) == (record.term, record.epoch) => Some(place.lsn),
            Some(_) => return Err(AppendError::Invalid),
            None => Some(Lsn(self.writer.lsn_next)),
        };
        Ok(self.enter(record, original))
    }

    /// Has what is durable written down, if no run says so yet: an empty run. Worth its 4 KiB when the log falls idle
    /// and before a clean stop, because it lets the next start tell damage of the last runs from a torn write.
    pub fn mark(&mut self) {
        self.writer.mark = true;
    }

    /// Entries above are not on disk; a dead one up to here may be, and must not come back above its successor.
    fn top_of(&self, group: GroupId) -> Index {
        self.index.groups.get(&group).map_or(0, |group| group.top)
    }

    /// Entries from `from` on die, and a record says so. Space was admitted by the caller: it is one entry.
    fn cut(&mut self, group: GroupId, from: Index) -> Lsn {
        self.index.truncate(group, from, &mut self.deaths);
        let lsn = self.enter(note(RecordKind::TRUNCATE, group, from), None);
        self.bury();
        lsn
    }

    /// The log's own note that entries below the group's floor are dead. False when there is no space for it.
    pub(crate) fn note_floor(&mut self, group: GroupId, floor: Index) -> bool {
        if self.admit(Claim::Vital, 0).is_err() {
            return false;
        }
        self.enter(note(RecordKind::FLOOR, group, floor), None);
        true
    }

    /// A live record is stored once more, elsewhere.
    pub(crate) fn copy(&mut self, entry: &Entry, body: Bytes) {
        let copy = Entry { copy: true, offset: 0, ..*entry };
        self.stats.bytes_moved += copy.cost();
        self.index.append_copy(&copy, &mut self.deaths);
        self.queue(copy, body);
        self.bury();
    }

    /// Whether there is space and memory for a record.
    fn admit(&mut self, claim: Claim, body: usize) -> Result<(), AppendError> {
        let bytes_max = record_bytes_max(u64::from(self.set.segment_bytes));
        if self.broken {
            return Err(AppendError::Broken);
        }
        if body > bytes_max {
            return Err(AppendError::TooLarge { bytes: body, bytes_max });
        }
        if self.writer.unstored + body > UNSTORED_BYTES_MAX && claim != Claim::Vital {
            return Err(AppendError::Busy);
        }
        if !self.has_space(body, claim) {
            self.run_low();
            return Err(AppendError::Full);
        }
        Ok(())
    }

    /// Whether entries with so many bytes of bodies, all of them together, would be taken now. Asked before a promise is
    /// made that rests on them; a `false` is said as `SpaceLow`, as a refused record is.
    pub fn has_room(&mut self, body: usize, claim: Claim) -> bool {
        let room = self.has_space(body, claim);
        if !room {
            self.run_low();
        }
        room
    }

    fn run_low(&mut self) {
        if !std::mem::replace(&mut self.low, true) {
            self.unsettled = true;
            self.events.push_back(LogEvent::SpaceLow);
        }
    }

    /// Whether what clients store should wait until the next segment is made. Whether the file system gives it is known only
    /// then; what is here already must hold what was taken until now, and one segment for what gives space back. It ends with
    /// an operation that is under way.
    pub fn awaits_segment(&self, body: usize) -> bool {
        let segment = self.set.usable() - record_bytes_max(u64::from(self.set.segment_bytes));
        let here = self.set.available() + usize::from(self.set.is_opening());
        self.set.growth() > 0 && self.wanted(body) + segment > self.set.room(1) + here * segment
    }

    /// Two segments' worth is held back (see [`Claim`]); the rest is for everything. What the quota still allows counts as
    /// far as the next two segments, unless the file system has just refused one.
    pub(crate) fn has_space(&self, body: usize, claim: Claim) -> bool {
        let segment = self.set.usable() - record_bytes_max(u64::from(self.set.segment_bytes));
        // One more before the first is there. What must not run out counts on less: the file system may refuse the next.
        let counted = if claim == Claim::Plain { 2 } else { 1 } + u64::from(self.set.active.is_none());
        let growth = if self.set.doubtful { 0 } else { self.set.growth().min(counted) as usize };
        let coming = usize::from(self.set.is_coming());
        let segments = self.set.available() + coming + growth;
        let room = self.set.room(1) + segments * segment;
        self.wanted(body) + claim.leaves(segment) <= room
    }

    /// What everything that waits takes on disk, with one more record.
    fn wanted(&self, body: usize) -> usize {
        let runs = 2 + self.writer.waiting_bytes / self.options.run_bytes_max;
        self.writer.waiting_bytes + ENTRY_BYTES + FOOTER_COST + body + runs * 2 * BLOCK
    }

    /// Gives a record its LSN and puts it in the line. A healed one keeps the LSN of its original.
    fn enter(&mut self, record: Record, original: Option<Lsn>) -> Lsn {
        let lsn = Lsn(self.writer.lsn_next);
        self.writer.lsn_next += 1;
        let Record { group, kind, epoch, term, index, body } = record;
        let entry = Entry {
            group,
            index,
            term,
            lsn: original.unwrap_or(lsn),
            epoch,
            kind,
            copy: original.is_some(),
            offset: 0,
            bytes: body.len() as u32,
            crc: crc32fast::hash(&body),
        };
        if entry.copy {
            self.index.append_copy(&entry, &mut self.deaths);
        } else {
            self.index.append(&entry, &body, &mut self.deaths);
        }
        self.stats.records += 1;
        self.stats.bytes_payload += u64::from(entry.bytes);
        self.queue(entry, body);
        self.bury();
        lsn
    }

    fn queue(&mut self, entry: Entry, body: Bytes) {
        self.tail.put(entry.lsn, &body);
        let bytes = entry.cost() as usize;
        self.writer.seq += 1;
        self.writer.unstored += bytes;
        self.writer.waiting_bytes += bytes + FOOTER_COST;
        let (seq, upto) = (self.writer.seq, Lsn(self.writer.lsn_next - 1));
        self.writer.waiting.push_back(Waiting { entry, body, seq, upto });
    }

    /// Forms runs while something waits and the window is open.
    pub(crate) fn plan_runs(&mut self) {
        loop {
            let writer = &mut self.writer;
            let marks = writer.mark && writer.run_noted < writer.run_filled && writer.flights.is_empty();
            writer.mark &= writer.run_noted < writer.run_filled;
            let open = writer.run_next - writer.durable_run <= self.options.writes_in_flight_max as u64;
            if !open || (writer.waiting.is_empty() && !marks) {
                return;
            }
            let count = self.records_that_fit();
            let fits = count > 0 || (self.writer.waiting.is_empty() && self.set.room(0) >= BLOCK);
            if fits {
                self.form_run(count);
            } else if !self.set.ready.is_empty() {
                self.set.roll();
                self.unsettled = true;
            } else {
                return;
            }
        }
    }

    /// How many of the waiting records the next run can take.
    fn records_that_fit(&self) -> usize {
        let (mut count, mut bodies) = (0, 0);
        for waiting in &self.writer.waiting {
            bodies += waiting.body.len();
            let bytes = run_bytes(count + 1, bodies);
            let over = bytes > self.options.run_bytes_max && count > 0;
            if over || count == ENTRIES_MAX || bytes > self.set.room(count + 1) {
                break;
            }
            count += 1;
        }
        count
    }

    fn form_run(&mut self, count: usize) {
        let taken: Vec<Waiting> = self.writer.waiting.drain(..count).collect();
        let mut entries: Vec<Entry> = taken.iter().map(|waiting| waiting.entry).collect();
        let bodies: Vec<Bytes> = taken.iter().map(|waiting| waiting.body.clone()).collect();
        let writer = &mut self.writer;
        let Some((number, segment)) = self.set.active_mut() else { return };
        let mut header = RunHeader {
            generation: segment.generation,
            run: writer.run_next,
            durable: writer.durable_run,
            session_first: writer.session_first,
            session: writer.session,
            offset: segment.tail,
            bytes: 0,
            count: 0,
        };
        let salt = self.set.salt;
        let data = encode(salt, &mut header, &mut entries, &bodies);
        self.settle_places(number, &header, &entries);
        self.take_off(header, &taken);
        let file = FileId::Segment(number);
        self.push_op(Purpose::Run(header.run), DiskOpKind::Write { file, offset: u64::from(header.offset), data });
    }

    /// The records of a run have their places: index and accounts follow.
    fn settle_places(&mut self, number: u32, header: &RunHeader, entries: &[Entry]) {
        let Some((_, segment)) = self.set.active_mut() else { return };
        segment.tail = header.offset + header.bytes;
        if segment.runs.0 == 0 {
            segment.runs.0 = header.run;
        }
        segment.runs.1 = header.run;
        for entry in entries {
            segment.used += entry.cost();
            segment.live += self.index.place(entry, number).unwrap_or(0);
            if let Some(builder) = &mut segment.builder {
                builder.add(entry);
            }
        }
    }

    fn take_off(&mut self, header: RunHeader, taken: &[Waiting]) {
        let bytes: usize = taken.iter().map(|waiting| waiting.entry.cost() as usize).sum();
        self.stats.runs += 1;
        self.stats.bytes_device += u64::from(header.bytes);
        let writer = &mut self.writer;
        writer.waiting_bytes -= bytes + taken.len() * FOOTER_COST;
        writer.run_next += 1;
        writer.run_noted = header.durable;
        if !taken.is_empty() {
            writer.run_filled = header.run;
        }
        let (seq, upto) = match (taken.last(), writer.flights.back()) {
            (Some(last), _) => (last.seq, last.upto),
            (None, Some(before)) => (before.seq, before.upto),
            (None, None) => (writer.durable_seq, writer.durable_lsn),
        };
        let lsns = taken.iter().map(|waiting| waiting.entry.lsn).collect();
        writer.flights.push_back(Flight { run: header.run, done: false, seq, upto, bytes, lsns });
    }

    pub(crate) fn on_run(&mut self, run: u64, result: Result<DiskData, DiskError>) {
        if let Err(error) = result {
            return self.break_down("a write to the log failed", error);
        }
        let before = self.writer.durable_lsn;
        if let Some(flight) = self.writer.flights.iter_mut().find(|flight| flight.run == run) {
            flight.done = true;
        }
        while self.writer.flights.front().is_some_and(|flight| flight.done) {
            let writer = &mut self.writer;
            let Some(flight) = writer.flights.pop_front() else { break };
            assert_eq!(flight.run, writer.durable_run + 1);
            writer.durable_run = flight.run;
            writer.durable_seq = flight.seq;
            writer.durable_lsn = writer.durable_lsn.max(flight.upto);
            writer.unstored -= flight.bytes;
            flight.lsns.into_iter().for_each(|lsn| self.tail.settle(lsn));
        }
        assert!(self.writer.durable_lsn.0 < self.writer.lsn_next);
        self.unsettled = true;
        if self.writer.durable_lsn > before {
            if let Some(LogEvent::Durable(lsn)) = self.events.back_mut() {
                *lsn = self.writer.durable_lsn;
            } else {
                self.events.push_back(LogEvent::Durable(self.writer.durable_lsn));
            }
        }
    }
}

/// A record without a body.
fn note(kind: RecordKind, group: GroupId, index: Index) -> Record {
    Record { group, kind, epoch: 0, term: 0, index, body: Bytes::new() }
}
