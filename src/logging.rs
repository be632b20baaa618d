//! The log: one line per event, in the peer's form, to standard error or a file.
//!
//! ```text
//!   [4711] 2026/11/21 09:37:00.123456 [INF] Server is ready
//! ```
//!
//! It promises that logging never stops the server: a line that cannot be written is counted and dropped, and the
//! first line that can be written again is preceded by one that says how many are missing. A line is one write, and
//! text from outside cannot forge a second line. It decides nothing: shards hand over text as values and this renders
//! it. The wall clock is read here and nowhere else for the log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Zoned;
use jiff::tz::TimeZone;

use crate::config::options::LogOptions;

/// Longer texts are cut: a line must not fill the disk with one client's message.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Log files may hold names and addresses of users.
const FILE_MODE: u32 = 0o640;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Fatal,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    fn label(self) -> &'static str {
        match self {
            Level::Fatal => "[FTL]",
            Level::Error => "[ERR]",
            Level::Warn => "[WRN]",
            Level::Info => "[INF]",
            Level::Debug => "[DBG]",
            Level::Trace => "[TRC]",
        }
    }
}

/// A handle on the log; clones write to the same place from any thread.
#[derive(Clone)]
pub struct Logger {
    shared: Arc<Shared>,
}

struct Shared {
    /// Bit 0: debug lines are wanted; bit 1: trace lines are.
    wanted: AtomicU8,
    sink: Mutex<Sink>,
}

impl Logger {
    /// Opens the log that the options name.
    ///
    /// Errors: the file cannot be opened. (Later failures are not errors, see above.)
    pub fn open(options: &LogOptions, pid: u32) -> io::Result<Logger> {
        let sink = Sink::open(options, pid)?;
        Ok(Logger { shared: Arc::new(Shared { wanted: AtomicU8::new(wanted(options)), sink: Mutex::new(sink) }) })
    }

    /// Whether a line of that level would be written: ask before building an expensive text.
    pub fn enabled(&self, level: Level) -> bool {
        let wanted = self.shared.wanted.load(Ordering::Relaxed);
        match level {
            Level::Debug => wanted & 1 != 0,
            Level::Trace => wanted & 2 != 0,
            _ => true,
        }
    }

    /// Writes one line, if the level is wanted.
    pub fn log(&self, level: Level, text: impl AsRef<str>) {
        if self.enabled(level) {
            self.sink().line(level, text.as_ref());
        }
    }

    pub fn info(&self, text: impl AsRef<str>) {
        self.log(Level::Info, text);
    }

    pub fn warn(&self, text: impl AsRef<str>) {
        self.log(Level::Warn, text);
    }

    pub fn error(&self, text: impl AsRef<str>) {
        self.log(Level::Error, text);
    }

    pub fn fatal(&self, text: impl AsRef<str>) {
        self.log(Level::Fatal, text);
    }

    pub fn debug(&self, text: impl AsRef<str>) {
        self.log(Level::Debug, text);
    }

    pub fn trace(&self, text: impl AsRef<str>) {
        self.log(Level::Trace, text);
    }

    /// Opens the file anew under its name, after somebody has moved it away (SIGUSR1). If that fails the old file
    /// stays in use and the log says so.
    pub fn reopen(&self) {
        self.sink().reopen();
    }

    /// Takes changed options in service. If a new file cannot be opened everything stays as it was.
    pub fn configure(&self, options: &LogOptions) -> io::Result<()> {
        self.sink().configure(options)?;
        self.shared.wanted.store(wanted(options), Ordering::Relaxed);
        Ok(())
    }

    /// A thread that panicked while it held the lock has at worst lost its line.
    fn sink(&self) -> MutexGuard<'_, Sink> {
        self.shared.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wanted(options: &LogOptions) -> u8 {
    u8::from(options.debug) | (u8::from(options.trace) << 1)
}

/// Where the lines go.
struct Sink {
    options: LogOptions,
    pid: u32,
    zone: TimeZone,
    /// `None`: standard error.
    file: Option<LogFile>,
    /// Lines dropped since the last one that was written.
    dropped: u64,
}

struct LogFile {
    path: PathBuf,
    file: File,
    length: u64,
    /// Rotate beyond this; grows when rotating fails, so that it is not tried for every line. 0: never.
    limit: u64,
}

impl Sink {
    fn open(options: &LogOptions, pid: u32) -> io::Result<Sink> {
        let file = options.file.as_deref().map(|path| LogFile::open(path, options.size_limit_bytes)).transpose()?;
        Ok(Sink { zone: zone(options), options: options.clone(), pid, file, dropped: 0 })
    }

    fn line(&mut self, level: Level, text: &str) {
        let now = Zoned::now().with_time_zone(self.zone.clone());
        if self.dropped > 0 {
            let lost = format!("{} log lines could not be written", self.dropped);
            let line = render(self.pid, self.stamp(&now), Level::Error, &lost);
            if self.write(line.as_bytes()).is_ok() {
                self.dropped = 0;
            }
        }
        let line = render(self.pid, self.stamp(&now), level, text);
        match self.write(line.as_bytes()) {
            Ok(()) => self.rotate_if_due(&now),
            Err(error) => self.drop_line(&line, &error),
        }
    }

