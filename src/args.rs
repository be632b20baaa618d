//! The command line, read by the rules of Go's `flag` package so that scripts written for the peer work unchanged:
//! one dash or two, `-x v` or `-x=v`, a switch takes a value only after `=`, the last one wins, and reading stops at
//! the first word that is not a flag.
//!
//! It only reads words into values. Files are opened, signals sent and texts printed by whoever called.

mod table;
mod usage;

use std::path::PathBuf;

use crate::config::options::Secret;
use table::{Flag, Kind};

pub use usage::{VERSION_LINE, usage};

/// The exit code for a command line that makes no sense, Go's own. (The peer prints its usage and exits with 0 then,
/// which tells a service manager that all went well.)
pub const EXIT_USAGE: i32 = 2;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Run the server.
    Serve(Flags),
    /// `-t -c FILE`: check the configuration, say so, exit. `Flags::config` is always set.
    TestConfig(Flags),
    Version,
    Help,
    /// `--signal VERB[=TARGET]`.
    Signal(SignalRequest),
    /// `lab ...`: the words after it.
    Lab(Vec<String>),
    /// `check ...`: the words after it.
    Check(Vec<String>),
}

/// The flags of a server; `None` means that the flag was not given and the file (or the default) decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flags {
    pub config: Option<PathBuf>,
    pub host: Option<String>,
    /// 0: the kernel picks one (`-1` on the command line).
    pub port: Option<u16>,
    pub server_name: Option<String>,
    pub client_advertise: Option<String>,
    /// 0: the kernel picks one (`-1`).
    pub http_port: Option<u16>,
    pub pid_file: Option<PathBuf>,
    pub ports_file_dir: Option<PathBuf>,
    pub log_file: Option<PathBuf>,
    pub log_size_limit_bytes: Option<u64>,
    pub log_time: Option<bool>,
    pub log_time_utc: Option<bool>,
    pub debug: Option<bool>,
    pub trace: Option<bool>,
    pub trace_verbose: Option<bool>,
    /// Bytes of a message shown in a trace line; 0: all.
    pub trace_bytes_max: Option<u32>,
    pub jetstream: Option<bool>,
    pub store_dir: Option<PathBuf>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub token: Option<Secret>,
    /// `nats://[user:password@]host:port` as written; empty: no cluster, whatever the file says.
    pub cluster_listen: Option<String>,
    pub cluster_name: Option<String>,
    pub cluster_advertise: Option<String>,
    pub no_advertise: Option<bool>,
    pub connect_retries: Option<u32>,
    /// Comma-separated URLs as written.
    pub routes: Option<String>,
    pub cores: Option<u16>,
}

/// `--signal VERB[=TARGET]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalRequest {
    pub verb: SignalVerb,
    pub target: SignalTarget,
}

/// What the other process is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalVerb {
    /// SIGKILL.
    Stop,
    /// SIGINT.
    Quit,
    /// SIGTERM.
    Term,
    /// SIGUSR1.
    Reopen,
    /// SIGHUP.
    Reload,
    /// SIGUSR2.
    LameDuck,
}

/// Which process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalTarget {
    /// The only running server of this machine.
    TheOnlyOne,
    Pid(u32),
    /// A file that holds a pid.
    PidFile(PathBuf),
}

/// Why a command line was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageError {
    /// Printed with the usage; exit with `EXIT_USAGE`.
    Flag(String),
    /// Printed as `nats-server: TEXT`; exit with 1.
    Refused(String),
}

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            UsageError::Flag(text) => f.write_str(text),
            UsageError::Refused(text) => write!(f, "nats-server: {text}"),
        }
    }
}

/// Reads the words after the program's name.
///
/// Errors: an unknown flag or a value that does not fit, in the words of Go's `flag` package; a flag of a capability
/// that does not exist is refused by name.
pub fn parse(argv: impl IntoIterator<Item = String>) -> Result<Command, UsageError> {
    let words: Vec<String> = argv.into_iter().collect();
    match words.first().map(String::as_str) {
        Some("lab") => return Ok(Command::Lab(words.into_iter().skip(1).collect())),
        Some("check") => return Ok(Command::Check(words.into_iter().skip(1).collect())),
        _ => {}
    }
    let mut reader = Reader::default();
    let rest = reader.read(&words)?;
    reader.command(&rest)
}

/// What the flags have said so far.
#[derive(Default)]
struct Reader {
    flags: Flags,
    version: bool,
    help: bool,
    test: bool,
    signal: Option<String>,
    unsupported: Option<&'static str>,
}

