//! The settings of a handler while it is being mounted.

use std::time::Duration;

use crate::policy::{OnFailure, Retry, Settings, StartFrom};
use crate::pressure::{Breaker, Quota, Rate};

/// The settings of a handler while it is being mounted. A reaction has them as methods of its own; for the handler of a
/// command they are set by [`App::handle_with`](crate::App::handle_with).
#[derive(Clone, Copy)]
pub struct Mounting(pub(crate) Settings);

impl Mounting {
    fn with(mut self, set: impl FnOnce(&mut Settings)) -> Self {
        set(&mut self.0);
        self
    }

    /// So many attempts, or a whole [`Retry`] policy.
    #[must_use]
    pub fn retry(self, retry: impl Into<Retry>) -> Self {
        self.with(|settings| settings.retry = retry.into())
    }

    /// How many keys are worked on at the same time, at most.
    #[must_use]
    pub fn lanes(self, lanes: u16) -> Self {
        self.with(|settings| settings.lanes = lanes.max(1))
    }

    /// Most deliveries that share one commit. After a crash as many may be repeated, with the same idempotency keys.
    #[must_use]
    pub fn batch(self, deliveries: usize) -> Self {
        self.with(|settings| settings.batch = deliveries.max(1))
    }

    /// How long one attempt may take.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|settings| settings.timeout = timeout)
    }

    /// When retries have run out: park the key (the default), stop the lane, or skip the event.
    #[must_use]
    pub fn on_failure(self, policy: OnFailure) -> Self {
        self.with(|settings| settings.on_failure = policy)
    }

    /// Most parked events; then the lane stops instead.
    #[must_use]
    pub fn dead_max(self, events: usize) -> Self {
        self.with(|settings| settings.dead_max = events.max(1))
    }

    /// Who looks after it, and so whom its dead letters are for; in place of [`App::owner`](crate::App::owner).
    #[must_use]
    pub fn owner(self, owner: &'static str) -> Self {
        self.with(|settings| settings.owner = Some(owner))
    }

    /// Calls nothing while the dependency is down; see [`Breaker`].
    #[must_use]
    pub fn breaker(self, breaker: Breaker) -> Self {
        self.with(|settings| settings.breaker = Some(breaker))
    }

    /// How often it may be called, over all lanes. Deliveries wait for their turn in their lane; see [`Rate`].
    #[must_use]
    pub fn rate(self, rate: Rate) -> Self {
        self.with(|settings| settings.rate = Some(rate))
    }

    /// How often it may be called for each value of this tag; events without it count as one value. A delivery that waits
    /// for its turn holds up what is behind it in its lane, also of other values, unless its lanes are [fair](Self::fair_by).
    #[must_use]
    pub fn quota(self, tag: &'static str, rate: Rate) -> Self {
        self.with(|settings| settings.quota = Some(Quota { tag, rate }))
    }

    /// Takes turns between the values of this tag, so that one tenant's flood does not hold up the others: each lane works
    /// on one batch of one value, then on one of the next that waits; events without the tag are one value. An event of a
    /// value for which nothing waits is so handled after at most one batch of each value that does, up to 64 in a lane;
    /// a smaller [`batch`](Self::batch) makes turns shorter. A value over its [`quota`](Self::quota) lets the others go on.
    ///
    /// Order holds for the deliveries of a key that carry the same value: choose a tag that a key does not change.
    #[must_use]
    pub fn fair_by(self, tag: &'static str) -> Self {
        self.with(|settings| settings.fair_by = Some(tag))
    }

    /// Where to begin when the handler has never run before.
    #[must_use]
    pub fn from(self, start: StartFrom) -> Self {
        self.with(|settings| settings.start = start)
    }
}
