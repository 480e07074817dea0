//! Rate limits: how often handlers may be called, whatever waits for them.
//!
//! A [`Meter`] is a pure state machine (the generic cell rate algorithm): one point in time says how much has been
//! taken, so it holds neither tokens nor a queue, and time is handed in.

use std::time::Duration;

/// How often something may be called: so many times in a period, evenly spread.
///
/// Within any stretch of time there are at most as many calls as the rate allows, plus the burst. Every attempt takes
/// its turn, also one that fails. Waiting for a turn is no attempt.
///
/// Where processes share a store, each takes an equal part of the rate, so that all of them together keep to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Time between two calls.
    pub(crate) interval: Duration,
    pub(crate) burst: u32,
    pub(crate) name: Option<&'static str>,
}

impl Rate {
    /// So many calls in each second; at least 1.
    pub fn per_second(calls: u32) -> Self {
        Self::per(calls, Duration::from_secs(1))
    }

    /// So many calls in each minute; at least 1.
    pub fn per_minute(calls: u32) -> Self {
        Self::per(calls, Duration::from_mins(1))
    }

    fn per(calls: u32, period: Duration) -> Self {
        Self { interval: period / calls.max(1), burst: 1, name: None }
    }

    /// After a rest so many calls may come at once; 1 unless told otherwise.
    #[must_use]
    pub fn burst(self, calls: u32) -> Self {
        Self { burst: calls.max(1), ..self }
    }

    /// One limit for all handlers that name it, such as those that call one dependency. Without a name a handler has its
    /// limit for itself.
    #[must_use]
    pub fn named(self, name: &'static str) -> Self {
        Self { name: Some(name), ..self }
    }
}

/// What has been taken of a rate.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Meter {
    /// When as much has been allowed as has been taken.
    even_at: Duration,
}

impl Meter {
    /// Takes one call at this time, or says how long it is until one may be taken. `share` is how many processes share
    /// the rate.
    pub(crate) fn take(&mut self, rate: &Rate, share: u32, now: Duration) -> Result<(), Duration> {
        let interval = rate.interval.saturating_mul(share);
        let ahead_max = interval.saturating_mul(rate.burst - 1);
        let free_at = self.even_at.saturating_sub(ahead_max);
        if let Some(wait) = free_at.checked_sub(now).filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        self.even_at = self.even_at.max(now) + interval;
        Ok(())
    }

    /// Gives back a call that was taken and not made.
    pub(crate) fn give_back(&mut self, rate: &Rate, share: u32) {
        self.even_at = self.even_at.saturating_sub(rate.interval.saturating_mul(share));
    }

    /// Whether it is as if nothing had ever been taken.
    pub(crate) fn is_full(&self, now: Duration) -> bool {
        self.even_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The milliseconds at which calls are let through when somebody asks in each of them.
    fn taken(rate: Rate, share: u32, until_ms: u64) -> Vec<u64> {
        let mut meter = Meter::default();
        let mut is_taken = |ms: &u64| meter.take(&rate, share, Duration::from_millis(*ms)).is_ok();
        (0..until_ms).filter(|ms| is_taken(ms)).collect()
    }

    #[test]
    fn calls_are_evenly_spread() {
        assert_eq!(taken(Rate::per_second(50), 1, 100), [0, 20, 40, 60, 80]);
        assert_eq!(taken(Rate::per_minute(60), 1, 2_001), [0, 1_000, 2_000]);
    }

    #[test]
    fn a_burst_comes_at_once_and_then_the_rate_holds() {
        assert_eq!(taken(Rate::per_second(10).burst(3), 1, 301), [0, 1, 2, 100, 200, 300]);
    }

    #[test]
    fn processes_share_a_rate() {
        assert_eq!(taken(Rate::per_second(10), 2, 401), [0, 200, 400]);
    }

    #[test]
    fn the_wait_it_names_is_exact_and_what_is_given_back_can_be_taken() {
        let (rate, mut meter) = (Rate::per_second(4), Meter::default());
        let at = Duration::from_millis;
        assert_eq!(meter.take(&rate, 1, at(1_000)), Ok(()));
        assert_eq!(meter.take(&rate, 1, at(1_100)), Err(at(150)));
        assert!(!meter.is_full(at(1_100)));
        meter.give_back(&rate, 1);
        assert_eq!(meter.take(&rate, 1, at(1_100)), Ok(()));
    }
}
