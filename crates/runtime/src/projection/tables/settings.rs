//! How a projection into tables is mounted: in which database, pages, lanes, where it begins, what happens to an event that it
//! cannot take.

use std::sync::Arc;
use std::time::Duration;

use ensue_core::{Error, Store};

use super::{Page, TableProjection, TableSetup, Tables};
use crate::policy::{OnFailure, Retry, StartFrom};
use crate::projection::pace::Load;

/// A projection into tables with settings.
pub struct ConfiguredTables<P> {
    inner: P,
    setting: Arc<dyn Fn(&mut TableSetup) + Send + Sync>,
}

impl<P: TableProjection> ConfiguredTables<P> {
    fn new(inner: P, setting: impl Fn(&mut TableSetup) + Send + Sync + 'static) -> Self {
        Self { inner, setting: Arc::new(setting) }
    }
}

/// Settings of a projection into tables, where it is mounted: `app.project_tables(Totals.page(1_000).on(reporting))`.
pub trait TableProjectionExt: TableProjection + Sized {
    /// The tables are in the database of this store, which is not that of the log. The database keeps, in the transaction of the
    /// rows, how far they are, so a page that is delivered twice changes them once. Such a read model has one lane.
    fn on(self, store: impl Store + 'static) -> ConfiguredTables<Self> {
        let store: Arc<dyn Store> = Arc::new(store);
        ConfiguredTables::new(self, move |setup| setup.target = Some(Arc::clone(&store)))
    }

    /// Most events that are taken in one transaction; 512 unless it is said.
    fn page(self, events: usize) -> ConfiguredTables<Self> {
        ConfiguredTables::new(self, move |setup| setup.settings.batch = events.max(1))
    }

    /// What happens to an event that cannot be taken (it does not decode, or `apply` fails or panics), after the retries: the
    /// lane stops (the default), the key is parked, or the event is skipped and counted.
    fn on_failure(self, policy: OnFailure) -> ConfiguredTables<Self> {
        ConfiguredTables::new(self, move |setup| setup.settings.on_failure = policy)
    }

    /// Attempts before that.
    fn retry(self, retry: impl Into<Retry>) -> ConfiguredTables<Self> {
        let retry = retry.into();
        ConfiguredTables::new(self, move |setup| setup.settings.retry = retry)
    }

    /// How long `apply` may take for one page.
    fn timeout(self, timeout: Duration) -> ConfiguredTables<Self> {
        ConfiguredTables::new(self, move |setup| setup.settings.timeout = timeout)
    }

    /// How many lanes work side by side, each in transactions of its own; one unless it is said. Events are spread by the key
    /// of their stream, so with several lanes a row that is fed by several streams sees them in no order that is sure.
    fn lanes(self, lanes: u16) -> ConfiguredTables<Self> {
        ConfiguredTables::new(self, move |setup| setup.settings.lanes = lanes.max(1))
    }

    /// Where it begins when it has never run. A rebuild begins after the same position; one of a read model that began with
    /// [`StartFrom::Now`] takes the whole log.
    fn from(self, start: StartFrom) -> ConfiguredTables<Self> {
        ConfiguredTables::new(self, move |setup| setup.settings.start = start)
    }

    /// Most parked events; then the lane stops instead.
    fn dead_max(self, events: usize) -> ConfiguredTables<Self> {
        ConfiguredTables::new(self, move |setup| setup.settings.dead_max = events.max(1))
    }

    /// Who looks after it, and so whom its dead letters are for; in place of [`App::owner`](crate::App::owner).
    fn owner(self, owner: &'static str) -> ConfiguredTables<Self> {
        ConfiguredTables::new(self, move |setup| setup.settings.owner = Some(owner))
    }

    /// How much of the machine the build of a new `VERSION` may take; a quarter of the time of one core unless it is said.
    fn build_load(self, load: Load) -> ConfiguredTables<Self> {
        ConfiguredTables::new(self, move |setup| setup.load = load)
    }
}

impl<P: TableProjection> TableProjectionExt for P {}

impl<P: TableProjection> TableProjection for ConfiguredTables<P> {
    const NAME: &'static str = P::NAME;
    const VERSION: u32 = P::VERSION;
    type Event = P::Event;
    type Session = P::Session;

    fn tables(&self) -> Tables {
        self.inner.tables()
    }

    async fn apply(&self, page: Page<P::Event>, session: &P::Session) -> Result<(), Error> {
        self.inner.apply(page, session).await
    }

    fn set_up(&self, setup: &mut TableSetup) {
        self.inner.set_up(setup);
        (self.setting)(setup);
    }
}
