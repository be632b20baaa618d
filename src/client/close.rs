//! Why a connection was closed, in the words of the connections page.

/// One reason; see [`CloseReason::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CloseReason {
    ClientClosed,
    AuthenticationTimeout,
    AuthenticationViolation,
    SlowConsumerPending,
    SlowConsumerDeadline,
    WriteError,
    ReadError,
    Stale,
    Protocol,
    /// The client says that it did not understand us.
    ClientError,
    BadProtocolVersion,
    ConnectionsMax,
    AccountConnectionsMax,
    PayloadMax,
    ControlLineMax,
    NoRespondersWithoutHeaders,
    Shutdown,
    Kicked,
}

impl CloseReason {
    /// As the peer prints it.
    pub fn text(self) -> &'static str {
        match self {
            CloseReason::ClientClosed => "Client Closed",
            CloseReason::AuthenticationTimeout => "Authentication Timeout",
            CloseReason::AuthenticationViolation => "Authentication Failure",
            CloseReason::SlowConsumerPending => "Slow Consumer (Pending Bytes)",
            CloseReason::SlowConsumerDeadline => "Slow Consumer (Write Deadline)",
            CloseReason::WriteError => "Write Error",
            CloseReason::ReadError => "Read Error",
            CloseReason::Stale => "Stale Connection",
            CloseReason::Protocol => "Protocol Violation",
            CloseReason::ClientError => "Parse Error",
            CloseReason::BadProtocolVersion => "Bad Client Protocol Version",
            CloseReason::ConnectionsMax => "Maximum Connections Exceeded",
            CloseReason::AccountConnectionsMax => "Maximum Account Connections Exceeded",
            CloseReason::PayloadMax => "Maximum Message Payload Exceeded",
            CloseReason::ControlLineMax => "Maximum Control Line Exceeded",
            CloseReason::NoRespondersWithoutHeaders => "No Responders Requires Headers",
            CloseReason::Shutdown => "Server Shutdown",
            CloseReason::Kicked => "Kicked",
        }
    }

    /// Whether what is queued still leaves. A slow consumer would only hold it longer.
    pub fn flushes(self) -> bool {
        !matches!(
            self,
            CloseReason::SlowConsumerPending
                | CloseReason::SlowConsumerDeadline
                | CloseReason::WriteError
                | CloseReason::ReadError
                | CloseReason::ClientClosed
        )
    }

    /// What the shell says of a connection that broke.
    pub fn of_shell(why: &str) -> CloseReason {
        let why = why.to_ascii_lowercase();
        if why.contains("write") {
            CloseReason::WriteError
        } else if why.is_empty() || why.contains("eof") || why.contains("closed") {
            CloseReason::ClientClosed
        } else {
            CloseReason::ReadError
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shells_words_become_the_pages_words() {
        assert_eq!(CloseReason::of_shell("").text(), "Client Closed");
        assert_eq!(CloseReason::of_shell("EOF").text(), "Client Closed");
        assert_eq!(CloseReason::of_shell("write: broken pipe").text(), "Write Error");
        assert_eq!(CloseReason::of_shell("connection reset by peer").text(), "Read Error");
    }

    #[test]
    fn an_error_text_reaches_everyone_but_slow_and_gone_clients() {
        assert!(CloseReason::Stale.flushes());
        assert!(CloseReason::PayloadMax.flushes());
        assert!(!CloseReason::SlowConsumerPending.flushes());
    }
}
