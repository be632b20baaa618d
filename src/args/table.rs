//! Every flag the server knows, with the peer's long and short forms, and how the values of flags are read.

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On by being there; `=false` switches it off.
    Switch(Name),
    Value(Name),
    /// A flag of the peer whose capability does not exist here. It is read over and then refused by name, so that
    /// `--help` beside it still helps.
    Unsupported {
        long: &'static str,
        switch: bool,
    },
}

/// The flags by meaning; several spellings share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
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
        "v" | "version" => Kind::Switch(Name::Version),
        "h" | "help" => Kind::Switch(Name::Help),
        "t" => Kind::Switch(Name::Test),
        "D" | "debug" => Kind::Switch(Name::Debug),
        "V" | "trace" => Kind::Switch(Name::Trace),
        "VV" => Kind::Switch(Name::TraceVerbose),
        "DV" => Kind::Switch(Name::DebugTrace),
        "DVV" => Kind::Switch(Name::DebugTraceVerbose),
        "T" | "logtime" => Kind::Switch(Name::LogTime),
        "logtime_utc" => Kind::Switch(Name::LogTimeUtc),
        "js" | "jetstream" => Kind::Switch(Name::JetStream),
        "no_advertise" => Kind::Switch(Name::NoAdvertise),
        "c" | "config" => Kind::Value(Name::Config),
        "a" | "addr" | "net" => Kind::Value(Name::Host),
        "p" | "port" => Kind::Value(Name::Port),
        "n" | "name" | "server_name" => Kind::Value(Name::ServerName),
        "client_advertise" => Kind::Value(Name::ClientAdvertise),
        "m" | "http_port" => Kind::Value(Name::HttpPort),
        "P" | "pid" => Kind::Value(Name::PidFile),
        "ports_file_dir" => Kind::Value(Name::PortsFileDir),
        "l" | "log" => Kind::Value(Name::LogFile),
        "log_size_limit" => Kind::Value(Name::LogSizeLimit),
        "max_traced_msg_len" => Kind::Value(Name::TraceBytesMax),
        "sd" | "store_dir" => Kind::Value(Name::StoreDir),
        "user" => Kind::Value(Name::User),
        "pass" => Kind::Value(Name::Password),
        "auth" => Kind::Value(Name::Token),
        "cluster" | "cluster_listen" => Kind::Value(Name::ClusterListen),
        "cluster_name" => Kind::Value(Name::ClusterName),
        "cluster_advertise" => Kind::Value(Name::ClusterAdvertise),
        "connect_retries" => Kind::Value(Name::ConnectRetries),
        "routes" => Kind::Value(Name::Routes),
        "cores" => Kind::Value(Name::Cores),
        "sl" | "signal" => Kind::Value(Name::Signal),
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
