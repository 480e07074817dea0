//! What does not hold together in the declared topology, and where what was observed differs from it.

use std::collections::BTreeSet;

use ensue_core::Error;
use serde::Serialize;

use super::Flows;
use crate::catalogue::{Catalogue, FlowEntry, HandlerKind};

/// One thing that is odd.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// Which rule it breaks.
    pub rule: Rule,
    /// The event type, handler or kind of flow that it is about.
    pub subject: String,
    /// In words.
    pub message: String,
}

/// What is looked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// A handler waits for a type that nothing causes and that does not come from outside.
    Orphan,
    /// A type that nobody consumes and that ends no flow.
    Unconsumed,
    /// Handlers cause each other in a circle.
    Cycle,
    /// A kind of flow without a declared end: whether one is stuck cannot be told.
    NoEnd,
    /// A declared end that nothing leads to from the declared starts.
    EndOutOfReach,
    /// A handler was seen to cause what it does not declare, or something began with a type that nobody declares to come
    /// from outside.
    Undeclared,
}

impl Rule {
    /// As it is written in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Orphan => "orphan",
            Self::Unconsumed => "unconsumed",
            Self::Cycle => "cycle",
            Self::NoEnd => "no_end",
            Self::EndOutOfReach => "end_out_of_reach",
            Self::Undeclared => "undeclared",
        }
    }
}

impl Flows {
    /// What is odd in the topology, by rule.
    pub async fn lint(&self) -> Result<Vec<Finding>, Error> {
        let mut findings = of_catalogue(&self.catalogue);
        for edge in self.map().await?.observed.into_iter().filter(|edge| !edge.is_declared) {
            let message = format!(
                "{} was seen to cause {} from {}, {} ×, and does not declare it",
                edge.handler, edge.to, edge.from, edge.count
            );
            findings.push(Finding { rule: Rule::Undeclared, subject: edge.handler, message });
        }
        for (event_type, times) in self.index().await?.completeness.strangers {
            let message =
                format!("was seen {times} × without a cause, and nobody declares that it comes from outside");
            findings.push(Finding { rule: Rule::Undeclared, subject: event_type, message });
        }
        Ok(findings)
    }
}

/// What is odd in the declarations alone.
pub(crate) fn of_catalogue(catalogue: &Catalogue) -> Vec<Finding> {
    let mut findings = orphans(catalogue);
    findings.extend(unconsumed(catalogue));
    findings.extend(cycles(catalogue));
    catalogue.flows.iter().for_each(|flow| findings.extend(ends(catalogue, flow)));
    findings
}

fn finding(rule: Rule, subject: &str, message: String) -> Finding {
    Finding { rule, subject: subject.to_owned(), message }
}

fn orphans(catalogue: &Catalogue) -> Vec<Finding> {
    let mut findings = Vec::new();
    for handler in catalogue.handlers.iter().filter(|handler| handler.kind != HandlerKind::Command) {
        let is_produced = |event: &&String| {
            catalogue.external.contains(*event) || catalogue.producers(event).next().is_some()
        };
        for orphan in handler.consumes.iter().filter(|event| !is_produced(event)) {
            let message =
                format!("{} of {} waits for it, and nothing causes it", handler.name, handler.service);
            findings.push(finding(Rule::Orphan, orphan, message));
        }
    }
    findings
}

fn unconsumed(catalogue: &Catalogue) -> Vec<Finding> {
    let is_end = |event: &String| {
        catalogue.flows.iter().any(|flow| {
            [&flow.ends, &flow.fails, &flow.attention].into_iter().any(|types| types.contains(event))
                || flow.undone.values().any(|undone| undone == event)
        })
    };
    let nobody = |event: &&String| catalogue.consumers(event).next().is_none() && !is_end(event);
    let events = catalogue.events.keys().filter(nobody);
    events
        .map(|event| {
            let services: BTreeSet<&str> =
                catalogue.producers(event).map(|handler| handler.service.as_str()).collect();
            let services: Vec<&str> = services.into_iter().collect();
            let by = if services.is_empty() { "nobody here".to_owned() } else { services.join(", ") };
            finding(
                Rule::Unconsumed,
                event,
                format!("caused by {by}, consumed by nobody, and no declared end"),
            )
        })
        .collect()
}

/// Circles of reactions: each begins with its first name, so that it is told once.
fn cycles(catalogue: &Catalogue) -> Vec<Finding> {
    let mut circles = BTreeSet::new();
    for start in catalogue.events.keys() {
        let mut seen = BTreeSet::new();
        walk(catalogue, start, &mut vec![start], &mut seen, &mut circles);
    }
    let told = |circle: Vec<String>| {
        let first = circle.first().cloned().unwrap_or_default();
        finding(
            Rule::Cycle,
            &first,
            format!("{} → {first}: a circle without a declared bound", circle.join(" → ")),
        )
    };
    circles.into_iter().map(told).collect()
}

