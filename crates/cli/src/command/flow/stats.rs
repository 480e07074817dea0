//! `ensue flow stats`: kinds, the ways flows went, how long each step took, and whether the log knows everything.

use clap::Args;
use ensue::runtime::flow::{FlowStats, KindStats, Percentiles};

use crate::command::Session;
use crate::failure::Failure;
use crate::words::count;

/// Kinds of flow: the ways they went, how long each step took, and whether the log knows everything
#[derive(Args)]
pub(crate) struct Stats {}

impl Stats {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let stats = super::flows(session).await?.stats().await?;
        session.output.one(&stats, &in_words(&stats))?;
        Ok(())
    }
}

fn in_words(stats: &FlowStats) -> String {
    let mut lines: Vec<String> = stats.kinds.iter().flat_map(kind).collect();
    lines.push(stats.statement.clone());
    lines.join("\n")
}

fn kind(kind: &KindStats) -> Vec<String> {
    let KindStats { flows, open, done, failed, .. } = kind;
    let mut lines = vec![
        format!("{}  {}   {done} done   {failed} failed   {open} open", kind.kind, count(*flows, "flow")),
        format!("  from first to last event   {}", times(kind.duration_us)),
        String::new(),
    ];
    let way = |count: u64, way: &str| format!("  {count:>9} × {way}");
    lines.extend(kind.variants.iter().map(|variant| way(variant.count, &variant.events.join(" "))));
    lines.extend((kind.other_variants > 0).then(|| way(kind.other_variants, "in yet another way")));
    lines.push(String::new());
    for edge in &kind.edges {
        let mark = if edge.is_declared { "" } else { "   not declared" };
        let step = format!("{} → {}", edge.from, edge.to);
        let (count, service) = (edge.count, &edge.service);
        lines.push(format!("  {count:>9} × {step:<44} {service:<14} {}{mark}", times(edge.latency_us)));
    }
    lines.extend((kind.other_edges > 0).then(|| way(kind.other_edges, "yet another step")));
    lines.push(String::new());
    lines
}

fn times(times: Percentiles) -> String {
    let [p50, p95, p99] = [times.p50, times.p95, times.p99].map(super::show::millis);
    format!("p50 {p50}   p95 {p95}   p99 {p99}")
}
