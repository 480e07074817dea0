//! What is odd about a declared topology, but may be meant.

use std::collections::BTreeSet;

use super::Catalogue;

impl Catalogue {
    /// What is odd but may be meant: events that nobody consumes; where handlers have owners, those that have none.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.unconsumed();
        warnings.extend(self.unowned());
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
}
