//! Signals as values: one thread waits for them, so that no handler ever interrupts a core.

use nix::sys::signal::{SigSet, Signal};

use crate::args::{SignalRequest, SignalTarget, SignalVerb};

/// What an operator can say by signal; the peer's meanings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// INT: stop cleanly.
    Interrupt,
    /// TERM: the same.
    Stop,
    /// HUP: read the configuration again.
    Reload,
    /// USR1: open the log file again.
    ReopenLog,
    /// USR2: lame duck.
    LameDuck,
}

impl Wish {
    /// As the peer's log names the signal.
    pub fn signal_text(self) -> &'static str {
        match self {
            Wish::Interrupt => "interrupt",
            Wish::Stop => "terminated",
            Wish::Reload => "hangup",
            Wish::ReopenLog => "user defined signal 1",
            Wish::LameDuck => "user defined signal 2",
        }
    }
}

fn set() -> SigSet {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2] {
        set.add(signal);
    }
    set
}

/// Blocks the signals for this thread and all that it starts. Must run before any other thread exists.
pub fn block() -> Result<(), String> {
    set().thread_block().map_err(|e| format!("cannot block signals: {e}"))
}

/// Waits for the next one.
pub fn wait() -> Option<Wish> {
    match set().wait().ok()? {
        Signal::SIGINT => Some(Wish::Interrupt),
        Signal::SIGTERM => Some(Wish::Stop),
        Signal::SIGHUP => Some(Wish::Reload),
        Signal::SIGUSR1 => Some(Wish::ReopenLog),
        Signal::SIGUSR2 => Some(Wish::LameDuck),
        _ => None,
    }
}

/// Sends another server what an operator said: the verb's signal to the process named.
///
/// # Errors
/// A sentence: no such process, not allowed, or more than one candidate.
pub fn send(request: &SignalRequest) -> Result<(), String> {
    let pid = match &request.target {
        SignalTarget::Pid(pid) => *pid,
        SignalTarget::PidFile(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
            text.trim().parse().map_err(|_| format!("{} holds no pid", path.display()))?
        }
        SignalTarget::TheOnlyOne => the_only_one()?,
    };
    let pid = i32::try_from(pid).map_err(|_| format!("{pid} is no pid"))?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal_of(request.verb))
        .map_err(|e| format!("cannot signal process {pid}: {e}"))
}

fn signal_of(verb: SignalVerb) -> Signal {
    match verb {
        SignalVerb::Stop => Signal::SIGKILL,
        SignalVerb::Quit => Signal::SIGINT,
        SignalVerb::Term => Signal::SIGTERM,
        SignalVerb::Reopen => Signal::SIGUSR1,
        SignalVerb::Reload => Signal::SIGHUP,
        SignalVerb::LameDuck => Signal::SIGUSR2,
    }
}

/// The one other process that runs this program.
fn the_only_one() -> Result<u32, String> {
    let mine = std::fs::read_link("/proc/self/exe").map_err(|e| format!("cannot tell which program this is: {e}"))?;
    let all = std::fs::read_dir("/proc").map_err(|e| format!("cannot list processes: {e}"))?;
    let others: Vec<u32> = all
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == mine))
        .collect();
    match others[..] {
        [pid] => Ok(pid),
        [] => Err("no nats-server running".into()),
        _ => Err(format!("multiple nats-server processes running: {others:?}; name one by its pid")),
    }
}
