//! The topology: what is declared against what was observed, with rates; and what does not hold together in it.

use std::collections::{BTreeMap, BTreeSet};

use ensue_core::{Error, Read, StoreExt};
use serde::Serialize;

use super::Flows;
use super::index::{Edge, Figures, Index};
use super::stats::EdgeStats;
use crate::catalogue::{Catalogue, HandlerEntry, HandlerKind};

/// Who is outside.
const OUTSIDE: &str = "outside";

/// Services and what passes between them.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FlowMap {
    /// Every handler, in the order in which they were mounted.
    pub handlers: Vec<HandlerEntry>,
    /// Every event type and command that passes from one service to another, or to nobody.
    pub links: Vec<Link>,
    /// What caused what, as observed.
    pub observed: Vec<EdgeStats>,
    /// Declared steps that were never observed.
    pub never_observed: Vec<Step>,
}

/// An event type on its way from a service to a handler.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Link {
    /// The type.
    pub event: String,
    /// The service that causes it; `outside` where it comes from there.
    pub from: String,
    /// The service that takes it; `None` where nobody does.
    pub to: Option<String>,
    /// The handler that takes it.
    pub handler: Option<String>,
    /// How often it was seen to come from there.
    pub observed: u64,
    /// The same in each second of the log.
    pub per_s: f64,
    /// Whether it is declared, or only observed.
    pub is_declared: bool,
}

/// A declared step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Step {
    /// The type that the handler takes.
    pub from: String,
    /// The type that it can cause.
    pub to: String,
    /// The handler.
    pub handler: String,
}

/// Whether the handler of an edge declares it. A saga sends commands and is woken by entries of its journal; neither is
/// declared one by one.
pub(super) fn is_declared(catalogue: &Catalogue, edge: &Edge) -> bool {
    let Some(handler) = catalogue.handler(&edge.handler) else { return edge.handler == "timer" };
    let is_in = |types: &[String], event_type: &str| types.iter().any(|known| known == event_type);
    let is_caused = is_in(&handler.causes, edge.to.as_str());
    match handler.kind {
        HandlerKind::Saga => is_caused || catalogue.is_command(edge.to.as_str()),
        _ => is_caused && is_in(&handler.consumes, edge.from.as_str()),
    }
}

impl Catalogue {
    /// Whether this type is a command that somebody handles, here or over a link.
    fn is_command(&self, event_type: &str) -> bool {
        self.consumers(event_type).any(|handler| handler.kind.takes_commands())
    }

    fn steps(&self) -> impl Iterator<Item = Step> {
        self.handlers.iter().flat_map(|handler| {
            handler.consumes.iter().flat_map(move |from| {
                let step =
                    |to: &String| Step { from: from.clone(), to: to.clone(), handler: handler.name.clone() };
                handler.causes.iter().map(step)
            })
        })
    }
}

impl Flows {
    /// The topology as it is declared and as it was observed, up to the end of the log.
    pub async fn map(&self) -> Result<FlowMap, Error> {
        let index = self.index().await?;
        let mut all = Figures::default();
        index.kinds.values().for_each(|figures| all.edges.extend(figures.edges.iter().cloned()));
        let observed = self.edge_stats(&all);
        let has_been_seen = |step: &Step| {
            observed
                .iter()
                .any(|edge| (&edge.from, &edge.to, &edge.handler) == (&step.from, &step.to, &step.handler))
        };
        let sagas: BTreeSet<&String> = self
            .catalogue
            .handlers
            .iter()
            .filter(|handler| handler.kind == HandlerKind::Saga)
            .map(|handler| &handler.name)
            .collect();
        let never_observed = self
            .catalogue
            .steps()
            .filter(|step| !sagas.contains(&step.handler) && !has_been_seen(step))
            .collect();
        let seconds = self.seconds().await?;
        Ok(FlowMap {
            handlers: self.catalogue.handlers.clone(),
            links: links(&self.catalogue, &observed, &begun(&self.catalogue, &index), seconds),
            observed,
            never_observed,
        })
    }

    /// How long the log is, in seconds.
    async fn seconds(&self) -> Result<f64, Error> {
        let first = self.store.collect(Read::all().limit(1)).await?;
        let last = self.store.collect(Read::all().backward().limit(1)).await?;
        let (Some(first), Some(last)) = (first.first(), last.first()) else { return Ok(0.0) };
        Ok(last.recorded_at.duration_since(first.recorded_at).as_secs_f64())
    }
}

fn links(
    catalogue: &Catalogue,
    observed: &[EdgeStats],
    begun: &BTreeMap<&str, u64>,
    seconds: f64,
) -> Vec<Link> {
    let mut links = Vec::new();
    for (event, sources) in sources(catalogue, observed) {
        for from in sources {
            let seen = match from {
                OUTSIDE => begun.get(event).copied().unwrap_or_default(),
                service => caused(observed, event, service),
            };
            let link = |to: Option<&HandlerEntry>| Link {
                event: event.to_owned(),
                from: from.to_owned(),
                to: to.map(|to| to.service.clone()),
                handler: to.map(|to| to.name.clone()),
                observed: seen,
                per_s: rate(seen, seconds),
                is_declared: true,
            };
            let takers: Vec<Link> = catalogue.consumers(event).map(|to| link(Some(to))).collect();
            if takers.is_empty() {
                links.push(link(None));
            }
            links.extend(takers);
        }
    }
    links.extend(observed.iter().filter(|edge| !edge.is_declared).map(|edge| Link {
        event: edge.to.clone(),
        from: edge.service.clone(),
        to: None,
        handler: None,
        observed: edge.count,
        per_s: rate(edge.count, seconds),
        is_declared: false,
    }));
    links
}

/// How often each type began a flow; one of several starts of a kind is not told from another.
fn begun<'a>(catalogue: &'a Catalogue, index: &'a Index) -> BTreeMap<&'a str, u64> {
    let mut begun: BTreeMap<&str, u64> = BTreeMap::new();
    for (kind, figures) in &index.kinds {
        let declared = catalogue.flows.iter().find(|flow| flow.name == *kind);
        let starts = declared
            .map_or_else(|| vec![kind.as_str()], |flow| flow.starts.iter().map(String::as_str).collect());
        starts.into_iter().for_each(|start| *begun.entry(start).or_default() += figures.begun);
    }
    begun
}

/// The services that each type comes from.
fn sources<'a>(catalogue: &'a Catalogue, observed: &'a [EdgeStats]) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut sources: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for external in &catalogue.external {
        sources.entry(external).or_default().insert(OUTSIDE);
    }
    for handler in &catalogue.handlers {
        for caused in &handler.causes {
            sources.entry(caused).or_default().insert(&handler.service);
        }
    }
    // What sagas send is not declared, but seen.
    for edge in observed.iter().filter(|edge| edge.is_declared && catalogue.is_command(&edge.to)) {
        sources.entry(&edge.to).or_default().insert(&edge.service);
    }
    sources
}

/// How often a service was seen to cause this type.
fn caused(observed: &[EdgeStats], event: &str, service: &str) -> u64 {
    let edges = observed.iter().filter(|edge| edge.to == event && edge.service == service);
    edges.map(|edge| edge.count).sum()
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { (count as f64 / seconds * 100.0).round() / 100.0 } else { 0.0 }
}
