//! What all flows add up to: kinds, the ways they went, how long each step took, and whether the log knows everything.

use serde::Serialize;
use smol_str::SmolStr;

use ensue_core::Error;

use super::index::{Completeness, Figures, Latencies};
use super::{Flows, map};

/// Figures of every kind of flow.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FlowStats {
    /// By name.
    pub kinds: Vec<KindStats>,
    /// Whether the figures are all there is.
    pub completeness: Completeness,
    /// The same in a sentence.
    pub statement: String,
}

/// Figures of one kind of flow.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct KindStats {
    /// The declared kind, or the type of the event that begins one.
    pub kind: String,
    /// Flows that have begun.
    pub flows: u64,
    /// Those that are not over.
    pub open: u64,
    /// Those that ended as planned.
    pub done: u64,
    /// Those that ended in a failure.
    pub failed: u64,
    /// From the first event to the last, of those that are over.
    pub duration_us: Percentiles,
    /// The ways they went, the most frequent first.
    pub variants: Vec<VariantStats>,
    /// Flows that went yet another way.
    pub other_variants: u64,
    /// What caused what, the most frequent first.
    pub edges: Vec<EdgeStats>,
    /// Steps of yet another sort.
    pub other_edges: u64,
}

/// Times in microseconds, each at most an eighth too high.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Percentiles {
    /// Half took no longer.
    pub p50: u64,
    /// 95 of 100 took no longer.
    pub p95: u64,
    /// 99 of 100 took no longer.
    pub p99: u64,
}

/// A way that flows went.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct VariantStats {
    /// The types of the events and commands: by distance from the beginning, then by name.
    pub events: Vec<String>,
    /// How many flows went so.
    pub count: u64,
}

/// A step from one event to one that it caused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct EdgeStats {
    /// The type of the cause.
    pub from: String,
    /// The type of the effect.
    pub to: String,
    /// The handler in between.
    pub handler: String,
    /// Its service.
    pub service: String,
    /// How often.
    pub count: u64,
    /// How long it took, from record to record.
    pub latency_us: Percentiles,
    /// Whether the handler declares that it causes this.
    pub is_declared: bool,
}

impl Percentiles {
    fn of(latencies: &Latencies) -> Self {
        let [p50, p95, p99] = [50, 95, 99].map(|percent| latencies.percentile(percent));
        Self { p50, p95, p99 }
    }
}

impl Flows {
    /// What all flows add up to, up to the end of the log.
    pub async fn stats(&self) -> Result<FlowStats, Error> {
        let index = self.index().await?;
        let open = |kind: &SmolStr| {
            let flows = index.open.values().filter(|flow| flow.kind == *kind && !flow.is_late);
            u64::try_from(flows.count()).unwrap_or(u64::MAX)
        };
        let kinds = index.kinds.iter();
        Ok(FlowStats {
            kinds: kinds.map(|(kind, figures)| self.kind_stats(kind, figures, open(kind))).collect(),
            statement: index.completeness.statement(),
            completeness: index.completeness,
        })
    }

    fn kind_stats(&self, kind: &SmolStr, figures: &Figures, open: u64) -> KindStats {
        let mut variants: Vec<VariantStats> = figures
            .variants
            .iter()
            .map(|variant| VariantStats {
                events: variant.events.iter().map(ToString::to_string).collect(),
                count: variant.count,
            })
            .collect();
        variants.sort_by(|one, other| (other.count, &one.events).cmp(&(one.count, &other.events)));
        KindStats {
            kind: kind.to_string(),
            flows: figures.begun,
            open,
            done: figures.done,
            failed: figures.failed,
            duration_us: Percentiles::of(&figures.durations),
            variants,
            other_variants: figures.other_variants,
            edges: self.edge_stats(figures),
            other_edges: figures.other_edges,
        }
    }

    pub(super) fn edge_stats(&self, figures: &Figures) -> Vec<EdgeStats> {
        let mut edges: Vec<EdgeStats> = figures
            .edges
            .iter()
            .map(|edge| EdgeStats {
                from: edge.from.to_string(),
                to: edge.to.to_string(),
                handler: edge.handler.to_string(),
                service: self.catalogue.service_of(&edge.handler).to_owned(),
                count: edge.latencies.count(),
                latency_us: Percentiles::of(&edge.latencies),
                is_declared: map::is_declared(&self.catalogue, edge),
            })
            .collect();
        edges.sort_by(|one, other| {
            let names = |edge: &EdgeStats| (edge.from.clone(), edge.to.clone(), edge.handler.clone());
            other.count.cmp(&one.count).then_with(|| names(one).cmp(&names(other)))
        });
        edges
    }
}

impl Completeness {
    /// Whether every event has its cause in the log, or is a declared beginning.
    pub fn is_complete(&self) -> bool {
        self.strangers.is_empty() && self.lost_causes == 0
    }

    /// In a sentence.
    pub fn statement(&self) -> String {
        let events = self.events;
        if self.is_complete() {
            return format!(
                "complete: each of {events} events has its cause in the log or is a declared beginning"
            );
        }
        let mut gaps: Vec<String> = Vec::new();
        let strangers: u64 = self.strangers.values().sum();
        if strangers > 0 {
            let types: Vec<&str> = self.strangers.keys().map(String::as_str).collect();
            gaps.push(format!("{strangers} came from elsewhere without a cause ({})", types.join(", ")));
        }
        if self.lost_causes > 0 {
            gaps.push(format!("{} name a cause that is not in the log", self.lost_causes));
        }
        format!("incomplete: of {events} events {}", gaps.join(", "))
    }
}
