//! Every flag the server knows, with the peer's long and short forms, and how the values of flags are read.

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On by being there; `=false` switches it off.
    Switch(Flag),
    Value(Flag),
    /// A flag of the peer whose capability does not exist here. It is read over and then refused by name, so that
    /// `--help` beside it still helps.
    Unsupported {
        long: &'static str,
        switch: bool,
    },
}

/// The flags by meaning; several spellings share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    Version,
    Help,
    Test,
    Debug,
    Trace,
    TraceVerbose,
    DebugTrace,
    DebugTraceVerbose,
    LogTime,
    LogTimeUtc,
    JetStream,
    NoAdvertise,
    Config,
    Host,
    Port,
    ServerName,
    ClientAdvertise,
    HttpPort,
    PidFile,
    PortsFileDir,
    LogFile,
    LogSizeLimit,
    TraceBytesMax,
    StoreDir,
    User,
    Password,
    Token,
    ClusterListen,
    ClusterName,
    ClusterAdvertise,
    ConnectRetries,
    Routes,
    Cores,
    Signal,
}

/// The flag of that spelling, without its dashes.
pub fn kind(spelling: &str) -> Option<Kind> {
    Some(match spelling {
        "v" | "version" => Kind::Switch(Flag::Version),
        "h" | "help" => Kind::Switch(Flag::Help),
        "t" => Kind::Switch(Flag::Test),
        "D" | "debug" => Kind::Switch(Flag::Debug),
        "V" | "trace" => Kind::Switch(Flag::Trace),
        "VV" => Kind::Switch(Flag::TraceVerbose),
        "DV" => Kind::Switch(Flag::DebugTrace),
        "DVV" => Kind::Switch(Flag::DebugTraceVerbose),
        "T" | "logtime" => Kind::Switch(Flag::LogTime),
        "logtime_utc" => Kind::Switch(Flag::LogTimeUtc),
        "js" | "jetstream" => Kind::Switch(Flag::JetStream),
        "no_advertise" => Kind::Switch(Flag::NoAdvertise),
        "c" | "config" => Kind::Value(Flag::Config),
        "a" | "addr" | "net" => Kind::Value(Flag::Host),
        "p" | "port" => Kind::Value(Flag::Port),
        "n" | "name" | "server_name" => Kind::Value(Flag::ServerName),
        "client_advertise" => Kind::Value(Flag::ClientAdvertise),
        "m" | "http_port" => Kind::Value(Flag::HttpPort),
        "P" | "pid" => Kind::Value(Flag::PidFile),
        "ports_file_dir" => Kind::Value(Flag::PortsFileDir),
        "l" | "log" => Kind::Value(Flag::LogFile),
        "log_size_limit" => Kind::Value(Flag::LogSizeLimit),
        "max_traced_msg_len" => Kind::Value(Flag::TraceBytesMax),
        "sd" | "store_dir" => Kind::Value(Flag::StoreDir),
        "user" => Kind::Value(Flag::User),
        "pass" => Kind::Value(Flag::Password),
        "auth" => Kind::Value(Flag::Token),
        "cluster" | "cluster_listen" => Kind::Value(Flag::ClusterListen),
        "cluster_name" => Kind::Value(Flag::ClusterName),
        "cluster_advertise" => Kind::Value(Flag::ClusterAdvertise),
        "connect_retries" => Kind::Value(Flag::ConnectRetries),
        "routes" => Kind::Value(Flag::Routes),
        "cores" => Kind::Value(Flag::Cores),
        "sl" | "signal" => Kind::Value(Flag::Signal),
        "s" | "syslog" => Kind::Unsupported { long: "syslog", switch: true },
        "r" | "remote_syslog" => Kind::Unsupported { long: "remote_syslog", switch: false },
        "ms" | "https_port" => Kind::Unsupported { long: "https_port", switch: false },
        "profile" => Kind::Unsupported { long: "profile", switch: false },
        "tls" => Kind::Unsupported { long: "tls", switch: true },
        "tlsverify" => Kind::Unsupported { long: "tlsverify", switch: true },
        "tlscert" => Kind::Unsupported { long: "tlscert", switch: false },
        "tlskey" => Kind::Unsupported { long: "tlskey", switch: false },
        "tlscacert" => Kind::Unsupported { long: "tlscacert", switch: false },
        "help_tls" => Kind::Unsupported { long: "help_tls", switch: true },
        _ => return None,
    })
}

/// The words Go's `strconv.ParseBool` takes.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A whole number of 64 bits, decimal or `0x`.
fn integer(text: &str) -> Result<i64, &'static str> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (digits, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err("parse error");
    }
    i64::from_str_radix(digits, radix).map(|n| sign * n).map_err(|_| "value out of range")
}

/// A number that is not negative and fits the field.
pub fn number<T: TryFrom<i64>>(text: &str) -> Result<T, &'static str> {
    let n = integer(text)?;
    if n < 0 {
        return Err("must not be negative");
    }
    T::try_from(n).map_err(|_| "value out of range")
}

/// A port: -1 asks for any (0 here), 0 for `default`, as with the peer.
pub fn port(text: &str, default: u16) -> Result<u16, &'static str> {
    match integer(text)? {
        -1 => Ok(0),
        0 => Ok(default),
        n => u16::try_from(n).map_err(|_| "a port is -1 or 1 to 65535"),
    }
}

/// A port where 0 means none.
pub fn optional_port(text: &str) -> Result<Option<u16>, &'static str> {
    if integer(text)? == 0 { Ok(None) } else { port(text, 0).map(Some) }
}

/// How many cores: at least one, and not more than `config::limits` allow.
pub fn cores(text: &str) -> Result<u16, &'static str> {
    match number::<u16>(text)? {
        n @ 1..=crate::config::options::CORES_MAX => Ok(n),
        _ => Err("must be 1 to 256"),
    }
}
