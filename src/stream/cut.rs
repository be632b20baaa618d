//! What a former leader still owes: entries of its own that a later leader cut off, and who waits for them.
//!
//! ```text
//!   lead lost ──► pending, with its answers ──► applied: acknowledged as ever
//!                                          └──► cut off ──► something else committed at its index: refused
//! ```
//!
//! An entry that was cut off may come back, for another replica may have kept it. Only when the place that it had is known
//! to be another's for good is it certain that it is never applied, and only then anybody is told so. If the same entry
//! seems to stand there again, nobody is told anything: whoever waits tries again.

use bytes::Bytes;

use super::lead::refusal;
use super::pending::{Answers, Pending, Work};
use super::{Answer, Stream};
use crate::api::errors::ApiError;
use crate::ids::{Place, Seq};

/// Answers that wait at most: a leader's window of small messages, twice. More are not remembered.
const WAITING_MAX: usize = 64 * 1024;

/// One entry that was cut off.
#[derive(Debug)]
pub(super) struct Cut {
    index: u64,
    /// First sequence, time and bytes of messages: tells them from another entry. `None` for instructions.
    stamp: Option<(Seq, i64, u32)>,
    refused: Bytes,
    publishers: Vec<(Place, Bytes)>,
    asked: Option<(Answer, Bytes)>,
}

fn stamp_of(pending: &Pending) -> Option<(Seq, i64, u32)> {
    match &pending.work {
        Work::Store(store) => Some((store.base_seq, store.time_ns, pending.body_len)),
        _ => None,
    }
}

impl Stream {
    /// Remembers who waits for an entry that is cut off.
    pub(super) fn owe(&mut self, pending: &mut Pending, error: &ApiError) {
        let (mut publishers, mut asked) = (Vec::new(), None);
        match std::mem::take(&mut pending.answers) {
            Answers::Nobody => return,
            Answers::Publishers(some) => publishers.extend(some.into_iter().map(|(_, to, reply)| (to, reply))),
            Answers::Request(answer) => asked = refusal(&pending.work, &answer, error),
        }
        let waiting: usize = self.cut.iter().map(|cut| cut.publishers.len() + 1).sum();
        if waiting + publishers.len() < WAITING_MAX {
            let (index, stamp, refused) = (pending.index, stamp_of(pending), self.acks.refused(error));
            self.cut.push(Cut { index, stamp, refused, publishers, asked });
        }
    }

    /// An entry stands at this index now.
    pub(super) fn meet_cut(&mut self, pending: &Pending) {
        if !self.cut.is_empty() {
            let (index, stamp) = (pending.index, stamp_of(pending));
            self.cut.retain(|cut| cut.index != index || cut.stamp.is_some() && stamp.is_some() && cut.stamp != stamp);
        }
    }

    /// Everything up to here is committed.
    pub(super) fn refuse_cut(&mut self, upto: u64) {
        for cut in std::mem::take(&mut self.cut) {
            if cut.index > upto {
                self.cut.push(cut);
                continue;
            }
            for (to, reply) in cut.publishers {
                self.reply(to, reply, cut.refused.clone());
            }
            if let Some((answer, json)) = cut.asked {
                self.answer(&answer, json);
            }
        }
    }
}
