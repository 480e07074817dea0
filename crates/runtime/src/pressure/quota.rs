//! Quotas: a rate for each value of a tag, so that one tenant cannot use up what all of them share.
//!
//! Invariant: it remembers at most [`VALUES_MAX`] values, and only those that have taken something lately.

use std::collections::HashMap;
use std::time::Duration;

use ensue_core::Envelope;
use smol_str::SmolStr;

use super::rate::{Meter, Rate};

/// Most values that are told apart at one time; those beyond share one rate until there is room.
pub(crate) const VALUES_MAX: usize = 10_000;

/// A rate for each value of a tag. Events without the tag count as one value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Quota {
    pub(crate) tag: &'static str,
    pub(crate) rate: Rate,
}

/// What each value has taken.
#[derive(Default)]
pub(crate) struct Meters {
    by_value: HashMap<SmolStr, Meter>,
    /// Of all values for which there is no room.
    others: Meter,
}

impl Meters {
    /// Like [`Meter::take`], for this value.
    pub(crate) fn take(
        &mut self,
        value: &str,
        rate: &Rate,
        share: u32,
        now: Duration,
    ) -> Result<(), Duration> {
        self.of(value, now).take(rate, share, now)
    }

    pub(crate) fn give_back(&mut self, value: &str, rate: &Rate, share: u32, now: Duration) {
        self.of(value, now).give_back(rate, share);
    }

    fn of(&mut self, value: &str, now: Duration) -> &mut Meter {
        if !self.by_value.contains_key(value) {
            if self.by_value.len() >= VALUES_MAX {
                self.by_value.retain(|_, meter| !meter.is_full(now));
            }
            if self.by_value.len() >= VALUES_MAX {
                return &mut self.others;
            }
        }
        self.by_value.entry(value.into()).or_default()
    }
}

/// The value of a tag of this name; empty where there is none.
pub(crate) fn value_of<'a>(envelope: &'a Envelope, tag: &str) -> &'a str {
    envelope.tags.iter().find(|known| known.name() == tag).map_or("", |known| known.value())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: fn() -> Rate = || Rate::per_second(1);

    #[test]
    fn each_value_has_a_rate_of_its_own() {
        let mut meters = Meters::default();
        assert_eq!(meters.take("acme", &RATE(), 1, Duration::ZERO), Ok(()));
        assert_eq!(meters.take("acme", &RATE(), 1, Duration::ZERO), Err(Duration::from_secs(1)));
        assert_eq!(meters.take("small", &RATE(), 1, Duration::ZERO), Ok(()));
    }

    #[test]
    fn it_forgets_values_at_rest_and_grows_no_further_than_its_bound() {
        let mut meters = Meters::default();
        for value in 0..VALUES_MAX {
            assert_eq!(meters.take(&value.to_string(), &RATE(), 1, Duration::ZERO), Ok(()));
        }
        // Two that find no room share one rate.
        assert_eq!(meters.take("first beyond", &RATE(), 1, Duration::ZERO), Ok(()));
        assert!(meters.take("second beyond", &RATE(), 1, Duration::ZERO).is_err());
        assert_eq!(meters.by_value.len(), VALUES_MAX);
        // A second later all are at rest.
        assert_eq!(meters.take("second beyond", &RATE(), 1, Duration::from_secs(1)), Ok(()));
        assert_eq!(meters.by_value.len(), 1);
    }
}
