//! [`Hearing`]: which members answer the heartbeats of this node and its calls for an election, said once when that changes.
//!
//! Raft asks again many times a second, and would say each time that nobody answered. Told by `network` of each
//! of them; asked by nobody. It only writes to the log: nothing that the cluster does may depend on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

/// Shorter silences are not told: a restart, a busy moment.
const TOLD_AFTER: Duration = Duration::from_secs(1);
/// A silence that goes on is told again this often.
const TOLD_EVERY: Duration = Duration::from_secs(600);
/// After a longer pause in which nobody was asked, a silence begins anew.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

/// What is to be said of a member.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// It has not answered for so long.
    Silent(Duration),
    /// It answers again, after so long.
    Answers(Duration),
}

/// A member that did not answer last time. Pure.
#[derive(Debug, Clone, Copy)]
struct Silence {
    since: Instant,
    last: Instant,
    told: Option<Instant>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    silent: Mutex<BTreeMap<u64, Silence>>,
}

impl Hearing {
    /// A heartbeat, or a call for an election, goes out. What becomes of it is told by the value that is given back.
    pub(super) fn ask(self: &Arc<Self>, node: u64) -> Question {
        Question {
            hearing: self.clone(),
            node,
            why: Some("no answer in time".to_owned()),
        }
    }

    fn silent(&self, node: u64, now: Instant) -> Option<News> {
        let mut silent = self.silent.lock();
        let begins = Silence {
            since: now,
            last: now,
            told: None,
        };
        let silence = silent.entry(node).or_insert(begins);
        if now - silence.last > FORGOTTEN_AFTER {
            *silence = begins;
        }
        silence.last = now;
        let lasts = now - silence.since;
        let is_due = silence
            .told
            .map_or(lasts >= TOLD_AFTER, |told| now - told >= TOLD_EVERY);
        is_due.then(|| {
            silence.told = Some(now);
            News::Silent(lasts)
        })
    }

    fn answers(&self, node: u64, now: Instant) -> Option<News> {
        let silence = self.silent.lock().remove(&node)?;
        silence.told.map(|_| News::Answers(now - silence.since))
    }
}

/// One that is under way. Without an answer when it is dropped, there was none.
pub(super) struct Question {
    hearing: Arc<Hearing>,
    node: u64,
    /// Why there is no answer; `None` once there was one.
    why: Option<String>,
}

impl Question {
    pub(super) fn answered(&mut self) {
        self.why = None;
    }

    pub(super) fn failed(&mut self, why: &str) {
        self.why = Some(why.to_owned());
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let now = Instant::now();
        let news = match self.why {
            Some(_) => self.hearing.silent(self.node, now),
            None => self.hearing.answers(self.node, now),
        };
        match (news, &self.why) {
            (Some(News::Silent(lasts)), Some(why)) => {
                warn!(node = self.node, ?lasts, why, "a member does not answer");
            }
            (Some(News::Answers(after)), _) => {
                info!(node = self.node, ?after, "a member answers again");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_told_once_then_rarely_and_its_end() {
        let hearing = Hearing::default();
        let start = Instant::now();
        let mut told = Vec::new();
        for tick in 0..40_000 {
            let now = start + Duration::from_millis(50 * tick);
            told.extend(hearing.silent(3, now));
        }
        let at = |s| News::Silent(Duration::from_secs(s));
        assert_eq!(told, [at(1), at(601), at(1_201), at(1_801)]);
        let now = start + Duration::from_secs(2_000);
        assert_eq!(
            hearing.answers(3, now),
            Some(News::Answers(Duration::from_secs(2_000)))
        );
        assert_eq!(hearing.answers(3, now), None);
    }

    #[test]
    fn what_is_short_or_was_long_ago_is_not_told() {
        let hearing = Hearing::default();
        let start = Instant::now();
        assert_eq!(hearing.silent(3, start), None);
        assert_eq!(hearing.silent(3, start + Duration::from_millis(900)), None);
        assert_eq!(hearing.silent(4, start + Duration::from_millis(950)), None);
        assert_eq!(hearing.answers(3, start + Duration::from_secs(1)), None);
        // Nobody was asked in between: another node led.
        assert_eq!(hearing.silent(4, start + Duration::from_secs(60)), None);
    }
}
