//! How a projection is mounted: lanes, batches, where it begins, what happens to an event it cannot take.

use std::sync::Arc;

use super::pace::Load;
use super::{Projection, Setup};
use crate::context::Meta;
use crate::policy::{OnFailure, Retry, StartFrom};

/// A projection with settings.
pub struct Configured<P> {
    inner: P,
    setting: Arc<dyn Fn(&mut Setup) + Send + Sync>,
}

impl<P: Projection> Configured<P> {
    fn new(inner: P, setting: impl Fn(&mut Setup) + Send + Sync + 'static) -> Self {
        Self { inner, setting: Arc::new(setting) }
    }
}

/// Settings of a projection, where it is mounted: `app.project(OrdersView.on_failure(OnFailure::Park).batch(1_000))`.
pub trait ProjectionExt: Projection + Sized {
    /// What happens to an event that the projection cannot take (it does not decode, or `apply` panics), after the retries:
    /// the lane stops (the default), the key is parked, or the event is skipped and counted.
    fn on_failure(self, policy: OnFailure) -> Configured<Self> {
        Configured::new(self, move |setup| setup.settings.on_failure = policy)
    }

    /// Attempts before that; a pure function that failed once mostly fails again.
    fn retry(self, retry: impl Into<Retry>) -> Configured<Self> {
        let retry = retry.into();
        Configured::new(self, move |setup| setup.settings.retry = retry)
    }

    /// How many lanes work side by side; one unless it is said. Events are spread by the key of their stream, so with several
    /// lanes a document that is fed by several streams sees them in no order that is sure.
    fn lanes(self, lanes: u16) -> Configured<Self> {
        Configured::new(self, move |setup| setup.settings.lanes = lanes.max(1))
    }

    /// Most events that share one commit.
    fn batch(self, events: usize) -> Configured<Self> {
        Configured::new(self, move |setup| setup.settings.batch = events.max(1))
    }

    /// Where it begins when it has never run. A rebuild begins after the same position; one of a read model that began with
    /// [`StartFrom::Now`] takes the whole log.
    fn from(self, start: StartFrom) -> Configured<Self> {
        Configured::new(self, move |setup| setup.settings.start = start)
    }

    /// Most parked events; then the lane stops instead.
    fn dead_max(self, events: usize) -> Configured<Self> {
        Configured::new(self, move |setup| setup.settings.dead_max = events.max(1))
    }

    /// Who looks after it, and so whom its dead letters are for; in place of [`App::owner`](crate::App::owner).
    fn owner(self, owner: &'static str) -> Configured<Self> {
        Configured::new(self, move |setup| setup.settings.owner = Some(owner))
    }

    /// Changes in the commit of the command whose events feed it: whoever has the receipt reads them without waiting. All of its
    /// events have to come from aggregates of the application (`E0509`), `apply` must not keep [`Meta::position`] or
    /// [`Meta::recorded_at`] (`E0322`), and an event that it cannot take is a command that fails, whatever
    /// [`ProjectionExt::on_failure`] says.
    ///
    /// While it has events to catch up with that were appended before it was inline, or the build of a new
    /// `VERSION` is under way, it is fed by its lanes like any other. A document that commands of several keys change makes these
    /// commands wait for each other.
    fn inline(self) -> Configured<Self> {
        Configured::new(self, |setup| setup.is_inline = true)
    }

    /// How much of the machine the build of a new `VERSION` may take; a quarter of the time of one core unless it is said.
    fn build_load(self, load: Load) -> Configured<Self> {
        Configured::new(self, move |setup| setup.load = load)
    }
}

impl<P: Projection> ProjectionExt for P {}

impl<P: Projection> Projection for Configured<P> {
    const NAME: &'static str = P::NAME;
    const VERSION: u32 = P::VERSION;
    type Event = P::Event;
    type Document = P::Document;

    fn key(&self, event: &P::Event) -> Option<String> {
        self.inner.key(event)
    }

    fn apply(&self, document: &mut Option<P::Document>, event: &P::Event, meta: &Meta) {
        self.inner.apply(document, event, meta);
    }

    fn index(&self, document: &P::Document) -> Vec<(&'static str, String)> {
        self.inner.index(document)
    }

    fn invalidates(&self, document: &P::Document) -> Vec<String> {
        self.inner.invalidates(document)
    }

    fn set_up(&self, setup: &mut Setup) {
        self.inner.set_up(setup);
        (self.setting)(setup);
    }
}
