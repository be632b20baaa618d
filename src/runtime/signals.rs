//! Signals as values: one thread waits for them, so that no handler ever interrupts a core.

use nix::sys::signal::{SigSet, Signal};

/// What an operator can say by signal; the peer's meanings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// INT, TERM: stop cleanly.
    Stop,
    /// HUP: read the configuration again.
    Reload,
    /// USR1: open the log file again.
    ReopenLog,
    /// USR2: lame duck.
    LameDuck,
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
        Signal::SIGINT | Signal::SIGTERM => Some(Wish::Stop),
        Signal::SIGHUP => Some(Wish::Reload),
        Signal::SIGUSR1 => Some(Wish::ReopenLog),
        Signal::SIGUSR2 => Some(Wish::LameDuck),
        _ => None,
    }
}
