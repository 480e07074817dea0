//! The world outside of the store: what handlers do there, once for each idempotency key. It outlives crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::program::Fate;

/// What handlers see of the world.
#[derive(Default)]
pub(super) struct World {
    pub(super) is_mended: AtomicBool,
    /// How often the process was started anew on purpose; changes the numbers of lanes.
    pub(super) restarts: AtomicU16,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    effects: BTreeMap<(String, String), Vec<String>>,
    keys: BTreeSet<String>,
    calls: BTreeMap<(String, String), u32>,
    /// By what was asked for: the commands that were refused.
    refused: BTreeMap<String, BTreeSet<String>>,
    breakdowns: BTreeMap<String, u32>,
    /// When a local step was first tried.
    first_tried: BTreeMap<String, Duration>,
}

/// What becomes of a command.
pub(super) enum Verdict {
    Done,
    Refused,
    BreaksDown,
}

impl World {
    pub(super) fn is_mended(&self) -> bool {
        self.is_mended.load(Ordering::Relaxed)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call of a handler.
    pub(super) fn called(&self, handler: &str, key: &str) {
        *self.ledger().calls.entry((handler.to_owned(), key.to_owned())).or_default() += 1;
    }

    /// Does something, once for its idempotency key.
    pub(super) fn act(&self, idempotency_key: &str, handler: &str, key: &str, what: &str) {
        let mut ledger = self.ledger();
        if ledger.keys.insert(idempotency_key.to_owned()) {
            ledger.effects.entry((handler.to_owned(), key.to_owned())).or_default().push(what.to_owned());
        }
    }

    /// What becomes of a command: the same however often this delivery is repeated.
    pub(super) fn judge(&self, fate: Fate, what: &str, command_id: &str) -> Verdict {
        let mut ledger = self.ledger();
        match fate {
            Fate::Done => Verdict::Done,
            Fate::Refused => Verdict::Refused,
            Fate::RefusedFirst(times) => {
                let refused = ledger.refused.entry(what.to_owned()).or_default();
                let is_refused = refused.contains(command_id) || refused.len() < times as usize;
                if is_refused {
                    refused.insert(command_id.to_owned());
                }
                if is_refused { Verdict::Refused } else { Verdict::Done }
            }
            Fate::Breaks(times) => {
                let breakdowns = ledger.breakdowns.entry(command_id.to_owned()).or_default();
                *breakdowns += 1;
                if *breakdowns > times { Verdict::Done } else { Verdict::BreaksDown }
            }
            Fate::Broken if self.is_mended() => Verdict::Done,
            Fate::Broken => Verdict::BreaksDown,
        }
    }

    /// How long ago this was first tried.
    pub(super) fn since_first_tried(&self, idempotency_key: &str, now: Duration) -> Duration {
        now.saturating_sub(*self.ledger().first_tried.entry(idempotency_key.to_owned()).or_insert(now))
    }

    /// By handler and key, what was done, in order.
    pub(super) fn effects(&self) -> BTreeMap<(String, String), Vec<String>> {
        self.ledger().effects.clone()
    }

    /// By handler and key, how often it was called.
    pub(super) fn calls(&self) -> BTreeMap<(String, String), u32> {
        self.ledger().calls.clone()
    }
}
