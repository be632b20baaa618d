//! Torn or damaged? What a bad place at the end of the log means.
//!
//! A checksum that does not fit has two causes. **Torn**: the write was on its way when the power went; nothing of it
//! was ever reported durable, so it is cut. **Damaged**: it was durable, perhaps acknowledged, perhaps voted on;
//! dropping it would take back a promise (Alagappan et al., "Protocol-Aware Recovery", FAST '18). The rule:
//!
//! * Every run says which run was durable, with all before it, when it was formed. The highest such number in any run,
//!   footer or later session is `D`. A bad or missing run with a number up to `D` is damage: it is reported, the
//!   records around it stay.
//! * The first bad or missing run above `D` ends the log. Runs behind it may have landed whole (several are on their
//!   way at once) but were never reported durable, because that is only ever said of everything up to a run.
//! * A session is one opening of the log. Its runs say with which number it began: runs of earlier sessions from that
//!   number on were cut then and stay cut, though their bytes may still parse.
//!
//! The one case that cannot be told apart from inside one log is the last runs before a stop being damaged afterwards
//! with nothing written behind them; it counts as torn. `Log::mark` closes it where the log has time to.

use crate::footer::Gap;
use crate::run::Entry;
use crate::scan::{ScanItem, ScannedRun};

/// A segment that was in use, as far as it can tell which runs it holds.
#[derive(Debug)]
pub(crate) struct Piece {
    pub segment: u32,
    pub generation: u64,
    pub content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    /// It has a footer, which names its runs.
    Sealed { run_last: u64 },
    /// It was read from front to back. `run_last` is known where only the body of a footer is lost.
    Scanned { items: Vec<ScanItem>, run_last: Option<u64> },
}

/// A place with runs that were durable and cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Lost {
    pub segment: u32,
    pub gap: Gap,
    /// The entries of the run, when only its header is gone.
    pub salvaged: Vec<(Entry, bool)>,
}

/// One thing that stays in the log, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Kept {
    Run(u32, ScannedRun),
    Lost(Lost),
}

#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub kept: Vec<Kept>,
    /// Number of the last run that stays.
    pub run_last: u64,
    pub session_max: u32,
    /// Runs that can be read, wholly or in part, and are cut.
    pub torn: u64,
}

/// Judges the segments of a log, given in order of generation. Generations of used segments are consecutive, so a
/// missing one is a segment that was given back, and only between neighbours do run numbers have no lawful holes.
pub(crate) fn judge(pieces: Vec<Piece>) -> Verdict {
    let (proven, sessions) = evidence(&pieces);
    let session_max = sessions.last().map_or(0, |last| last.0);
    let mut walk = Walk {
        proven,
        previous: None,
        generation: 0,
        gaps: Vec::new(),
        ended: false,
        verdict: Verdict { session_max, ..Verdict::default() },
    };
    for Piece { segment, generation, content } in pieces {
        walk.enter(generation);
        match content {
            Content::Sealed { run_last } => walk.reach(run_last),
            Content::Scanned { items, run_last } => {
                items.into_iter().for_each(|item| walk.item(segment, item, &sessions));
                run_last.into_iter().for_each(|last| walk.end(last));
            }
        }
    }
    walk.verdict
}

/// The newest run that is proven durable, and the sessions with their first runs.
fn evidence(pieces: &[Piece]) -> (u64, Vec<(u32, u64)>) {
    let mut proven = 0;
    let mut sessions = Vec::new();
    for piece in pieces {
        match &piece.content {
            Content::Sealed { run_last } => proven = proven.max(*run_last),
            Content::Scanned { items, run_last } => {
                proven = proven.max(run_last.unwrap_or(0));
                for item in items {
                    let ScanItem::Run(ScannedRun { header, .. }) = item else { continue };
                    proven = proven.max(header.durable).max(header.session_first.saturating_sub(1));
                    sessions.push((header.session, header.session_first));
                }
            }
        }
    }
    sessions.sort_unstable();
    sessions.dedup();
    (proven, sessions)
}

struct Walk {
    proven: u64,
    /// The run before, where that is known.
    previous: Option<u64>,
    generation: u64,
    /// Unreadable places since the last run.
    gaps: Vec<Lost>,
    /// The log ended: whatever follows is cut.
    ended: bool,
    verdict: Verdict,
}

impl Walk {
    fn enter(&mut self, generation: u64) {
        if generation != self.generation + 1 {
            self.previous = None;
            self.gaps.clear();
        }
        self.generation = generation;
    }

    fn reach(&mut self, run: u64) {
        self.previous = Some(run);
        self.verdict.run_last = self.verdict.run_last.max(run);
        self.gaps.clear();
    }

