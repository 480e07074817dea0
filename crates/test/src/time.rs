//! Time that stands still until a test moves it.
//!
//! Wall clock and monotonic clock move together, unless a test sets the wall clock; the monotonic one never goes back.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ensue_core::{BoxFuture, Clock, Host, Timestamp};
use jiff::SignedDuration;

use crate::SeededEntropy;

/// Every virtual clock starts here: 15 January 2024, 10:30 UTC.
const START_SECONDS: i64 = 1_705_314_600;

/// What a process gets from its surroundings, under the control of a test: a virtual clock and seeded randomness.
pub fn host(seed: u64) -> (Host, Arc<VirtualClock>) {
    let clock = Arc::new(VirtualClock::new());
    let host = Host { clock: clock.clone(), entropy: Arc::new(SeededEntropy::new(seed)) };
    (host, clock)
}

/// A clock that moves only in [`VirtualClock::advance`].
#[derive(Debug, Default)]
pub struct VirtualClock {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    elapsed: Duration,
    /// How far the wall clock was set forward, or back.
    wall_offset: SignedDuration,
    /// By due time, then in the order in which they went to sleep. The waker is there once the sleep was polled.
    sleepers: BTreeMap<(Duration, u64), Option<Waker>>,
    sleeps_begun: u64,
}

impl VirtualClock {
    /// A clock that stands at its start.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves time on and wakes everyone who is due by then, the earliest first. What they do when they wake happens
    /// at the new time; to let them act at the moment they asked for, advance in steps of
    /// [`VirtualClock::next_wake`].
    pub fn advance(&self, duration: Duration) {
        let due = {
            let mut state = lock(&self.state);
            state.elapsed = state.elapsed.saturating_add(duration);
            let elapsed = state.elapsed;
            let later = state.sleepers.split_off(&(elapsed, u64::MAX));
            std::mem::replace(&mut state.sleepers, later)
        };
        // Wakers may run foreign code, so they are called without the lock.
        due.into_values().flatten().for_each(Waker::wake);
    }

    /// Sets the wall clock forward, or back, as an administrator or a time server does. Sleepers notice nothing.
    pub fn set_wall_clock(&self, by: SignedDuration) {
        let mut state = lock(&self.state);
        state.wall_offset = state.wall_offset.saturating_add(by);
    }

    /// How many sleep and are not yet due.
    pub fn sleepers(&self) -> usize {
        lock(&self.state).sleepers.len()
    }

    /// How long until the next sleeper is due; `None` if nobody sleeps.
    pub fn next_wake(&self) -> Option<Duration> {
        let state = lock(&self.state);
        let (due, _) = state.sleepers.keys().next()?;
        Some(due.saturating_sub(state.elapsed))
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let start = Timestamp::from_second(START_SECONDS).expect("the start is a valid time");
        let elapsed = SignedDuration::try_from(self.monotonic()).unwrap_or(SignedDuration::MAX);
        let shown = elapsed.saturating_add(lock(&self.state).wall_offset);
        start.checked_add(shown).unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Duration {
        lock(&self.state).elapsed
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut state = lock(&self.state);
        state.sleeps_begun += 1;
        let place = (state.elapsed.saturating_add(duration), state.sleeps_begun);
        if !duration.is_zero() {
            state.sleepers.insert(place, None);
        }
        Box::pin(Sleep { state: Arc::clone(&self.state), place })
    }
}

/// A sleep under way; dropping it takes the sleeper off the list.
struct Sleep {
    state: Arc<Mutex<State>>,
    place: (Duration, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match lock(&self.state).sleepers.get_mut(&self.place) {
            Some(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        lock(&self.state).sleepers.remove(&self.place);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::stream::{FuturesUnordered, StreamExt};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn time_stands_still_until_it_is_advanced() {
        let clock = VirtualClock::new();
        let before = clock.now();
        assert_eq!(clock.now(), before);
        clock.advance(SECOND * 90);
        assert_eq!(clock.now().duration_since(before).as_secs(), 90);
        assert_eq!(clock.monotonic(), SECOND * 90);
    }

    #[test]
    fn a_wall_clock_that_is_set_leaves_the_monotonic_one_alone() {
        let clock = VirtualClock::new();
        let before = clock.now();
        clock.set_wall_clock(SignedDuration::from_secs(-60));
        clock.advance(SECOND * 10);
        assert_eq!((clock.now().duration_since(before).as_secs(), clock.monotonic()), (-50, SECOND * 10));
    }

    #[test]
    fn sleepers_wake_in_the_order_in_which_they_are_due() {
        let clock = VirtualClock::new();
        let mut sleeps: FuturesUnordered<_> =
            [3, 1, 2].into_iter().map(|due| clock.sleep(SECOND * due).map(move |()| due)).collect();
        assert_eq!(sleeps.next().now_or_never(), None);
        assert_eq!((clock.sleepers(), clock.next_wake()), (3, Some(SECOND)));
        clock.advance(SECOND * 5);
        let woken: Vec<u32> = sleeps.collect().now_or_never().expect("all are due");
        assert_eq!(woken, [1, 2, 3]);
        assert_eq!((clock.sleepers(), clock.next_wake()), (0, None));
    }

    #[test]
    fn a_dropped_sleep_is_forgotten() {
        let clock = VirtualClock::new();
        drop(clock.sleep(SECOND));
        assert_eq!(clock.sleepers(), 0);
    }

    #[test]
    fn a_sleep_is_due_at_its_time_and_not_before() {
        let clock = VirtualClock::new();
        let mut sleep = clock.sleep(SECOND);
        clock.advance(SECOND.checked_sub(Duration::from_nanos(1)).expect("a second is longer"));
        assert_eq!((&mut sleep).now_or_never(), None);
        clock.advance(Duration::from_nanos(1));
        assert_eq!(sleep.now_or_never(), Some(()));
    }
}
