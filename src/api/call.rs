//! The JetStream API's subjects: from `$JS.API.…` to a [`Call`], and where that call is answered.
//!
//! One table; nothing here knows JSON or state. Subjects are those of the peer (`jetstream_api.go`) as its clients and
//! CLI send them; a domain prefix (`$JS.<domain>.API.…`) is taken off first.

/// What a request asks for. Names are slices of the subject, not yet checked for existence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call<'a> {
    AccountInfo,
    StreamCreate {
        stream: &'a str,
    },
    StreamUpdate {
        stream: &'a str,
    },
    StreamInfo {
        stream: &'a str,
    },
    StreamNames,
    StreamList,
    StreamDelete {
        stream: &'a str,
    },
    StreamPurge {
        stream: &'a str,
    },
    StreamStepdown {
        stream: &'a str,
    },
    StreamPeerRemove {
        stream: &'a str,
    },
    MessageGet {
        stream: &'a str,
    },
    MessageDelete {
        stream: &'a str,
    },
    /// With a subject the last message of that subject is meant, else the body says which.
    DirectGet {
        stream: &'a str,
        subject: Option<&'a str>,
    },
    /// `CONSUMER.CREATE.<stream>[.<name>[.<filter…>]]`.
    ConsumerCreate {
        stream: &'a str,
        name: Option<&'a str>,
        filter: Option<&'a str>,
    },
    /// `CONSUMER.DURABLE.CREATE.<stream>.<name>`.
    ConsumerDurableCreate {
        stream: &'a str,
        name: &'a str,
    },
    ConsumerInfo {
        stream: &'a str,
        consumer: &'a str,
    },
    ConsumerNames {
        stream: &'a str,
    },
    ConsumerList {
        stream: &'a str,
    },
    ConsumerDelete {
        stream: &'a str,
        consumer: &'a str,
    },
    ConsumerNext {
        stream: &'a str,
        consumer: &'a str,
    },
    ConsumerPause {
        stream: &'a str,
        consumer: &'a str,
    },
    ConsumerStepdown {
        stream: &'a str,
        consumer: &'a str,
    },
    MetaStepdown,
    ServerRemove,
    /// Ours: an evicted server may enter again.
    ServerReadmit,
    /// A subject of the peer's API that Trestle does not serve, named for the refusal.
    Unsupported {
        what: &'static str,
    },
}

/// Who answers a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// The leader of the meta group.
    Meta,
    /// The leader of the stream.
    Stream { stream: &'a str },
    /// The leader of the stream; without one, any replica that is up.
    StreamOrReplica { stream: &'a str },
    /// The leader of the consumer.
    Consumer { stream: &'a str, consumer: &'a str },
    /// The core where it entered.
    Here,
}

/// Subjects below which everything is the API's.
pub const PREFIX: &str = "$JS.API.";

/// What operators ask of the peer and not of Trestle.
const META_RESCUE: &str = "the meta group's rescue";
const ACCOUNTS: &str = "moving and purging accounts";

/// Whether a subject of the API asks a consumer for messages, under whatever domain.
pub fn is_pull(subject: &[u8]) -> bool {
    const MARK: &[u8] = b".CONSUMER.MSG.NEXT.";
    subject.windows(MARK.len()).any(|part| part == MARK)
}

/// Whether audits tell of a request: of all but those that ask a consumer or a stream for messages, which are not calls
/// of the API at the peer.
pub fn is_audited(subject: &[u8]) -> bool {
    const MARK: &[u8] = b".API.DIRECT.GET.";
    !is_pull(subject) && !subject.windows(MARK.len()).any(|part| part == MARK)
}

/// The part of a request's subject behind `$JS.API.` or `$JS.<domain>.API.`, when the domain is ours.
pub fn strip_prefix<'a>(subject: &'a str, domain: Option<&str>) -> Option<&'a str> {
    if let Some(rest) = subject.strip_prefix(PREFIX) {
        return Some(rest);
    }
    let rest = subject.strip_prefix("$JS.")?.strip_prefix(domain?)?;
    rest.strip_prefix(".API.")
}

