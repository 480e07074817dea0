//! Queries over types and tags: the shape of the public DCB specification (dcb.events).

use crate::envelope::Envelope;
use crate::name::{EventType, Tag};

/// Matches an event if any of its items does. A query without items matches everything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Query {
    /// Alternatives.
    pub items: Vec<QueryItem>,
}

/// Matches an event whose type is any of `types` (no types: any type) and that carries all of `tags`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QueryItem {
    /// Any of these.
    pub types: Vec<EventType>,
    /// All of these.
    pub tags: Vec<Tag>,
}

impl Query {
    /// Matches every event.
    pub fn all() -> Self {
        Self::default()
    }

    /// Matches events of any of these types; no types at all match nothing less than everything, so pass at least one.
    pub fn types(types: impl IntoIterator<Item = EventType>) -> Self {
        Self { items: vec![QueryItem { types: types.into_iter().collect(), tags: Vec::new() }] }
    }

    /// Matches events that carry all of these tags.
    pub fn tags(tags: impl IntoIterator<Item = Tag>) -> Self {
        Self { items: vec![QueryItem { types: Vec::new(), tags: tags.into_iter().collect() }] }
    }

    /// Adds an alternative.
    #[must_use]
    pub fn or(mut self, item: QueryItem) -> Self {
        self.items.push(item);
        self
    }

    /// Whether every event matches.
    pub fn is_all(&self) -> bool {
        self.items.is_empty() || self.items.iter().any(|item| item.types.is_empty() && item.tags.is_empty())
    }

    /// Whether this event matches.
    pub fn matches(&self, envelope: &Envelope) -> bool {
        self.items.is_empty() || self.items.iter().any(|item| item.matches(envelope))
    }
}

impl QueryItem {
    /// Whether this event matches.
    pub fn matches(&self, envelope: &Envelope) -> bool {
        let type_fits = self.types.is_empty() || self.types.contains(&envelope.event_type);
        type_fits && self.tags.iter().all(|tag| envelope.tags.contains(tag))
    }
}
