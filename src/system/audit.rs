//! The audit of JetStream's API: who asked what and what the answer was, told in the asker's account
//! (`$JS.EVENT.ADVISORY.API`, peer: `JSAPIAudit`) while somebody listens.
//!
//! The core by which a request enters keeps it until its answer comes by, because it alone knows the client. Without a
//! listener nothing is kept. A request that is never answered gives way to later ones.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::events::{Client, unique_id};
use super::scene::Server;
use super::text::now_text;
use crate::client::ClientFacts;
use crate::ids::{AccountId, Now};
use crate::reply::Reply;

/// Where audits are told.
pub const SUBJECT: &[u8] = b"$JS.EVENT.ADVISORY.API";

/// Requests that wait for their answers at once: far more than a core has on their way unless somebody floods it.
const WAITING_MAX: usize = 1024;

/// Bytes of a request that are told; every request of a tool is shorter, and [`WAITING_MAX`] of them stay below 16 MiB.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug)]
struct Asked {
    number: u64,
    subject: Bytes,
    request: Bytes,
    client: Option<Arc<ClientFacts>>,
}

/// Requests of one core that wait for their answers, by account and inbox.
#[derive(Debug, Default)]
pub struct Audit {
    waiting: BTreeMap<(AccountId, Bytes), Asked>,
    /// Every request that came, oldest first; those that were answered stand here until their turn comes.
    order: VecDeque<(u64, AccountId, Bytes)>,
    asked: u64,
}

#[derive(Serialize)]
struct Told<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    timestamp: String,
    server: &'a str,
    client: Who<'a>,
    subject: std::borrow::Cow<'a, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    request: std::borrow::Cow<'a, str>,
    response: std::borrow::Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
}

/// A client, or nobody: an empty object.
#[derive(Serialize)]
#[serde(untagged)]
enum Who<'a> {
    Client(Box<Client<'a>>),
    Nobody {},
}

impl Audit {
    /// A request entered; its answer goes to `reply`.
    pub fn asked(
        &mut self,
        account: AccountId,
        subject: &Bytes,
        reply: &Bytes,
        payload: &Bytes,
        client: Option<Arc<ClientFacts>>,
    ) {
        self.asked += 1;
        let number = self.asked;
        let request = Bytes::copy_from_slice(&payload[..payload.len().min(REQUEST_BYTES_MAX)]);
        let subject = Bytes::copy_from_slice(subject);
        let reply = Bytes::copy_from_slice(reply);
        self.waiting.insert((account, reply.clone()), Asked { number, subject, request, client });
        self.order.push_back((number, account, reply));
        if self.order.len() > WAITING_MAX
            && let Some((number, account, reply)) = self.order.pop_front()
        {
            let key = (account, reply);
            if self.waiting.get(&key).is_some_and(|asked| asked.number == number) {
                self.waiting.remove(&key);
            }
        }
    }

    /// An answer comes by: what is to be told of it, if it is one that was waited for.
    pub(super) fn answered(&mut self, now: Now, server: &Server, seq: u64, reply: &Reply) -> Option<Bytes> {
        if self.waiting.is_empty() {
            return None;
        }
        let asked = self.waiting.remove(&(reply.account, reply.subject.clone()))?;
        let options = &server.options;
        let client = asked.client.as_deref().map(|facts| Client::asking(facts, server));
        let told = Told {
            kind: "io.nats.jetstream.advisory.v1.api_audit",
            id: unique_id(options.boot, options.core, seq),
            timestamp: now_text(now),
            server: server.name(),
            client: client.map_or(Who::Nobody {}, |client| Who::Client(Box::new(client))),
            subject: String::from_utf8_lossy(&asked.subject),
            request: String::from_utf8_lossy(&asked.request),
            response: String::from_utf8_lossy(&reply.payload),
            domain: server.config().jetstream.as_ref().and_then(|js| js.domain.as_deref()),
        };
        Some(serde_json::to_vec(&told).expect("texts and numbers").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Place, ServerId};
    use crate::system::fixture::{client, server};

    fn reply(subject: &str, payload: &str) -> Reply {
        Reply {
            to: Place { server: ServerId(1), core: 0 },
            account: AccountId(1),
            subject: Bytes::copy_from_slice(subject.as_bytes()),
            reply: None,
            headers: None,
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            shown: None,
            bounce: None,
        }
    }

    fn ask(audit: &mut Audit, inbox: &str, body: &str) {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let client = Some(Arc::new(client()));
        audit.asked(AccountId(1), &bytes("$JS.API.STREAM.INFO.S"), &bytes(inbox), &bytes(body), client);
    }

    #[test]
    fn an_answer_is_told_once_with_its_question_and_who_asked() {
        let (mut audit, server) = (Audit::default(), server());
        assert!(audit.answered(Now::default(), &server, 1, &reply("in", "x")).is_none());
        ask(&mut audit, "in", "{\"a\":1}");
        assert!(audit.answered(Now::default(), &server, 1, &reply("other", "x")).is_none());
        let told = audit.answered(Now::default(), &server, 1, &reply("in", "{\"ok\":true}")).unwrap();
        let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(told["subject"], "$JS.API.STREAM.INFO.S");
        assert_eq!(told["request"], "{\"a\":1}");
        assert_eq!(told["response"], "{\"ok\":true}");
        assert_eq!(told["client"]["acc"], "ACC1");
        assert_eq!(told["client"]["server"], told["server"]);
        assert!(told["client"]["name_tag"].is_null(), "as the peer tells it");
        assert!(audit.answered(Now::default(), &server, 1, &reply("in", "again")).is_none());
    }

    #[test]
    fn questions_that_nobody_answers_give_way() {
        let (mut audit, server) = (Audit::default(), server());
        for number in 0..=WAITING_MAX {
            ask(&mut audit, &format!("in.{number}"), &"x".repeat(2 * REQUEST_BYTES_MAX));
        }
        assert_eq!((audit.waiting.len(), audit.order.len()), (WAITING_MAX, WAITING_MAX));
        assert!(audit.answered(Now::default(), &server, 1, &reply("in.0", "late")).is_none());
        let told = audit.answered(Now::default(), &server, 1, &reply("in.1", "")).unwrap();
        let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(told["request"].as_str().map(str::len), Some(REQUEST_BYTES_MAX));
        // The same inbox again: its first place in the order must not take the second question away.
        ask(&mut audit, "in.2", "second");
        ask(&mut audit, "in.x", "");
        let told = audit.answered(Now::default(), &server, 1, &reply("in.2", "")).unwrap();
        assert!(String::from_utf8_lossy(&told).contains("second"));
    }
}
