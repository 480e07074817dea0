//! The load of a build: how much of the machine it takes, and the pauses that keep it there.

use std::sync::Arc;
use std::time::Duration;

use ensue_core::{Clock, Host};

/// Shorter pauses are saved up: timers are a millisecond coarse.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// Pauses that lasted too long are made up for so far.
const AHEAD_MAX: Duration = Duration::from_millis(20);

/// How much of the machine a build may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Load {
    /// As fast as it goes, on every core. Whoever else uses the store waits longer meanwhile.
    Full,
    /// At most so many events a second; comparing and removing goes as fast as it can.
    EventsPerSecond(u64),
    /// At most this share of the time of one core, in percent from 1 to 100: a millisecond of work at a time, with pauses in
    /// between that are the longer, the more there is to do for others. The default is [`Load::PERCENT`].
    Percent(u8),
}

impl Load {
    /// The share of a build that is not told how much it may take.
    pub const PERCENT: u8 = 25;
}

impl Default for Load {
    fn default() -> Self {
        Self::Percent(Self::PERCENT)
    }
}

/// Makes the pauses between pieces of work.
pub(super) enum Pace {
    /// None but for those who wait for their turn.
    Full,
    Bounded(Bounded),
}

pub(super) struct Bounded {
    clock: Arc<dyn Clock>,
    load: Load,
    /// When the piece of work under way began.
    began: Duration,
    /// Pauses that are due, in microseconds; below zero after one that lasted too long.
    owed_us: i64,
}

impl Pace {
    /// The first piece of work begins now.
    pub(super) fn new(load: Load, host: &Host) -> Self {
        if load == Load::Full {
            return Self::Full;
        }
        let clock = Arc::clone(&host.clock);
        Self::Bounded(Bounded { began: clock.monotonic(), clock, load, owed_us: 0 })
    }

    /// Ends a piece of work on so many events, and begins the next one when it is due.
    pub(super) async fn pause(&mut self, events: u64) {
        match self {
            Self::Full => tokio::task::yield_now().await,
            Self::Bounded(bounded) => bounded.pause(events).await,
        }
    }
}

impl Bounded {
    async fn pause(&mut self, events: u64) {
        let worked_until = self.clock.monotonic();
        let took = micros(worked_until.saturating_sub(self.began));
        let due = match self.load {
            Load::Full => 0,
            Load::EventsPerSecond(rate) => micros_of(events, rate).saturating_sub(took),
            Load::Percent(share) => {
                let share = i64::from(share.clamp(1, 100));
                took.saturating_mul(100 - share) / share
            }
        };
        // What was slept too long is made up for, but never by a rush.
        self.owed_us = self.owed_us.saturating_add(due).max(-micros(AHEAD_MAX));
        let pause = Duration::from_micros(self.owed_us.try_into().unwrap_or_default());
        if pause >= PAUSE_MIN {
            self.clock.sleep(pause).await;
        } else {
            tokio::task::yield_now().await;
        }
        self.began = self.clock.monotonic();
        self.owed_us -= micros(self.began.saturating_sub(worked_until));
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// How long so many events take at this rate.
fn micros_of(events: u64, rate: u64) -> i64 {
    i64::try_from(events.saturating_mul(1_000_000) / rate.max(1)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use ensue_core::{BoxFuture, Entropy, Timestamp};

    use super::*;

    /// Stands still but for work and sleep.
    #[derive(Default)]
    struct Steps {
        micros: AtomicU64,
        sleeps: AtomicU64,
    }

    impl Clock for Steps {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }

        fn monotonic(&self) -> Duration {
            Duration::from_micros(self.micros.load(Ordering::Relaxed))
        }

        fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
            self.sleeps.fetch_add(1, Ordering::Relaxed);
            // A timer of the executor is late.
            self.micros
                .fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX) + 300, Ordering::Relaxed);
            Box::pin(std::future::ready(()))
        }
    }

    struct Zeros;

    impl Entropy for Zeros {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    /// How long it takes, and in how many pauses, to do so many pieces of work of so many microseconds each.
    async fn taken(load: Load, pieces: u32, micros: u64) -> (Duration, u64) {
        let clock = Arc::new(Steps::default());
        let host = Host { clock: Arc::clone(&clock) as Arc<dyn Clock>, entropy: Arc::new(Zeros) };
        let mut pace = Pace::new(load, &host);
        for _ in 0..pieces {
            clock.micros.fetch_add(micros, Ordering::Relaxed);
            pace.pause(100).await;
        }
        (clock.monotonic(), clock.sleeps.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn a_share_of_the_time_is_kept_whatever_the_size_of_the_pieces_and_however_late_the_timer() {
        for micros in [20, 100, 1_000, 50_000] {
            let pieces = u32::try_from(1_000_000 / micros).expect("it is small");
            let (took, sleeps) = taken(Load::Percent(25), pieces, micros).await;
            let seconds = took.as_secs_f64();
            assert!((3.98..4.06).contains(&seconds), "{micros} µs each: {seconds} s");
            assert!(sleeps <= 3_000, "{sleeps} pauses");
        }
        assert_eq!(taken(Load::Full, 1_000, 1_000).await, (Duration::from_secs(1), 0));
        assert_eq!(taken(Load::Percent(100), 1_000, 1_000).await, (Duration::from_secs(1), 0));
    }

    #[tokio::test]
    async fn a_rate_is_kept_and_work_is_part_of_the_time() {
        let (took, sleeps) = taken(Load::EventsPerSecond(10_000), 100, 4_000).await;
        assert!((0.99..1.01).contains(&took.as_secs_f64()) && sleeps > 0, "{took:?}, {sleeps} pauses");
        let (took, sleeps) = taken(Load::EventsPerSecond(10_000), 100, 40_000).await;
        assert_eq!(
            (took, sleeps),
            (Duration::from_secs(4), 0),
            "work that is slower than the rate is not held up"
        );
    }
}
