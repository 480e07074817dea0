//! Projections: read models fed from the log, in one commit with their checkpoint.
//!
//! A read model has generations: one that readers see, and at times one that is being built beside it.

use std::sync::Arc;

use ensue_core::{Error, EventSet, Store};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::collection::Collection;
use crate::context::Meta;
use crate::policy::{Settings, StartFrom};

pub mod audit;
mod build;
mod compare;
mod generation;
mod handler;
mod history;
mod hold;
mod inline;
mod model;
mod pace;
mod rebuild;
mod replay;
mod settings;
mod tables;

pub use audit::{Alarm, Audit, LaneAudit, audit};
pub use compare::{Difference, verify};
pub use generation::Generation;
pub use history::{blame, document_at};
pub use model::{Building, ModelStatus, Projections, ReadModel, declared};
pub use pace::Load;
pub use rebuild::{Rebuilt, rebuild};
pub use settings::{Configured, ProjectionExt};
pub use tables::{ConfiguredTables, Page, TableProjection, TableProjectionExt, TableSetup, Tables};

pub(crate) use generation::{Live, live, under_construction};
pub(crate) use handler::ProjectionHandler;
pub(crate) use inline::{Inline, InlineModel, fence};
pub(crate) use model::{Model, ModelOf, Mount, drive};
pub(crate) use tables::{Fit, Keeper, TableHandler, TableModel, table_setup_of};

/// A read model: which document an event belongs to, and what it changes there. Pure: no I/O, no clock, so that it
/// can be rebuilt at any time.
pub trait Projection: Send + Sync + 'static {
    /// Its name; owns checkpoint and documents.
    const NAME: &'static str;
    /// Raise it when `apply` or the shape of the document changes: the read model is then built anew beside the old one.
    const VERSION: u32 = 1;
    /// The events it is fed with.
    type Event: EventSet;
    /// What it keeps.
    type Document: Serialize + DeserializeOwned + Clone + Send + Sync + 'static;

    /// The key of the document this event changes; `None` for an event that changes nothing.
    fn key(&self, event: &Self::Event) -> Option<String>;

    /// Changes the document. It starts as `None` and is removed by setting it to `None`.
    fn apply(&self, document: &mut Option<Self::Document>, event: &Self::Event, meta: &Meta);

    /// Under what the document can be found besides its key: (index, value).
    fn index(&self, _document: &Self::Document) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Names of cached values that are out of date when this document changes.
    fn invalidates(&self, _document: &Self::Document) -> Vec<String> {
        Vec::new()
    }

    #[doc(hidden)]
    fn set_up(&self, _setup: &mut Setup) {}
}

/// The settings of a projection while it is being mounted.
pub struct Setup {
    pub(crate) settings: Settings,
    /// Whether it changes in the commit of the command that causes its events.
    pub(crate) is_inline: bool,
    /// For the build of a new version.
    pub(crate) load: Load,
}

impl Setup {
    /// The position after which a rebuild begins.
    fn beginning(&self) -> ensue_core::Position {
        match self.settings.start {
            StartFrom::After(position) => position,
            StartFrom::Beginning | StartFrom::Now => ensue_core::Position::ZERO,
        }
    }
}

/// How a projection is mounted.
pub(crate) fn setup_of<P: Projection>(projection: &P) -> Setup {
    let mut setup = Setup { settings: Settings::PROJECTION, is_inline: false, load: Load::default() };
    projection.set_up(&mut setup);
    setup
}

/// The documents of a projection, as they stand in this store.
pub fn collection<P: Projection>(store: Arc<dyn Store>) -> Result<Collection<P::Document>, Error> {
    // A name that makes no space is refused here, not at the first read.
    Generation::first(P::VERSION).place(P::NAME)?;
    Ok(Collection::new(store, P::NAME, P::VERSION))
}

/// Lets a projection be used in several places.
struct Shared<P>(Arc<P>);

impl<P: Projection> Projection for Shared<P> {
    const NAME: &'static str = P::NAME;
    const VERSION: u32 = P::VERSION;
    type Event = P::Event;
    type Document = P::Document;

    fn key(&self, event: &P::Event) -> Option<String> {
        self.0.key(event)
    }

    fn apply(&self, document: &mut Option<P::Document>, event: &P::Event, meta: &Meta) {
        self.0.apply(document, event, meta);
    }

    fn index(&self, document: &P::Document) -> Vec<(&'static str, String)> {
        self.0.index(document)
    }

    fn set_up(&self, setup: &mut Setup) {
        self.0.set_up(setup);
    }
}

/// Under what a document can be found; nothing where there is none.
fn encode_index<P: Projection>(
    projection: &P,
    document: Option<&P::Document>,
) -> Vec<(&'static str, String)> {
    document.map(|document| projection.index(document)).unwrap_or_default()
}

/// Before the name of a projection, in that of its subscription.
const SUBSCRIPTION_PREFIX: &str = "view.";

/// The name that a projection's checkpoint goes by.
pub(crate) fn subscription_name(name: &str) -> String {
    format!("{SUBSCRIPTION_PREFIX}{name}")
}
