//! Compares passwords with bcrypt hashes on a thread of its own: one comparison costs tens of milliseconds on purpose,
//! and no core may stand still for that long.
//!
//! Right answers are remembered, as seeded SHA-256 in memory only, so that a crowd of clients that comes back at once
//! costs one comparison per user. Wrong ones are never remembered. Who has waited longer than a client may take to
//! present itself is forgotten unanswered: its connection is gone, and a flood of guesses must not delay the others for
//! longer than that.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::Poll;
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use sha2::{Digest, Sha256};

use crate::client::auth::{Claim, secret_matches};

/// Claims that may wait. The thread does some twenty a second: what does not fit would not be answered in time.
const WAITING_MAX: usize = 256;

/// Right answers that are remembered: more users with hashed passwords than that are compared again.
const REMEMBERED_MAX: usize = 4096;

const UNKNOWN: u8 = 0;
const WRONG: u8 = 1;
const RIGHT: u8 = 2;
const FORGOTTEN: u8 = 3;

/// Where claims are handed in; cheap to copy.
#[derive(Clone)]
pub struct Judge(SyncSender<Case>);

struct Case {
    claim: Box<Claim>,
    since: Instant,
    patience: Duration,
    verdict: Arc<Pending>,
}

#[derive(Default)]
struct Pending {
    verdict: AtomicU8,
    waker: AtomicWaker,
}

impl Pending {
    fn settle(&self, verdict: u8) {
        self.verdict.store(verdict, Ordering::Release);
        self.waker.wake();
    }
}

/// A case that is dropped, on whatever way, leaves nobody waiting.
impl Drop for Case {
    fn drop(&mut self) {
        if self.verdict.verdict.load(Ordering::Acquire) == UNKNOWN {
            self.verdict.settle(FORGOTTEN);
        }
    }
}

impl Judge {
    /// Starts the thread, which ends with the last copy of what is returned.
    pub fn start(seed: u64) -> std::io::Result<Judge> {
        let (hand_in, cases) = sync_channel(WAITING_MAX);
        std::thread::Builder::new().name("judge".into()).spawn(move || Bench::new(seed).sit(&cases))?;
        Ok(Judge(hand_in))
    }

    /// Whether the claim is right; `None` when that was not found out within `patience`. To be awaited in a detached
    /// task: another thread wakes it (docs/decisions/0016).
    pub async fn ask(&self, claim: Box<Claim>, patience: Duration) -> Option<bool> {
        let pending = Arc::new(Pending::default());
        let case = Case { claim, since: Instant::now(), patience, verdict: pending.clone() };
        // A full queue drops the case, which is an answer.
        drop(self.0.try_send(case));
        let verdict = poll_fn(|cx| {
            pending.waker.register(cx.waker());
            match pending.verdict.load(Ordering::Acquire) {
                UNKNOWN => Poll::Pending,
                verdict => Poll::Ready(verdict),
            }
        });
        match verdict.await {
            RIGHT => Some(true),
            WRONG => Some(false),
            _ => None,
        }
    }
}

/// What the thread keeps.
struct Bench {
    seed: u64,
    /// Hash in the configuration, and the digest of the password that was right.
    right: BTreeMap<String, [u8; 32]>,
}

impl Bench {
    fn new(seed: u64) -> Bench {
        Bench { seed, right: BTreeMap::new() }
    }

    fn sit(mut self, cases: &Receiver<Case>) {
        while let Ok(case) = cases.recv() {
            if case.since.elapsed() < case.patience {
                let right = self.judge(&case.claim);
                case.verdict.settle(if right { RIGHT } else { WRONG });
            }
        }
    }

    fn judge(&mut self, claim: &Claim) -> bool {
        let digest = Sha256::new().chain_update(self.seed.to_le_bytes()).chain_update(&claim.given).finalize().into();
        if self.right.get(claim.secret.text()) == Some(&digest) {
            return true;
        }
        let right = secret_matches(&claim.secret, &claim.given);
        if right {
            if self.right.len() >= REMEMBERED_MAX {
                self.right.clear();
            }
            self.right.insert(claim.secret.text().to_owned(), digest);
        }
        right
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::Secret;
    use futures_lite::future::block_on;

    fn claim(given: &str) -> Box<Claim> {
        let hash = bcrypt::hash_with_salt("pw", 4, *b"0123456789abcdef").unwrap();
        let secret = Secret::new(hash.format_for_version(bcrypt::Version::TwoA));
        Box::new(Claim { secret, given: given.to_string() })
    }

    #[test]
    fn right_answers_are_remembered_and_wrong_ones_are_not() {
        let mut bench = Bench::new(7);
        assert!(!bench.judge(&claim("wrong")));
        assert!(bench.right.is_empty());
        assert!(bench.judge(&claim("pw")) && bench.judge(&claim("pw")));
        assert_eq!(bench.right.len(), 1);
        assert!(!bench.judge(&claim("wrong")));
    }

    #[test]
    fn everybody_who_asks_is_answered() {
        let judge = Judge::start(1).unwrap();
        assert_eq!(block_on(judge.ask(claim("pw"), Duration::from_secs(60))), Some(true));
        assert_eq!(block_on(judge.ask(claim("no"), Duration::from_secs(60))), Some(false));
        assert_eq!(block_on(judge.ask(claim("pw"), Duration::ZERO)), None, "too late");
        let full = Judge(sync_channel(0).0);
        assert_eq!(block_on(full.ask(claim("pw"), Duration::from_secs(60))), None, "nobody listens");
    }
}