    /// The segment's last run is known: what is missing up to it is lost.
    fn end(&mut self, run_last: u64) {
        if self.previous.is_none_or(|previous| previous < run_last) {
            let lost = self.gaps.drain(..).map(|lost| Lost { salvaged: Vec::new(), ..lost });
            self.verdict.kept.extend(lost.map(Kept::Lost));
        }
        self.reach(run_last);
    }

    fn item(&mut self, segment: u32, item: ScanItem, sessions: &[(u32, u64)]) {
        match item {
            ScanItem::Gap { gap, salvaged } => self.gaps.push(Lost { segment, gap, salvaged }),
            ScanItem::Run(run) => {
                let mut later = sessions.iter().filter(|(session, _)| *session > run.header.session);
                let stale = later.any(|(_, first)| run.header.run >= *first)
                    || self.previous.is_some_and(|previous| run.header.run <= previous);
                if !stale {
                    self.run(segment, run);
                }
            }
        }
    }

    fn run(&mut self, segment: u32, run: ScannedRun) {
        let number = run.header.run;
        let hole = match self.previous {
            Some(previous) => (previous + 1 < number).then_some(previous + 1),
            None => (!self.gaps.is_empty()).then_some(number - 1),
        };
        if let Some(first) = hole
            && !self.ended
        {
            self.hole(segment, &run, first);
        }
        if self.ended || (number > self.proven && !run.whole()) {
            self.ended = true;
            self.verdict.torn += 1;
            return;
        }
        self.reach(number);
        self.verdict.kept.push(Kept::Run(segment, run));
    }

