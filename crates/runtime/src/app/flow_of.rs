//! Declaring a kind of flow: what begins it, what ends it, and how long it may take.

use std::time::Duration;

use ensue_core::Event;

use crate::catalogue::FlowEntry;

/// A kind of flow while it is being declared.
pub struct FlowOf(FlowEntry);

impl FlowOf {
    pub(super) fn new(entry: FlowEntry) -> Self {
        Self(entry)
    }

    pub(super) fn entry(self) -> FlowEntry {
        self.0
    }

    /// Begins with this event.
    #[must_use]
    pub fn starts<E: Event>(mut self) -> Self {
        self.0.starts.push(E::INFO.event_type.to_owned());
        self
    }

    /// Is complete with this event.
    #[must_use]
    pub fn ends<E: Event>(mut self) -> Self {
        self.0.ends.push(E::INFO.event_type.to_owned());
        self
    }

    /// Has failed with this event.
    #[must_use]
    pub fn fails<E: Event>(mut self) -> Self {
        self.0.fails.push(E::INFO.event_type.to_owned());
        self
    }

    /// Has failed with `E`, and is over once `U` says that what had been done is undone. Until then it is being
    /// compensated, and is stuck when nobody goes on with that.
    #[must_use]
    pub fn fails_until<E: Event, U: Event>(mut self) -> Self {
        self.0.undone.insert(E::INFO.event_type.to_owned(), U::INFO.event_type.to_owned());
        self.fails::<E>()
    }

    /// Needs a person after this event: it is stuck until it ends in another way.
    #[must_use]
    pub fn needs_attention<E: Event>(mut self) -> Self {
        self.0.attention.push(E::INFO.event_type.to_owned());
        self
    }

    /// Is late when it is not over after so long.
    #[must_use]
    pub fn within(mut self, duration: Duration) -> Self {
        self.0.within_ms = Some(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        self
    }
}
