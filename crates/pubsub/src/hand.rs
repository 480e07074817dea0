//! What a member has in hand: arrived, delivered, or put off. Its leases are extended for as long as it may be in hand, also where the
//! member does nothing; what is not settled in time goes back.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ensue_core::Error;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::Config;
use crate::lane::Lanes;
use crate::wire::{Pulled, Received};

/// Shared by a member and the tasks that work for it.
pub(crate) struct Hand {
    state: Mutex<State>,
    /// Something is ready, or has failed.
    pub(crate) news: Notify,
    /// There may be room for more.
    pub(crate) room: Notify,
    /// What is due next may be another.
    pub(crate) change: Notify,
}

pub(crate) struct State {
    lanes: Lanes,
    open: BTreeMap<u64, Open>,
    held: BTreeMap<(Instant, u64), Received>,
    last_token: u64,
    failure: Option<Error>,
    settle_within: Duration,
    expect_within: Duration,
    in_flight_max: usize,
}

struct Open {
    late_at: Instant,
    received: Received,
}

/// What goes back when a member leaves.
pub(crate) struct Left {
    pub(crate) now: Vec<Received>,
    /// Put off, and for how much longer.
    pub(crate) later: Vec<(Duration, Received)>,
}

impl Hand {
    pub(crate) fn new(config: &Config) -> Self {
        let state = State {
            lanes: Lanes::new(config.order),
            open: BTreeMap::new(),
            held: BTreeMap::new(),
            last_token: 0,
            failure: None,
            settle_within: config.settle_within,
            expect_within: config.lease,
            in_flight_max: config.in_flight_max,
        };
        Self { state: Mutex::new(state), news: Notify::new(), room: Notify::new(), change: Notify::new() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what has arrived.
    pub(crate) fn arrive(&self, pulled: Pulled) {
        let mut state = self.lock();
        state.failure = None;
        pulled.received.into_iter().for_each(|came| state.lanes.arrive(came));
        drop(state);
        self.news.notify_one();
        self.change.notify_one();
    }

    /// Says that nothing arrives, and why.
    pub(crate) fn fail(&self, error: Error) {
        self.lock().failure = Some(error);
        self.news.notify_one();
    }

    /// Waits until more may arrive.
    pub(crate) async fn has_room(&self) {
        while self.lock().is_full() {
            self.room.notified().await;
        }
    }

    /// Takes what is late or was put off for long enough; all of it goes back.
    pub(crate) fn due(&self, now: Instant) -> Vec<Received> {
        let back = self.lock().due(now);
        self.news.notify_one();
        self.room.notify_one();
        back
    }
}

impl State {
    /// Hands out at most so many, each with its token.
    pub(crate) fn deliver(&mut self, max: usize) -> Vec<(u64, Received)> {
        let late_at = Instant::now() + self.settle_within;
        let taken: Vec<Received> = std::iter::from_fn(|| self.lanes.take()).take(max).collect();
        let mut delivered = Vec::with_capacity(taken.len());
        for received in taken {
            self.last_token += 1;
            self.open.insert(self.last_token, Open { late_at, received: received.clone() });
            delivered.push((self.last_token, received));
        }
        delivered
    }

    /// Why nothing arrives, said once.
    pub(crate) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Takes a delivery out of hand, to settle it.
    pub(crate) fn remove(&mut self, token: u64) -> Option<Received> {
        self.open.remove(&token).map(|open| open.received)
    }

    /// Keeps it in hand until then, so that nothing of its key passes it.
    pub(crate) fn hold(&mut self, received: Received, due: Instant) {
        self.last_token += 1;
        self.held.insert((due, self.last_token), received);
    }

    /// It is done with.
    pub(crate) fn done(&mut self, settled: &Received) {
        self.lanes.done(settled);
    }

    /// It goes back, with all that waits behind it.
    pub(crate) fn back(&mut self, settled: Received) -> Vec<Received> {
        let until = Instant::now() + self.expect_within;
        let behind = self.lanes.back(&settled, until);
        std::iter::once(settled).chain(behind).collect()
    }

    /// Nobody knows whether it is done with: what waits behind it goes back.
    pub(crate) fn forget(&mut self, settled: &Received) -> Vec<Received> {
        self.lanes.forget(settled)
    }

    fn due(&mut self, now: Instant) -> Vec<Received> {
        self.lanes.expire(now);
        let late = self.open.extract_if(.., |_, open| open.late_at <= now);
        let mut due: Vec<Received> = late.map(|(_, open)| open.received).collect();
        due.extend(self.held.extract_if(.., |(due, _), _| *due <= now).map(|(_, received)| received));
        due.into_iter().flat_map(|received| self.back(received)).collect()
    }

    /// When [`due`](Self::due) has something to do.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let late = self.open.first_key_value().map(|(_, open)| open.late_at);
        let held = self.held.first_key_value().map(|((due, _), _)| *due);
        [late, held, self.lanes.expires_at()].into_iter().flatten().min()
    }

    /// All that is here, by the names of the deliveries.
    pub(crate) fn ack_ids(&self) -> Vec<String> {
        let open = self.open.values().map(|open| &open.received);
        let all = self.lanes.all().chain(open).chain(self.held.values());
        all.map(|received| received.ack_id.clone()).collect()
    }

    /// Takes all of it, to leave.
    pub(crate) fn leave(&mut self) -> Left {
        let now = Instant::now();
        let held = std::mem::take(&mut self.held);
        let later =
            held.into_iter().map(|((due, _), received)| (due.saturating_duration_since(now), received));
        let later = later.collect();
        let open = std::mem::take(&mut self.open).into_values().map(|open| open.received);
        let now = self.lanes.all().cloned().chain(open).collect();
        Left { now, later }
    }

    fn is_full(&self) -> bool {
        self.lanes.all().count() + self.open.len() + self.held.len() >= self.in_flight_max
    }
}
