//! Pull requests: reading them, and the queue of those that wait.
//!
//! Messages go to the waiting requests in turn, one each, so that several workers share the load. A request leaves the
//! queue when its batch is complete, its time is over, its inbox is gone, or it cannot take the next message; in all
//! but the third case the client hears why.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::Deserialize;

use crate::api::json::{self, Unknown};
use crate::ids::Place;

use super::config::{ConsumerConfig, go_duration};
use super::status::{Left, Status};

/// One request as it came in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PullRequest {
    /// Messages wanted; what is below 1 is one, and is told as it came when the request ends without it.
    pub batch: i64,
    /// How long it waits, microseconds; `None`: until the batch is complete.
    pub expires_us: Option<u64>,
    /// Answer at once when there is nothing to deliver.
    pub no_wait: bool,
    /// Bytes wanted at most; 0 and below is no limit.
    pub max_bytes: i64,
    /// Send a heartbeat after so much silence, microseconds; 0 is never.
    pub heartbeat_us: u64,
}

/// The JSON form. Fields of later API levels than ours are ignored, as the peer does here; `null` is absent, for some
/// clients write every field.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    batch: i64,
    expires: i64,
    no_wait: bool,
    max_bytes: i64,
    idle_heartbeat: i64,
    min_pending: i64,
    min_ack_pending: i64,
    id: String,
    priority: i64,
}

impl PullRequest {
    /// Reads a request: empty (one message), a number (that many), or JSON. The error is the status to answer with.
    pub fn parse(body: &[u8]) -> Result<PullRequest, Status> {
        let body = body.trim_ascii();
        if body.first() == Some(&b'{') {
            let read = json::one(body).and_then(|doc| doc.decode::<Body>(Unknown::Skipped));
            let body = read.map_err(|fault| Status::BadRequest(fault.to_string()))?;
            return Self::from_body(&body);
        }
        let batch = std::str::from_utf8(body).ok().and_then(|text| text.parse::<i64>().ok()).unwrap_or(1);
        Ok(PullRequest { batch: batch.max(1), ..Default::default() })
    }

    fn from_body(body: &Body) -> Result<PullRequest, Status> {
        let refuse = |why: &str| Err(Status::BadRequest(why.to_owned()));
        if body.idle_heartbeat > 0 && body.idle_heartbeat.saturating_mul(2) > body.expires {
            return refuse("heartbeat value too large");
        }
        if body.min_pending != 0 || body.min_ack_pending != 0 {
            return refuse("Not a Overflow Priority consumer");
        }
        if !body.id.is_empty() {
            return refuse("Not a Pinned Client Priority consumer");
        }
        if !(0..=9).contains(&body.priority) {
            return refuse("Priority must be between 0 and 9");
        }
        Ok(PullRequest {
            batch: body.batch,
            // A time that is over before it began ends the request at once.
            expires_us: (body.expires != 0).then_some(body.expires.max(0) as u64 / 1000),
            no_wait: body.no_wait,
            max_bytes: body.max_bytes,
            heartbeat_us: body.idle_heartbeat.max(0) as u64 / 1000,
        })
    }

    /// Whether the request stays within what the consumer's configuration allows.
    pub fn check(&self, config: &ConsumerConfig) -> Result<(), Status> {
        let over = |value: i64, max: i64| max > 0 && value > max;
        if over(self.batch, config.max_batch) {
            return Err(Status::Exceeded(format!("MaxRequestBatch of {}", config.max_batch)));
        }
        let expires_us = i64::try_from(self.expires_us.unwrap_or(0)).unwrap_or(i64::MAX);
        if over(expires_us, config.max_expires / 1000) {
            return Err(Status::Exceeded(format!("MaxRequestExpires of {}", go_duration(config.max_expires))));
        }
        if over(self.max_bytes, config.max_bytes) {
            return Err(Status::Exceeded(format!("MaxRequestMaxBytes of {}", config.max_bytes)));
        }
        Ok(())
    }
}

/// Where answers of a request go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbox {
    pub to: Place,
    pub subject: Bytes,
}

/// A request that waits.
#[derive(Debug)]
pub struct Pull {
    pub inbox: Inbox,
    messages_left: i64,
    /// 0 and below: unlimited.
    bytes_left: i64,
    delivered: u64,
    no_wait: bool,
    expires_us: Option<u64>,
    heartbeat_us: u64,
    heartbeat_at_us: u64,
}

impl Pull {
    pub fn new(now_us: u64, inbox: Inbox, request: &PullRequest) -> Pull {
        Pull {
            inbox,
            messages_left: request.batch,
            bytes_left: request.max_bytes,
            delivered: 0,
            no_wait: request.no_wait,
            expires_us: request.expires_us.map(|wait| now_us.saturating_add(wait)),
            heartbeat_us: request.heartbeat_us,
            heartbeat_at_us: now_us.saturating_add(request.heartbeat_us),
        }
    }

    fn left(&self) -> Left {
        Left { messages: self.messages_left, bytes: self.bytes_left }
    }

    fn next_timer(&self) -> Option<u64> {
        let heartbeat = (self.heartbeat_us > 0).then_some(self.heartbeat_at_us);
        self.expires_us.into_iter().chain(heartbeat).min()
    }