impl<'a> Call<'a> {
    /// Reads the part behind the prefix; `None` for a subject that the API does not have.
    pub fn parse(rest: &'a str) -> Option<Call<'a>> {
        let mut t = rest.splitn(5, '.');
        let words = [t.next(), t.next(), t.next(), t.next(), t.next()];
        match words {
            [Some("INFO"), None, ..] => Some(Call::AccountInfo),
            [Some("STREAM"), Some(verb), name, None, None] => stream_call(verb, name),
            [Some("STREAM"), Some("MSG"), Some(verb), Some(stream), None] => match verb {
                "GET" => Some(Call::MessageGet { stream }),
                "DELETE" => Some(Call::MessageDelete { stream }),
                _ => None,
            },
            [Some("STREAM"), Some("LEADER"), Some("STEPDOWN"), Some(stream), None] => {
                Some(Call::StreamStepdown { stream })
            }
            [Some("STREAM"), Some("PEER"), Some("REMOVE"), Some(stream), None] => {
                Some(Call::StreamPeerRemove { stream })
            }
            [Some("STREAM"), Some("TEMPLATE"), ..] => Some(Call::Unsupported { what: "stream templates" }),
            [Some("DIRECT"), Some("GET"), Some(stream), ..] => {
                let subject = rest.splitn(4, '.').nth(3);
                Some(Call::DirectGet { stream, subject })
            }
            [Some("CONSUMER"), ..] => consumer_call(rest),
            [Some("META"), Some("LEADER"), Some("STEPDOWN"), None, ..] => Some(Call::MetaStepdown),
            [Some("META"), Some("RESCUE"), None, ..] => Some(Call::Unsupported { what: META_RESCUE }),
            [Some("SERVER"), Some("REMOVE"), None, ..] => Some(Call::ServerRemove),
            [Some("SERVER"), Some("READMIT"), None, ..] => Some(Call::ServerReadmit),
            [Some("ACCOUNT"), ..] => Some(Call::Unsupported { what: ACCOUNTS }),
            _ => None,
        }
    }

    /// Whether the system account asks it, and nobody else.
    pub fn is_for_operators(&self) -> bool {
        match self {
            Call::MetaStepdown | Call::ServerRemove | Call::ServerReadmit => true,
            Call::Unsupported { what } => *what == META_RESCUE || *what == ACCOUNTS,
            _ => false,
        }
    }

    pub fn target(&self) -> Target<'a> {
        match *self {
            Call::StreamInfo { stream } | Call::DirectGet { stream, .. } => Target::StreamOrReplica { stream },
            Call::StreamPurge { stream }
            | Call::StreamStepdown { stream }
            | Call::MessageGet { stream }
            | Call::MessageDelete { stream } => Target::Stream { stream },
            Call::ConsumerInfo { stream, consumer }
            | Call::ConsumerNext { stream, consumer }
            | Call::ConsumerStepdown { stream, consumer } => Target::Consumer { stream, consumer },
            Call::Unsupported { .. } => Target::Here,
            _ => Target::Meta,
        }
    }
}

fn stream_call<'a>(verb: &str, name: Option<&'a str>) -> Option<Call<'a>> {
    match (verb, name) {
        ("CREATE", Some(stream)) => Some(Call::StreamCreate { stream }),
        ("UPDATE", Some(stream)) => Some(Call::StreamUpdate { stream }),
        ("INFO", Some(stream)) => Some(Call::StreamInfo { stream }),
        ("DELETE", Some(stream)) => Some(Call::StreamDelete { stream }),
        ("PURGE", Some(stream)) => Some(Call::StreamPurge { stream }),
        ("NAMES", None) => Some(Call::StreamNames),
        ("LIST", None) => Some(Call::StreamList),
        ("SNAPSHOT", Some(_)) => Some(Call::Unsupported { what: "stream backup" }),
        ("RESTORE", Some(_)) => Some(Call::Unsupported { what: "stream restore" }),
        _ => None,
    }
}