fn walk<'a>(
    catalogue: &'a Catalogue,
    start: &str,
    path: &mut Vec<&'a String>,
    seen: &mut BTreeSet<&'a String>,
    circles: &mut BTreeSet<Vec<String>>,
) {
    let Some(event) = path.last().copied() else { return };
    let reactions = catalogue.consumers(event).filter(|handler| handler.kind == HandlerKind::Reaction);
    for caused in reactions.flat_map(|handler| &handler.causes) {
        if caused == start {
            let is_first = path.iter().all(|other| other.as_str() >= start);
            circles.extend(is_first.then(|| path.iter().map(ToString::to_string).collect()));
        } else if seen.insert(caused) {
            path.push(caused);
            walk(catalogue, start, path, seen, circles);
            path.pop();
        }
    }
}

fn ends(catalogue: &Catalogue, flow: &FlowEntry) -> Vec<Finding> {
    if !flow.has_ends() {
        let message = "declares no end: whether such a flow is stuck cannot be told".to_owned();
        return vec![finding(Rule::NoEnd, &flow.name, message)];
    }
    let mut reached: BTreeSet<&String> = flow.starts.iter().collect();
    let mut todo: Vec<&String> = flow.starts.iter().collect();
    while let Some(event) = todo.pop() {
        let caused = catalogue.consumers(event).flat_map(|handler| &handler.causes);
        todo.extend(caused.filter(|caused| reached.insert(caused)));
    }
    let is_far = |end: &&String| !reached.contains(end) && !catalogue.external.contains(*end);
    let far = flow.ends.iter().filter(is_far);
    far.map(|end| {
        let message =
            format!("is an end of {}, but nothing leads to it from {}", flow.name, flow.starts.join(", "));
        finding(Rule::EndOutOfReach, end, message)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{EventEntry, HandlerEntry};

    fn handler(name: &str, consumes: &str, causes: &[&str]) -> HandlerEntry {
        HandlerEntry {
            name: name.to_owned(),
            service: format!("{name}-service"),
            kind: HandlerKind::Reaction,
            consumes: vec![consumes.to_owned()],
            causes: causes.iter().map(ToString::to_string).collect(),
            lanes: 1,
            retry_ms_max: None,
            owner: None,
        }
    }

    fn found(catalogue: &Catalogue) -> Vec<(Rule, String)> {
        of_catalogue(catalogue).into_iter().map(|finding| (finding.rule, finding.subject)).collect()
    }

    #[test]
    fn each_rule_finds_what_breaks_it_and_nothing_in_a_whole_topology() {
        let mut catalogue = Catalogue {
            handlers: vec![
                handler("pay", "Placed", &["Paid", "Declined"]),
                handler("ship", "Paid", &["Shipped"]),
            ],
            external: ["Placed".to_owned()].into(),
            ..Catalogue::default()
        };
        for event in ["Placed", "Paid", "Declined", "Shipped"] {
            let entry = EventEntry { version: 1, topic: "T".to_owned(), key_field: "k".to_owned() };
            catalogue.events.insert(event.to_owned(), entry);
        }
        catalogue.flows.push(FlowEntry {
            name: "order".to_owned(),
            starts: vec!["Placed".to_owned()],
            ends: vec!["Shipped".to_owned()],
            fails: vec!["Declined".to_owned()],
            ..FlowEntry::default()
        });
        assert_eq!(found(&catalogue), []);

        let mut odd = catalogue.clone();
        odd.flows.clear();
        assert_eq!(
            found(&odd),
            [(Rule::Unconsumed, "Declined".to_owned()), (Rule::Unconsumed, "Shipped".to_owned())]
        );
        let mut odd = catalogue.clone();
        odd.handlers.push(handler("wait", "Never", &[]));
        assert_eq!(found(&odd), [(Rule::Orphan, "Never".to_owned())]);
        let mut odd = catalogue.clone();
        odd.handlers.push(handler("again", "Shipped", &["Paid"]));
        assert_eq!(found(&odd), [(Rule::Cycle, "Paid".to_owned())]);
        let mut odd = catalogue.clone();
        odd.handlers.retain(|handler| handler.name != "ship");
        let far = (Rule::EndOutOfReach, "Shipped".to_owned());
        assert_eq!(found(&odd), [(Rule::Unconsumed, "Paid".to_owned()), far]);
        let mut odd = catalogue;
        odd.flows.iter_mut().for_each(|flow| flow.ends.clear());
        assert_eq!(
            found(&odd),
            [(Rule::Unconsumed, "Shipped".to_owned()), (Rule::NoEnd, "order".to_owned())]
        );
    }
}
