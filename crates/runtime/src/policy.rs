//! How a handler is mounted: retries, what happens when they run out, lanes, where to begin.

use std::time::Duration;

use ensue_core::Position;

use crate::pressure::{Breaker, Quota, Rate};

/// When and how often a failed delivery is tried again, while its lane waits.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Retry {
    /// Attempts in all, the first included; at least 1.
    pub attempts: u32,
    /// Pause before the second attempt.
    pub first_pause: Duration,
    /// Each further pause is this much longer than the one before.
    pub factor: u32,
    /// No pause is longer.
    pub pause_max: Duration,
}

impl Retry {
    /// Five attempts over about 1.5 seconds: outlasts a hiccup, does not hold the lane for an outage.
    pub const DEFAULT: Self = Self {
        attempts: 5,
        first_pause: Duration::from_millis(100),
        factor: 2,
        pause_max: Duration::from_secs(10),
    };

    /// So many attempts in all.
    #[must_use]
    pub fn attempts(attempts: u32) -> Self {
        Self { attempts: attempts.max(1), ..Self::DEFAULT }
    }

    /// The pause after the `attempt`-th failed attempt (from 1), before jitter; `None` when there is no further one.
    pub fn pause_after(&self, attempt: u32) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let growth = self.factor.saturating_pow(attempt.saturating_sub(1));
        Some(self.first_pause.saturating_mul(growth).min(self.pause_max))
    }

    /// How long it can take until the last of the attempts is over, each of which may take `timeout`.
    pub fn longest(&self, timeout: Duration) -> Duration {
        let mut longest = timeout.saturating_mul(self.attempts);
        for attempt in 1..self.attempts {
            let pause = self.pause_after(attempt).unwrap_or_default();
            if self.factor <= 1 || pause == self.pause_max {
                // It grows no further.
                return longest.saturating_add(pause.saturating_mul(self.attempts - attempt));
            }
            longest = longest.saturating_add(pause);
        }
        longest
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl From<u32> for Retry {
    fn from(attempts: u32) -> Self {
        Self::attempts(attempts)
    }
}

/// What happens to an event when its retries have run out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnFailure {
    /// The key is parked: this event and every later one of the key wait as dead letters, other keys go on.
    #[default]
    Park,
    /// The lane stops and says so.
    Stop,
    /// The event is skipped for good; for handlers whose work is worth less than their progress.
    Skip,
}

/// Where a subscription begins that has never run before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum StartFrom {
    /// With the first event of the log.
    #[default]
    Beginning,
    /// With what comes after the start.
    Now,
    /// After this position.
    After(Position),
}

/// Settings of one subscription.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Settings {
    pub(crate) lanes: u16,
    pub(crate) retry: Retry,
    pub(crate) on_failure: OnFailure,
    pub(crate) start: StartFrom,
    /// Most deliveries settled by one commit.
    pub(crate) batch: usize,
    pub(crate) timeout: Duration,
    /// Most parked events; then the lane stops instead.
    pub(crate) dead_max: usize,
    /// Whom its dead letters are for.
    pub(crate) owner: Option<&'static str>,
    /// Around the dependency that it calls.
    pub(crate) breaker: Option<Breaker>,
    /// How often it may be called.
    pub(crate) rate: Option<Rate>,
    /// How often it may be called for each value of a tag.
    pub(crate) quota: Option<Quota>,
    /// The tag between whose values its lanes take turns.
    pub(crate) fair_by: Option<&'static str>,
}

impl Settings {
    pub(crate) const HANDLER: Self = Self {
        lanes: 8,
        retry: Retry::DEFAULT,
        on_failure: OnFailure::Park,
        start: StartFrom::Beginning,
        batch: 128,
        timeout: Duration::from_secs(30),
        dead_max: 10_000,
        owner: None,
        breaker: None,
        rate: None,
        quota: None,
        fair_by: None,
    };

    /// A projection is one lane, so that documents fed by several streams see one order.
    pub(crate) const PROJECTION: Self =
        Self { lanes: 1, batch: 512, on_failure: OnFailure::Stop, ..Self::HANDLER };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_bound_and_end() {
        let retry = Retry { attempts: 4, pause_max: Duration::from_millis(300), ..Retry::DEFAULT };
        let pauses: Vec<Option<u128>> =
            (1..=4).map(|n| retry.pause_after(n).map(|pause| pause.as_millis())).collect();
        assert_eq!(pauses, [Some(100), Some(200), Some(300), None]);
    }

    #[test]
    fn the_longest_retry_is_all_attempts_and_all_pauses() {
        let retry = Retry { attempts: 5, pause_max: Duration::from_millis(300), ..Retry::DEFAULT };
        assert_eq!(
            retry.longest(Duration::from_secs(1)),
            Duration::from_millis(5_000 + 100 + 200 + 300 + 300)
        );
        assert_eq!(Retry::attempts(1).longest(Duration::from_secs(1)), Duration::from_secs(1));
        let endless = Retry { attempts: u32::MAX, ..Retry::DEFAULT };
        assert!(endless.longest(Duration::ZERO) > Duration::from_hours(24 * 365));
    }
}
