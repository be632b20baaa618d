//! Names that an entry on its way into the table concerns: whoever asks about them is answered after it is there.
//!
//! Without this, two requests that race for one name would both be decided from a table that has neither, and the second
//! would change what the first one made.

use net::subject;

use super::facts::Facts;
use crate::cluster::table::MetaEntry;

/// Whether an entry is in flight about this stream, or about another one that takes some of these subjects.
pub(super) fn stream(facts: &Facts, name: &str, subjects: &[String]) -> bool {
    let mine = &facts.account.name;
    facts.proposed().any(|entry| match entry {
        MetaEntry::PutStream { account, config, .. } => {
            let overlap = |one: &String| subjects.iter().any(|two| subject::overlaps(one.as_bytes(), two.as_bytes()));
            account == mine && (config.name == name || config.subjects.iter().any(overlap))
        }
        MetaEntry::DropStream { account, stream, .. } => account == mine && stream == name,
        _ => false,
    })
}

/// Whether an entry is in flight about this stream or its consumer of that name. A consumer that the server is to name
/// waits for its stream alone.
pub(super) fn consumer(facts: &Facts, stream_name: &str, name: &str) -> bool {
    let mine = &facts.account.name;
    let same = |account: &String, stream: &String, consumer: &String| {
        account == mine && stream == stream_name && consumer == name
    };
    let consumers = facts.proposed().any(|entry| match entry {
        MetaEntry::PutConsumer { account, stream, name, .. } => same(account, stream, name),
        MetaEntry::DropConsumer { account, stream, name, .. } => same(account, stream, name),
        _ => false,
    });
    consumers || stream(facts, stream_name, &[])
}
