use super::*;

/// A folder of its own per test, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("trestle-logging-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn options(folder: &Folder) -> LogOptions {
    LogOptions { file: Some(folder.0.join("t.log")), time: false, ..LogOptions::default() }
}

fn moment() -> Zoned {
    "2026-11-21T09:37:00.123456789Z".parse::<jiff::Timestamp>().unwrap().to_zoned(TimeZone::UTC)
}

#[test]
fn a_line_has_the_form_of_the_peer() {
    let line = render(4711, Some(&moment()), Level::Info, "Server is ready");
    assert_eq!(line, "[4711] 2026/11/21 09:37:00.123456 [INF] Server is ready\n");
    assert_eq!(render(1, None, Level::Fatal, "x"), "[1] [FTL] x\n");
    let labels = [Level::Error, Level::Warn, Level::Debug, Level::Trace].map(Level::label);
    assert_eq!(labels, ["[ERR]", "[WRN]", "[DBG]", "[TRC]"]);
}

#[test]
fn text_from_outside_cannot_forge_a_line() {
    let line = render(1, None, Level::Info, "a\r\n[1] [FTL] b\u{1b}[31m\tc");
    assert_eq!(line, "[1] [INF] a\\r\\n[1] [FTL] b\\u{1b}[31m\tc\n");
}

#[test]
fn a_long_text_is_cut_between_characters() {
    let line = render(1, None, Level::Info, &"ä".repeat(TEXT_BYTES_MAX));
    assert!(line.ends_with("ä...\n"));
    assert!(line.len() < TEXT_BYTES_MAX + 32);
}

#[test]
fn debug_and_trace_lines_are_written_only_when_wanted() {
    let folder = Folder::new("levels");
    let quiet = options(&folder);
    let logger = Logger::open(&quiet, 1).unwrap();
    logger.debug("no");
    logger.trace("no");
    logger.info("yes");
    logger.configure(&LogOptions { debug: true, trace: true, ..quiet }).unwrap();
    logger.debug("yes");
    logger.trace("yes");
    assert_eq!(folder.read("t.log"), "[1] [INF] yes\n[1] [DBG] yes\n[1] [TRC] yes\n");
}

#[test]
fn reopening_follows_the_name() {
    let folder = Folder::new("reopen");
    let logger = Logger::open(&options(&folder), 1).unwrap();
    logger.info("one");
    std::fs::rename(folder.0.join("t.log"), folder.0.join("old")).unwrap();
    logger.info("two");
    logger.reopen();
    logger.info("three");
    assert_eq!(folder.read("old"), "[1] [INF] one\n[1] [INF] two\n");
    assert_eq!(folder.read("t.log"), "[1] [INF] File log re-opened\n[1] [INF] three\n");
}

#[test]
fn a_file_beyond_its_limit_is_moved_aside_and_old_ones_are_purged() {
    let folder = Folder::new("rotate");
    let logger = Logger::open(&LogOptions { size_limit_bytes: 200, files_max: 3, ..options(&folder) }, 1).unwrap();
    for i in 0..200 {
        logger.info(format!("line {i} of many that are written"));
    }
    let files = folder.files();
    assert_eq!(files.len(), 3, "{files:?}");
    assert!(files.contains(&"t.log".to_string()));
    assert!(folder.read("t.log").contains("Rotated log, backup saved as "));
}

#[test]
fn a_limit_that_is_removed_stops_the_rotation() {
    let folder = Folder::new("unlimited");
    let logger = Logger::open(&options(&folder), 1).unwrap();
    (0..100).for_each(|_| logger.info("a line"));
    assert_eq!(folder.files(), ["t.log"]);
}

#[test]
fn a_disk_that_takes_nothing_costs_lines_and_says_so_later() {
    // /dev/full answers every write with "no space left".
    let folder = Folder::new("full");
    let full = LogOptions { file: Some(PathBuf::from("/dev/full")), time: false, ..LogOptions::default() };
    let logger = Logger::open(&full, 1).unwrap();
    logger.info("one");
    logger.info("two");
    logger.configure(&options(&folder)).unwrap();
    logger.info("three");
    assert_eq!(folder.read("t.log"), "[1] [ERR] 2 log lines could not be written\n[1] [INF] three\n");
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_at_the_start_and_changes_nothing_later() {
    let folder = Folder::new("denied");
    let nowhere = LogOptions { file: Some(folder.0.join("no/such/folder/t.log")), ..LogOptions::default() };
    assert!(Logger::open(&nowhere, 1).is_err());
    let logger = Logger::open(&options(&folder), 1).unwrap();
    assert!(logger.configure(&nowhere).is_err());
    logger.info("still here");
    assert_eq!(folder.read("t.log"), "[1] [INF] still here\n");
}

#[test]
fn lines_of_many_threads_stay_whole() {
    let folder = Folder::new("threads");
    let logger = Logger::open(&options(&folder), 1).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let logger = logger.clone();
            scope.spawn(move || (0..250).for_each(|i| logger.info(format!("thread {thread} line {i}"))));
        }
    });
    let text = folder.read("t.log");
    assert_eq!(text.lines().count(), 1000);
    assert!(text.lines().all(|line| line.starts_with("[1] [INF] thread ")));
}
