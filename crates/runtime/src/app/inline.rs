//! Inline read models of an application: mounted, and checked to miss nothing.

use std::sync::Arc;

use ensue_core::{Code, Error, EventInfo, EventSet, Store};

use super::App;
use crate::cache::Invalidate;
use crate::projection::{InlineModel, Projection, ProjectionHandler};

type Build = Box<dyn FnOnce(&Arc<dyn Store>, &[Arc<dyn Invalidate>]) -> Arc<dyn InlineModel> + Send>;

/// An inline read model before the application starts.
pub(super) struct Mounted {
    name: &'static str,
    types: Vec<EventInfo>,
    pub(super) build: Build,
}

impl App {
    pub(super) fn mount_inline<P: Projection>(&mut self, projection: &Arc<P>) {
        let (projection, host) = (Arc::clone(projection), self.host.clone());
        let build: Build = Box::new(move |store, caches| {
            Arc::new(ProjectionHandler {
                projection,
                store: Arc::clone(store),
                caches: caches.to_vec(),
                host,
            })
        });
        self.inline.push(Mounted { name: P::NAME, types: P::Event::types(), build });
    }

    /// Whether the events of inline read models come from aggregates alone: what anybody else appends would be shown later.
    pub(super) fn check_inline(&self) -> Result<(), Error> {
        let Some(first) = self.inline.first() else { return Ok(()) };
        let can_condition = self.store.as_ref().is_none_or(|store| store.capabilities().can_condition);
        if !can_condition {
            let message = format!("{} is inline, but the store takes no conditions", first.name);
            return Err(Error::new(Code::UNSUPPORTED, message).with_fix("mount it without `.inline()`"));
        }
        self.inline.iter().try_for_each(|model| {
            let other = model
                .types
                .iter()
                .find_map(|info| Some((info.event_type, self.producer_but_aggregates(info)?)));
            other.map_or(Ok(()), |(event_type, other)| {
                Err(Error::new(
                    Code::NOT_INLINE,
                    format!("{} is inline, but {event_type} also comes from {other}", model.name),
                ))
            })
        })
    }

    /// Who causes this type besides aggregates.
    fn producer_but_aggregates(&self, info: &EventInfo) -> Option<String> {
        if self.catalogue.external.contains(info.event_type) {
            return Some("outside".to_owned());
        }
        let is_aggregate =
            |name: &str| self.routes.iter().any(|route| route.is_aggregate && route.subscription() == name);
        let mut producers = self.catalogue.producers(info.event_type);
        producers.find(|handler| !is_aggregate(&handler.name)).map(|handler| handler.name.clone())
    }
}
