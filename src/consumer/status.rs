//! The status messages of pull requests: header blocks that clients compare word by word.

use bytes::Bytes;

/// What is told to the inbox of a pull, apart from messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// 100: the pull is alive, and this is where delivery stands.
    Heartbeat {
        consumer_seq: u64,
        stream_seq: u64,
    },
    /// 400: the request cannot be read or asks for what this consumer does not do.
    BadRequest(String),
    /// 404: nothing to deliver now, and the request does not wait.
    NoMessages,
    /// 408: its time is over.
    Timeout(Left),
    /// 408: other requests already wait for all there is.
    RequestsPending,
    /// 409: the next message is larger than what the request can still take.
    TooLarge(Left),
    /// 409: as many messages as asked for, though not as many bytes.
    BatchCompleted(Left),
    /// 409: the consumer has all the requests waiting that it allows.
    TooManyWaiting,
    /// 409: the request asks for more than the consumer's configuration allows.
    Exceeded(String),
    LeadershipChange,
    ConsumerDeleted,
    ServerShutdown(Left),
}

/// What a request had not got when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    pub messages: i64,
    pub bytes: i64,
}

impl Status {
    /// The header block.
    pub fn headers(&self) -> Bytes {
        let (line, left) = match self {
            Status::Heartbeat { consumer_seq, stream_seq } => {
                return format!(
                    "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: {consumer_seq}\r\nNats-Last-Stream: {stream_seq}\r\n\r\n"
                )
                .into();
            }
            Status::BadRequest(why) => (format!("400 Bad Request - {why}"), None),
            Status::NoMessages => ("404 No Messages".into(), None),
            Status::Timeout(left) => ("408 Request Timeout".into(), Some(left)),
            Status::RequestsPending => ("408 Requests Pending".into(), None),
            Status::TooLarge(left) => ("409 Message Size Exceeds MaxBytes".into(), Some(left)),
            Status::BatchCompleted(left) => ("409 Batch Completed".into(), Some(left)),
            Status::TooManyWaiting => ("409 Exceeded MaxWaiting".into(), None),
            Status::Exceeded(what) => (format!("409 Exceeded {what}"), None),
            Status::LeadershipChange => ("409 Leadership Change".into(), None),
            Status::ConsumerDeleted => ("409 Consumer Deleted".into(), None),
            Status::ServerShutdown(left) => ("409 Server Shutdown".into(), Some(left)),
        };
        match left {
            None => format!("NATS/1.0 {line}\r\n\r\n").into(),
            Some(Left { messages, bytes }) => {
                format!("NATS/1.0 {line}\r\nNats-Pending-Messages: {messages}\r\nNats-Pending-Bytes: {bytes}\r\n\r\n")
                    .into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_the_peers() {
        let left = Left { messages: 3, bytes: 10 };
        let tail = "\r\nNats-Pending-Messages: 3\r\nNats-Pending-Bytes: 10\r\n\r\n";
        let cases = [
            (Status::NoMessages, "NATS/1.0 404 No Messages\r\n\r\n".to_owned()),
            (Status::Timeout(left), format!("NATS/1.0 408 Request Timeout{tail}")),
            (Status::TooLarge(left), format!("NATS/1.0 409 Message Size Exceeds MaxBytes{tail}")),
            (Status::BatchCompleted(left), format!("NATS/1.0 409 Batch Completed{tail}")),
            (Status::ServerShutdown(left), format!("NATS/1.0 409 Server Shutdown{tail}")),
            (Status::LeadershipChange, "NATS/1.0 409 Leadership Change\r\n\r\n".to_owned()),
            (
                Status::Heartbeat { consumer_seq: 4, stream_seq: 9 },
                "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 4\r\nNats-Last-Stream: 9\r\n\r\n".to_owned(),
            ),
        ];
        for (status, text) in cases {
            assert_eq!(status.headers(), text);
        }
    }
}