    fn stamp<'z>(&self, now: &'z Zoned) -> Option<&'z Zoned> {
        self.options.time.then_some(now)
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match &mut self.file {
            Some(file) => {
                file.file.write_all(line)?;
                file.length += line.len() as u64;
                Ok(())
            }
            None => io::stderr().write_all(line),
        }
    }

    /// The first line that a file does not take goes to standard error with the reason, if that still exists.
    fn drop_line(&mut self, line: &str, error: &io::Error) {
        if self.dropped == 0
            && let Some(file) = &self.file
        {
            let _ = write!(io::stderr(), "cannot write to the log file {}: {error}\n{line}", file.path.display());
        }
        self.dropped += 1;
    }

    fn reopen(&mut self) {
        let Some(file) = &self.file else {
            return self.line(Level::Info, "File log re-open ignored, not a file logger");
        };
        match LogFile::open(&file.path, self.options.size_limit_bytes) {
            Ok(fresh) => {
                self.file = Some(fresh);
                self.line(Level::Info, "File log re-opened");
            }
            Err(error) => self.line(Level::Error, &format!("Unable to re-open the log file: {error}")),
        }
    }

    fn configure(&mut self, options: &LogOptions) -> io::Result<()> {
        let same_file = options.file == self.options.file;
        if !same_file {
            self.file =
                options.file.as_deref().map(|path| LogFile::open(path, options.size_limit_bytes)).transpose()?;
        } else if let Some(file) = &mut self.file {
            file.limit = options.size_limit_bytes;
        }
        self.zone = zone(options);
        self.options = options.clone();
        Ok(())
    }

    fn rotate_if_due(&mut self, now: &Zoned) {
        let Some(file) = &self.file else { return };
        if file.limit == 0 || file.length <= file.limit {
            return;
        }
        let path = file.path.clone();
        let backup = backup_path(&path, now);
        let moved = std::fs::rename(&path, &backup).and_then(|()| LogFile::open(&path, self.options.size_limit_bytes));
        match moved {
            Ok(fresh) => {
                self.file = Some(fresh);
                let text = format!("Rotated log, backup saved as {:?}", backup.display().to_string());
                let line = render(self.pid, self.stamp(now), Level::Info, &text);
                let _ = self.write(line.as_bytes());
                self.purge(&path);
            }
            Err(error) => {
                let next = file.limit.saturating_mul(2);
                let text =
                    format!("Unable to rotate the log file ({error}), will attempt next rotation at size {next}");
                if let Some(file) = &mut self.file {
                    file.limit = next;
                }
                let line = render(self.pid, self.stamp(now), Level::Error, &text);
                let _ = self.write(line.as_bytes());
            }
        }
    }

    /// Removes the oldest backups beyond the number to keep, which counts the live file too.
    fn purge(&mut self, path: &Path) {
        if self.options.files_max == 0 {
            return;
        }
        let keep = self.options.files_max as usize - 1;
        let mut backups = backups(path).unwrap_or_default();
        backups.sort();
        let surplus = backups.len().saturating_sub(keep);
        for old in backups.into_iter().take(surplus) {
            let text = match std::fs::remove_file(&old) {
                Ok(()) => format!("Purged log file {:?}", old.display().to_string()),
                Err(error) => format!("Unable to remove backup log file {:?} ({error})", old.display().to_string()),
            };
            let now = Zoned::now().with_time_zone(self.zone.clone());
            let line = render(self.pid, self.stamp(&now), Level::Info, &text);
            let _ = self.write(line.as_bytes());
        }
    }
}

impl LogFile {
    fn open(path: &Path, limit: u64) -> io::Result<LogFile> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path).map_err(named)?;
        let length = file.metadata()?.len();
        Ok(LogFile { path: path.to_path_buf(), file, length, limit })
    }
}

fn zone(options: &LogOptions) -> TimeZone {
    if options.time_utc { TimeZone::UTC } else { TimeZone::system() }
}

/// One whole line. Control characters of the text are shown escaped, except a tab.
fn render(pid: u32, time: Option<&Zoned>, level: Level, text: &str) -> String {
    let mut line = format!("[{pid}] ");
    if let Some(time) = time {
        line.push_str(&time.strftime("%Y/%m/%d %H:%M:%S%.6f ").to_string());
    }
    line.push_str(level.label());
    line.push(' ');
    let end = text.len().min(TEXT_BYTES_MAX);
    let end = (0..=end).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    for c in text[..end].chars() {
        if c.is_control() && c != '\t' {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    if end < text.len() {
        line.push_str("...");
    }
    line.push('\n');
    line
}

/// `trestle.log.2026.11.21.09.37.00.123456789`: sorts by age.
fn backup_path(path: &Path, now: &Zoned) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(now.strftime(".%Y.%m.%d.%H.%M.%S.%9f").to_string());
    PathBuf::from(name)
}

fn backups(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let file_name = entry?.file_name();
        let stamp = file_name.to_str().and_then(|file| file.strip_prefix(name)).and_then(|file| file.strip_prefix('.'));
        if stamp.is_some_and(|stamp| stamp.len() == 29 && stamp.chars().all(|c| c.is_ascii_digit() || c == '.')) {
            found.push(folder.join(file_name));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