    /// Runs from `first` up to the one before `next` cannot be read.
    fn hole(&mut self, segment: u32, next: &ScannedRun, first: u64) {
        let last = next.header.run - 1;
        self.ended = last > self.proven;
        if first > self.proven {
            return;
        }
        if self.gaps.is_empty() {
            let gap = Gap { offset: next.header.offset, bytes: 0 };
            self.gaps.push(Lost { segment, gap, salvaged: Vec::new() });
        }
        let only = first == last && self.gaps.len() == 1;
        for mut lost in self.gaps.drain(..) {
            if !only {
                lost.salvaged.clear();
            }
            self.verdict.kept.push(Kept::Lost(lost));
        }
        self.verdict.run_last = self.verdict.run_last.max(last.min(self.proven));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{GroupId, Lsn, RecordKind};
    use crate::run::RunHeader;

    const BLOCKS: u32 = 4096;

    fn run(number: u64, durable: u64) -> ScannedRun {
        session(number, durable, 1, 1)
    }

    fn session(run: u64, durable: u64, session: u32, session_first: u64) -> ScannedRun {
        let offset = run as u32 * BLOCKS;
        let header = RunHeader { generation: 1, run, durable, session_first, session, offset, bytes: BLOCKS, count: 0 };
        ScannedRun { header, entries: Vec::new(), lost: 0 }
    }

    fn bad(mut run: ScannedRun) -> ScannedRun {
        run.lost = 1;
        run
    }

    fn gap(block: u32) -> ScanItem {
        ScanItem::Gap { gap: Gap { offset: block * BLOCKS, bytes: BLOCKS }, salvaged: Vec::new() }
    }

    /// Judges one segment and says what stays as text: run numbers, and "?" for a lost place.
    fn story(items: Vec<ScanItem>) -> String {
        story_of(vec![Piece { segment: 1, generation: 5, content: Content::Scanned { items, run_last: None } }])
    }

    fn story_of(pieces: Vec<Piece>) -> String {
        let verdict = judge(pieces);
        let words = verdict.kept.iter().map(|kept| match kept {
            Kept::Run(_, run) if run.whole() => run.header.run.to_string(),
            Kept::Run(_, run) => format!("{}!", run.header.run),
            Kept::Lost(_) => "?".to_string(),
        });
        format!("{} | last {} torn {}", words.collect::<Vec<_>>().join(" "), verdict.run_last, verdict.torn)
    }

    use ScanItem::Run;

    #[test]
    fn a_bad_last_run_is_torn() {
        assert_eq!(story(vec![Run(run(1, 0)), Run(run(2, 1)), Run(bad(run(3, 2))), gap(9)]), "1 2 | last 2 torn 1");
        assert_eq!(story(vec![Run(run(1, 0)), gap(2)]), "1 | last 1 torn 0");
        assert_eq!(story(vec![gap(2)]), " | last 0 torn 0");
    }

    #[test]
    fn a_later_run_without_the_earlier_is_cut_with_it() {
        assert_eq!(story(vec![Run(run(1, 0)), gap(2), Run(run(3, 1)), gap(4)]), "1 | last 1 torn 1");
        assert_eq!(story(vec![Run(run(1, 0)), Run(bad(run(2, 0))), Run(run(3, 1))]), "1 | last 1 torn 2");
    }

    #[test]
    fn what_a_later_run_saw_durable_is_damage_and_the_log_goes_on() {
        let items = vec![Run(run(1, 0)), gap(2), Run(run(3, 1)), Run(run(4, 2))];
        assert_eq!(story(items), "1 ? 3 4 | last 4 torn 0");
        let items = vec![Run(run(1, 0)), Run(bad(run(2, 1))), Run(run(3, 2))];
        assert_eq!(story(items), "1 2! 3 | last 3 torn 0");
        let items = vec![gap(1), Run(run(2, 0)), Run(run(3, 2))];
        assert_eq!(story(items), "? 2 3 | last 3 torn 0", "the first run of a segment");
        let items = vec![Run(run(1, 0)), gap(2), Run(run(3, 1)), Run(bad(run(4, 2)))];
        assert_eq!(story(items), "1 ? 3 | last 3 torn 1", "damage inside and a torn end");
    }

    #[test]
    fn what_an_earlier_opening_cut_stays_cut() {
        let items = vec![Run(run(1, 0)), gap(2), Run(run(3, 1))];
        assert_eq!(story(items), "1 | last 1 torn 1");
        let items = vec![Run(run(1, 0)), Run(session(2, 1, 2, 2)), Run(run(3, 1)), gap(9)];
        assert_eq!(story(items), "1 2 | last 2 torn 0", "3 is of the first session");
        let items = vec![Run(run(1, 0)), gap(2), Run(run(3, 1)), Run(session(3, 2, 2, 2))];
        assert_eq!(story(items), "1 ? 3 | last 3 torn 0", "run 2 of the second session was durable");
    }

    #[test]
    fn holes_between_segments_count_only_between_neighbours() {
        let piece = |generation, items| Piece {
            segment: generation as u32,
            generation,
            content: Content::Scanned { items, run_last: None },
        };
        let sealed = |generation, run_last| Piece { segment: 1, generation, content: Content::Sealed { run_last } };
        let tail = |first: u64| vec![Run(run(first, first - 1)), Run(run(first + 1, first))];
        assert_eq!(story_of(vec![sealed(4, 7), piece(5, tail(8))]), "8 9 | last 9 torn 0");
        assert_eq!(story_of(vec![sealed(4, 7), piece(5, tail(9))]), "? 9 10 | last 10 torn 0");
        assert_eq!(story_of(vec![sealed(3, 7), piece(5, tail(30))]), "30 31 | last 31 torn 0");
        assert_eq!(story_of(vec![piece(4, tail(1)), piece(5, tail(4))]), "1 2 ? 4 5 | last 5 torn 0");
        assert_eq!(story_of(vec![piece(4, vec![gap(2)]), piece(5, tail(4))]), "? 4 5 | last 5 torn 0");
    }

    #[test]
    fn a_known_last_run_makes_a_missing_end_damage() {
        let content = |items| Content::Scanned { items, run_last: Some(3) };
        let piece = |items| vec![Piece { segment: 1, generation: 1, content: content(items) }];
        assert_eq!(story_of(piece(vec![Run(run(1, 0)), Run(run(2, 1)), gap(3)])), "1 2 ? | last 3 torn 0");
        assert_eq!(
            story_of(piece(vec![Run(run(1, 0)), Run(run(2, 1)), Run(run(3, 2)), gap(4)])),
            "1 2 3 | last 3 torn 0"
        );
    }

    #[test]
    fn entries_of_a_run_whose_header_is_gone_are_kept_when_it_is_the_only_one() {
        let entry = Entry {
            group: GroupId(1),
            index: 1,
            term: 1,
            lsn: Lsn(1),
            epoch: 0,
            kind: RecordKind::ENTRY,
            copy: false,
            offset: 9000,
            bytes: 1,
            crc: 0,
        };
        let gap = ScanItem::Gap { gap: Gap { offset: 8192, bytes: BLOCKS }, salvaged: vec![(entry, true)] };
        let piece =
            |items| vec![Piece { segment: 1, generation: 1, content: Content::Scanned { items, run_last: None } }];
        let saved = |items| match &judge(piece(items)).kept[1] {
            Kept::Lost(lost) => lost.salvaged.len(),
            Kept::Run(..) => panic!("a gap was expected"),
        };
        assert_eq!(saved(vec![Run(run(1, 0)), gap.clone(), Run(run(3, 2))]), 1);
        assert_eq!(saved(vec![Run(run(1, 0)), gap, Run(run(4, 3))]), 0, "two runs are gone");
    }
}