/// `rest` begins with `CONSUMER.`; the filter of a create may hold any number of tokens.
fn consumer_call(rest: &str) -> Option<Call<'_>> {
    let mut t = rest.splitn(5, '.').skip(1);
    match [t.next(), t.next(), t.next(), t.next()] {
        [Some("CREATE"), Some(stream), name, filter] => Some(Call::ConsumerCreate { stream, name, filter }),
        [Some("DURABLE"), Some("CREATE"), Some(stream), Some(name)] if !name.contains('.') => {
            Some(Call::ConsumerDurableCreate { stream, name })
        }
        [Some("INFO"), Some(stream), Some(consumer), None] => Some(Call::ConsumerInfo { stream, consumer }),
        [Some("DELETE"), Some(stream), Some(consumer), None] => Some(Call::ConsumerDelete { stream, consumer }),
        [Some("NAMES"), Some(stream), None, None] => Some(Call::ConsumerNames { stream }),
        [Some("LIST"), Some(stream), None, None] => Some(Call::ConsumerList { stream }),
        [Some("MSG"), Some("NEXT"), Some(stream), Some(consumer)] if !consumer.contains('.') => {
            Some(Call::ConsumerNext { stream, consumer })
        }
        [Some("LEADER"), Some("STEPDOWN"), Some(stream), Some(consumer)] if !consumer.contains('.') => {
            Some(Call::ConsumerStepdown { stream, consumer })
        }
        [Some("PAUSE"), Some(stream), Some(consumer), None] => Some(Call::ConsumerPause { stream, consumer }),
        [Some("UNPIN"), Some(_), Some(_), None] => Some(Call::Unsupported { what: "priority groups" }),
        [Some("RESET"), Some(_), Some(_), None] => Some(Call::Unsupported { what: "resetting a consumer" }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_and_their_calls() {
        let table: &[(&str, Option<Call>)] = &[
            ("INFO", Some(Call::AccountInfo)),
            ("INFO.x", None),
            ("STREAM.NAMES", Some(Call::StreamNames)),
            ("STREAM.CREATE.S", Some(Call::StreamCreate { stream: "S" })),
            ("STREAM.CREATE", None),
            ("STREAM.CREATE.a.b", None),
            ("STREAM.MSG.GET.S", Some(Call::MessageGet { stream: "S" })),
            ("STREAM.LEADER.STEPDOWN.S", Some(Call::StreamStepdown { stream: "S" })),
            ("DIRECT.GET.S", Some(Call::DirectGet { stream: "S", subject: None })),
            ("DIRECT.GET.S.a.b.c", Some(Call::DirectGet { stream: "S", subject: Some("a.b.c") })),
            ("CONSUMER.CREATE.S", Some(Call::ConsumerCreate { stream: "S", name: None, filter: None })),
            ("CONSUMER.CREATE.S.C.>", Some(Call::ConsumerCreate { stream: "S", name: Some("C"), filter: Some(">") })),
            (
                "CONSUMER.CREATE.S.C.a.*.c",
                Some(Call::ConsumerCreate { stream: "S", name: Some("C"), filter: Some("a.*.c") }),
            ),
            ("CONSUMER.DURABLE.CREATE.S.C", Some(Call::ConsumerDurableCreate { stream: "S", name: "C" })),
            ("CONSUMER.DURABLE.CREATE.S.C.d", None),
            ("CONSUMER.MSG.NEXT.S.C", Some(Call::ConsumerNext { stream: "S", consumer: "C" })),
            ("CONSUMER.INFO.S.C", Some(Call::ConsumerInfo { stream: "S", consumer: "C" })),
            ("CONSUMER.INFO.S.C.d", None),
            ("META.LEADER.STEPDOWN", Some(Call::MetaStepdown)),
            ("", None),
            ("STREAM", None),
            ("CONSUMER.", None),
        ];
        for (rest, call) in table {
            assert_eq!(Call::parse(rest), *call, "{rest}");
        }
    }

    #[test]
    fn the_domain_prefix_is_taken_off_only_for_our_domain() {
        assert_eq!(strip_prefix("$JS.API.INFO", None), Some("INFO"));
        assert_eq!(strip_prefix("$JS.hub.API.INFO", Some("hub")), Some("INFO"));
        assert_eq!(strip_prefix("$JS.us.API.INFO", Some("hub")), None);
        assert_eq!(strip_prefix("$JS.hub.API.INFO", None), None);
    }
}
