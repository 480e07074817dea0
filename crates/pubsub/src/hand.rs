//! What a member has in hand: arrived, delivered, or put off. Its leases are extended for as long as it may be in hand, also where the
//! member does nothing; what is not settled in time goes back, and what waits here for so long that somebody else may have it is not handed
//! out any more.

use std::collections::{BTreeMap, HashMap};
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
    /// Until when each delivery is ours, by its name.
    leases: HashMap<String, Instant>,
    last_token: u64,
    failure: Option<Error>,
    settle_within: Duration,
    lease: Duration,
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
        let state = Mutex::new(State::new(config));
        Self { state, news: Notify::new(), room: Notify::new(), change: Notify::new() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what has arrived.
    pub(crate) fn arrive(&self, pulled: Pulled) {
        self.lock().arrive(pulled, Instant::now());
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
    fn new(config: &Config) -> Self {
        Self {
            lanes: Lanes::new(config.order),
            open: BTreeMap::new(),
            held: BTreeMap::new(),
            leases: HashMap::new(),
            last_token: 0,
            failure: None,
            settle_within: config.settle_within,
            lease: config.lease,
            in_flight_max: config.in_flight_max,
        }
    }

    fn arrive(&mut self, pulled: Pulled, now: Instant) {
        self.failure = None;
        for came in pulled.received {
            self.leases.insert(came.ack_id.clone(), now + self.lease);
            self.lanes.arrive(came);
        }
    }

    /// Hands out at most so many, each with its token. One that is not ours any more comes again by itself, and so does what is behind it.
    pub(crate) fn deliver(&mut self, max: usize, now: Instant) -> Vec<(u64, Received)> {
        let mut delivered = Vec::new();
        while delivered.len() < max
            && let Some(received) = self.lanes.take()
        {
            if self.leases.get(&received.ack_id).is_none_or(|until| *until <= now) {
                drop(self.lanes.forget(&received));
                continue;
            }
            self.last_token += 1;
            let open = Open { late_at: now + self.settle_within, received: received.clone() };
            self.open.insert(self.last_token, open);
            delivered.push((self.last_token, received));
        }
        delivered
    }

    /// Notes that these leases were extended, as was asked for then.
    pub(crate) fn extended(&mut self, ack_ids: &[String], then: Instant) {
        for ack_id in ack_ids {
            self.leases.insert(ack_id.clone(), then + self.lease);
        }
        // Those that nobody extends any more were settled, and go when their time is over.
        self.leases.retain(|_, until| *until > then);
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
        let until = Instant::now() + self.lease;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::PubsubMessage;

    const LEASE: Duration = Duration::from_secs(10);

    fn pulled(ids: &[&str]) -> Pulled {
        let received = ids.iter().map(|id| {
            let message = PubsubMessage {
                message_id: (*id).to_owned(),
                ordering_key: id.get(..1).unwrap_or_default().to_owned(),
                ..PubsubMessage::default()
            };
            Received { ack_id: (*id).to_owned(), message: Some(message), delivery_attempt: 1 }
        });
        Pulled { received: received.collect() }
    }

    fn state(ids: &[&str], now: Instant) -> State {
        let mut state = State::new(&Config::new("pubsub://p").lease(LEASE));
        state.arrive(pulled(ids), now);
        state
    }

    fn delivered(state: &mut State, now: Instant) -> Vec<String> {
        state.deliver(10, now).into_iter().map(|(_, received)| received.ack_id).collect()
    }

    #[test]
    fn what_waited_longer_than_its_lease_is_not_handed_out_nor_what_is_behind_it() {
        let now = Instant::now();
        let mut state = state(&["a1", "a2", "b1"], now);
        assert!(delivered(&mut state, now + LEASE).is_empty());
        assert!(state.ack_ids().is_empty(), "they come again by themselves");
        state.arrive(pulled(&["a1"]), now + LEASE);
        assert_eq!(delivered(&mut state, now + LEASE), ["a1"]);
    }

    #[test]
    fn what_was_extended_is_handed_out() {
        let now = Instant::now();
        let mut state = state(&["a1", "b1"], now);
        let all = state.ack_ids();
        state.extended(&all, now + LEASE / 3);
        assert_eq!(delivered(&mut state, now + LEASE), ["a1", "b1"]);
    }

    #[test]
    fn what_is_not_settled_in_time_or_was_put_off_for_long_enough_goes_back() {
        let now = Instant::now();
        let mut state = state(&["a1", "a2", "b1"], now);
        let [(_, first), (token, second)] = &state.deliver(10, now)[..] else {
            panic!("two keys, two messages")
        };
        assert_eq!((first.ack_id.as_str(), second.ack_id.as_str()), ("a1", "b1"));
        let (token, second) = (*token, second.clone());
        assert!(state.remove(token).is_some() && state.remove(token).is_none(), "it is settled once");
        let due = now + Duration::from_secs(1);
        state.hold(second, due);
        assert_eq!(state.next_due(), Some(due));
        let ids = |back: Vec<Received>| back.into_iter().map(|received| received.ack_id).collect::<Vec<_>>();
        assert_eq!(ids(state.due(due)), ["b1"]);
        let late = now + Duration::from_secs(30);
        assert_eq!(ids(state.due(late)), ["a1", "a2"]);
    }
}
