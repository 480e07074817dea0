//! What is odd about a declared topology, but may be meant.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Catalogue, HandlerEntry};

impl Catalogue {
    /// What is odd but may be meant: events that nobody consumes; where handlers have owners, those that have none; handlers
    /// that can try for longer than ids are remembered.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.unconsumed();
        warnings.extend(self.unowned());
        warnings.extend(self.outlasting());
        warnings
    }

    fn unconsumed(&self) -> Vec<String> {
        let ends: BTreeSet<&String> = self
            .flows
            .iter()
            .flat_map(|flow| flow.ends.iter().chain(&flow.fails).chain(&flow.attention))
            .collect();
        self.events
            .keys()
            .filter(|event| !ends.contains(event) && self.consumers(event).next().is_none())
            .map(|event| format!("{event} is emitted, but nobody consumes it"))
            .collect()
    }

    /// An application that names no owner at all has one, whom everybody knows.
    fn unowned(&self) -> Vec<String> {
        let (owned, unowned): (Vec<_>, Vec<_>) =
            self.handlers.iter().partition(|handler| handler.owner.is_some());
        if owned.is_empty() {
            return Vec::new();
        }
        let warn = |name: &String| format!("{name} has no owner, so nobody is named for its dead letters");
        unowned.iter().map(|handler| warn(&handler.name)).collect()
    }
    /// While a handler still tries, a sender may repeat what it tries.
    fn outlasting(&self) -> Vec<String> {
        let window = self.window();
        let longest = |handler: &HandlerEntry| handler.retry_ms_max.map(Duration::from_millis);
        let lasts = self.handlers.iter().filter_map(|handler| Some((&handler.name, longest(handler)?)));
        lasts
            .filter(|(_, longest)| *longest > window)
            .map(|(name, longest)| {
                format!(
                    "{name} can try an event for {}, but ids are remembered for {}: what is repeated after that comes in anew; \
                     make `App::window` longer",
                    span(longest),
                    span(window)
                )
            })
            .collect()
    }
}

/// A duration in the largest unit of which there are two.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "days"), (3_600, "hours"), (60, "minutes")];
    let unit = units.into_iter().find(|(unit, _)| seconds >= 2 * unit);
    let (unit, name) = unit.unwrap_or((1, "seconds"));
    format!("{} {name}", seconds / unit)
}