impl Reader {
    /// Takes flags until the first word that is none, and returns the words from there on.
    fn read(&mut self, words: &[String]) -> Result<Vec<String>, UsageError> {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let bare = match word.strip_prefix('-') {
                None | Some("") => return Ok(std::iter::once(word).chain(words).cloned().collect()),
                Some("-") => return Ok(words.cloned().collect()),
                Some(bare) => bare.strip_prefix('-').unwrap_or(bare),
            };
            let (name, value) = match bare.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (bare, None),
            };
            if name.is_empty() || name.starts_with('-') {
                return Err(UsageError::Flag(format!("bad flag syntax: {word}")));
            }
            let Some(kind) = table::kind(name) else {
                return Err(UsageError::Flag(format!("flag provided but not defined: -{name}")));
            };
            match kind {
                Kind::Switch(flag) => {
                    let text = value.unwrap_or("true");
                    let on = table::boolean(text).ok_or_else(|| {
                        UsageError::Flag(format!("invalid boolean value {text:?} for -{name}: parse error"))
                    })?;
                    self.switch(flag, on);
                }
                Kind::Value(flag) => {
                    let value = match value {
                        Some(value) => value,
                        None => words
                            .next()
                            .ok_or_else(|| UsageError::Flag(format!("flag needs an argument: -{name}")))?
                            .as_str(),
                    };
                    self.value(flag, value)
                        .map_err(|why| UsageError::Flag(format!("invalid value {value:?} for flag -{name}: {why}")))?;
                }
                Kind::Unsupported { long, switch } => {
                    if !switch && value.is_none() {
                        words.next();
                    }
                    self.unsupported.get_or_insert(long);
                }
            }
        }
        Ok(Vec::new())
    }

    fn switch(&mut self, flag: Flag, on: bool) {
        let flags = &mut self.flags;
        match flag {
            Flag::Version => self.version = on,
            Flag::Help => self.help = on,
            Flag::Test => self.test = on,
            Flag::Debug => flags.debug = Some(on),
            Flag::Trace => flags.trace = Some(on),
            Flag::TraceVerbose => (flags.trace, flags.trace_verbose) = (Some(on), Some(on)),
            Flag::DebugTrace => (flags.debug, flags.trace) = (Some(on), Some(on)),
            Flag::DebugTraceVerbose => {
                (flags.debug, flags.trace, flags.trace_verbose) = (Some(on), Some(on), Some(on));
            }
            Flag::LogTime => flags.log_time = Some(on),
            Flag::LogTimeUtc => flags.log_time_utc = Some(on),
            Flag::JetStream => flags.jetstream = Some(on),
            Flag::NoAdvertise => flags.no_advertise = Some(on),
            _ => unreachable!("the table lists only switches as switches"),
        }
    }

    fn value(&mut self, flag: Flag, text: &str) -> Result<(), &'static str> {
        let flags = &mut self.flags;
        let path = || Some(PathBuf::from(text));
        let word = || Some(text.to_string());
        match flag {
            Flag::Config => flags.config = path(),
            Flag::Host => flags.host = word(),
            Flag::Port => flags.port = Some(table::port(text, 4222)?),
            Flag::ServerName => flags.server_name = word(),
            Flag::ClientAdvertise => flags.client_advertise = word(),
            Flag::HttpPort => flags.http_port = table::optional_port(text)?,
            Flag::PidFile => flags.pid_file = path(),
            Flag::PortsFileDir => flags.ports_file_dir = path(),
            Flag::LogFile => flags.log_file = path(),
            Flag::LogSizeLimit => flags.log_size_limit_bytes = Some(table::number(text)?),
            Flag::TraceBytesMax => flags.trace_bytes_max = Some(table::number(text)?),
            Flag::StoreDir => flags.store_dir = path(),
            Flag::User => flags.user = word(),
            Flag::Password => flags.password = Some(Secret::new(text.to_string())),
            Flag::Token => flags.token = Some(Secret::new(text.to_string())),
            Flag::ClusterListen => flags.cluster_listen = word(),
            Flag::ClusterName => flags.cluster_name = word(),
            Flag::ClusterAdvertise => flags.cluster_advertise = word(),
            Flag::ConnectRetries => flags.connect_retries = Some(table::number(text)?),
            Flag::Routes => flags.routes = word(),
            Flag::Cores => flags.cores = Some(table::cores(text)?),
            Flag::Signal => self.signal = word(),
            _ => unreachable!("the table lists only valued flags as such"),
        }
        Ok(())
    }

    /// The order of the questions is the peer's: version, help, the words after the flags, the signal, the check.
    fn command(self, rest: &[String]) -> Result<Command, UsageError> {
        if self.version {
            return Ok(Command::Version);
        }
        if self.help {
            return Ok(Command::Help);
        }
        match rest.first().map(|word| word.to_lowercase()).as_deref() {
            None => {}
            Some("version") => return Ok(Command::Version),
            Some("help") => return Ok(Command::Help),
            Some(_) => return Err(UsageError::Refused(format!("unrecognized command: {:?}", rest[0]))),
        }
        if let Some(long) = self.unsupported {
            return Err(UsageError::Refused(format!("not supported yet: --{long}")));
        }
        if let Some(signal) = &self.signal
            && !signal.is_empty()
        {
            return signal_request(signal).map(Command::Signal);
        }
        if !self.test {
            return Ok(Command::Serve(self.flags));
        }
        if self.flags.config.as_ref().is_none_or(|file| file.as_os_str().is_empty()) {
            let text = "must specify [-c, --config] option to check configuration file syntax";
            return Err(UsageError::Refused(text.to_string()));
        }
        Ok(Command::TestConfig(self.flags))
    }
}

fn signal_request(text: &str) -> Result<SignalRequest, UsageError> {
    let mut parts = text.split('=');
    let word = parts.next().unwrap_or_default();
    let target = parts.next().unwrap_or_default();
    let surplus: Vec<&str> = parts.collect();
    if !surplus.is_empty() {
        return Err(UsageError::Refused(format!("invalid signal parameters: {surplus:?}")));
    }
    let verb = match word {
        "stop" => SignalVerb::Stop,
        "quit" => SignalVerb::Quit,
        "term" => SignalVerb::Term,
        "reopen" => SignalVerb::Reopen,
        "reload" => SignalVerb::Reload,
        "ldm" => SignalVerb::LameDuck,
        _ => return Err(UsageError::Refused(format!("unknown signal {word:?}"))),
    };
    let target = match target.parse::<u32>() {
        _ if target.is_empty() => SignalTarget::TheOnlyOne,
        Ok(pid) if pid > 0 => SignalTarget::Pid(pid),
        _ => SignalTarget::PidFile(PathBuf::from(target)),
    };
    Ok(SignalRequest { verb, target })
}

#[cfg(test)]
mod tests;