    /// Whether it waits for nothing more than what there is.
    fn is_served(&self) -> bool {
        self.no_wait && (self.expires_us.is_none() || self.delivered > 0)
    }

    fn due(&self, now_us: u64) -> bool {
        self.expires_us.is_some_and(|at| at <= now_us)
    }
}

/// A place for one message: where it goes, and what is told right behind it.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    pub inbox: Inbox,
    pub after: Option<Status>,
}

/// The waiting requests, at most `max` of them.
#[derive(Debug)]
pub struct PullQueue {
    queue: VecDeque<Pull>,
    max: usize,
}

impl PullQueue {
    pub fn new(max: usize) -> Self {
        PullQueue { queue: VecDeque::new(), max }
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Requests that may wait at once.
    pub fn max(&self) -> usize {
        self.max
    }

    pub fn is_full(&self) -> bool {
        self.queue.len() >= self.max
    }

    /// Messages that all waiting requests together still want.
    pub fn wanted(&self) -> u64 {
        let wanted = self.queue.iter().map(|pull| pull.messages_left.max(1) as u64);
        wanted.fold(0, u64::saturating_add)
    }

    /// Appends a request; the caller has checked that there is room.
    pub fn push(&mut self, pull: Pull) {
        assert!(!self.is_full(), "the caller checks for room");
        self.queue.push_back(pull);
    }

    /// Takes one place for a message of `size` bytes from the request whose turn it is. Requests that cannot hold the
    /// message end here and are told so through `end`.
    pub fn take(&mut self, now_us: u64, size: u64, mut end: impl FnMut(Inbox, Status)) -> Option<Grant> {
        while let Some(mut pull) = self.queue.pop_front() {
            if pull.bytes_left > 0 {
                let size = i64::try_from(size).unwrap_or(i64::MAX);
                if size > pull.bytes_left {
                    let left = pull.left();
                    end(pull.inbox, Status::TooLarge(left));
                    continue;
                }
                pull.bytes_left -= size;
                if pull.bytes_left == 0 {
                    pull.messages_left = 1;
                }
            }
            pull.messages_left = pull.messages_left.saturating_sub(1);
            pull.delivered += 1;
            pull.heartbeat_at_us = now_us.saturating_add(pull.heartbeat_us);
            let inbox = pull.inbox.clone();
            if pull.messages_left > 0 {
                self.queue.push_back(pull);
                return Some(Grant { inbox, after: None });
            }
            let after = (pull.bytes_left > 0).then(|| Status::BatchCompleted(pull.left()));
            return Some(Grant { inbox, after });
        }
        None
    }

    /// Ends requests whose time is over, and sends heartbeats of the others. When any of them has something due, those that
    /// do not wait for more end too, even while unacknowledged messages hold deliveries up (peer behaviour).
    pub fn on_time(
        &mut self,
        now_us: u64,
        beat: &Status,
        end: &impl Fn(Left, bool) -> Status,
        mut tell: impl FnMut(Inbox, Status),
    ) {
        if self.next_timer().is_none_or(|at| at > now_us) {
            return;
        }
        self.queue.retain_mut(|pull| {
            if pull.due(now_us) {
                tell(pull.inbox.clone(), Status::Timeout(pull.left()));
                return false;
            }
            if pull.is_served() {
                tell(pull.inbox.clone(), end(pull.left(), pull.delivered > 0));
                return false;
            }
            if pull.heartbeat_us > 0 && pull.heartbeat_at_us <= now_us {
                tell(pull.inbox.clone(), beat.clone());
                pull.heartbeat_at_us = now_us.saturating_add(pull.heartbeat_us);
            }
            true
        });
    }

    /// There is nothing more to deliver: ends requests that do not wait for more. `end` says how, from what a request did not
    /// get and whether it got any.
    pub fn on_end(&mut self, end: &impl Fn(Left, bool) -> Status, mut tell: impl FnMut(Inbox, Status)) {
        self.queue.retain(|pull| {
            let done = pull.is_served();
            if done {
                tell(pull.inbox.clone(), end(pull.left(), pull.delivered > 0));
            }
            !done
        });
    }

    /// Ends all requests with one status.
    pub fn end_all(&mut self, status: &dyn Fn(Left) -> Status, mut tell: impl FnMut(Inbox, Status)) {
        for pull in self.queue.drain(..) {
            let left = pull.left();
            tell(pull.inbox, status(left));
        }
    }

    /// Nobody listens on these inboxes any more: their requests go, silently.
    pub fn drop_inboxes(&mut self, mut gone: impl FnMut(&Inbox) -> bool) {
        self.queue.retain(|pull| !gone(&pull.inbox));
    }

    /// When [`PullQueue::on_time`] has something to do next.
    pub fn next_timer(&self) -> Option<u64> {
        self.queue.iter().filter_map(Pull::next_timer).min()
    }

    /// The waiting inboxes, for asking whether anybody still listens there.
    pub fn inboxes(&self) -> impl Iterator<Item = &Inbox> {
        self.queue.iter().map(|pull| &pull.inbox)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_null_is_absent() {
        let body = br#"{"batch":5,"expires":null,"no_wait":null,"max_bytes":null,"idle_heartbeat":null,"id":null}"#;
        let request = PullRequest::parse(body).unwrap();
        assert_eq!((request.batch, request.expires_us, request.no_wait, request.max_bytes), (5, None, false, 0));
    }
}
