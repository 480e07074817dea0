//! `ensue flow map`: services and what passes between them, declared against observed.

use std::collections::BTreeMap;

use clap::Args;
use ensue::runtime::flow::{FlowMap, Link};

use super::mermaid::escaped;
use crate::command::Session;
use crate::failure::Failure;
use crate::output::Format;

/// Services and what passes between them, declared against observed
#[derive(Args)]
pub(crate) struct Map {}

impl Map {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let map = super::flows(session).await?.map().await?;
        let words = if session.output.format() == Format::Mermaid { mermaid(&map) } else { in_words(&map) };
        session.output.one(&map, &words)?;
        Ok(())
    }
}

fn in_words(map: &FlowMap) -> String {
    let mut lines: Vec<String> = map
        .links
        .iter()
        .map(|link| {
            let way = format!("{} → {}", link.from, link.to.as_deref().unwrap_or("nobody"));
            let handler = link.handler.as_deref().unwrap_or_default();
            let mark = if link.is_declared { "" } else { "not declared" };
            let line = format!(
                "{:<28} {way:<28} {handler:<28} {:>9}  {:>9.2}/s  {mark}",
                link.event, link.observed, link.per_s
            );
            line.trim_end().to_owned()
        })
        .collect();
    lines.extend(
        map.never_observed
            .iter()
            .map(|step| format!("never observed: {} → {} by {}", step.from, step.to, step.handler)),
    );
    lines.join("\n")
}

/// A flowchart of services: what was observed is drawn through, what is only declared is dotted, what is only observed is
/// thick.
fn mermaid(map: &FlowMap) -> String {
    let mut arrows: BTreeMap<(&str, &str, &str), (u64, f64, bool)> = BTreeMap::new();
    for Link { event, from, to, observed, per_s, is_declared, .. } in &map.links {
        let to = to.as_deref().unwrap_or("nobody");
        let arrow = arrows.entry((from, to, event)).or_insert((0, 0.0, *is_declared));
        arrow.0 += observed;
        arrow.1 += per_s;
    }
    let mut names: Vec<&str> = arrows.keys().flat_map(|(from, to, _)| [*from, *to]).collect();
    names.sort_unstable();
    names.dedup();
    let place = |name: &str| names.iter().position(|known| *known == name).unwrap_or_default();
    let mut lines = vec!["flowchart LR".to_owned()];
    lines.extend(names.iter().map(|name| format!("    s{}[\"{}\"]", place(name), escaped(name))));
    for ((from, to, event), (observed, per_s, is_declared)) in &arrows {
        let arrow = match (is_declared, observed) {
            (false, _) => "==>",
            (true, 0) => "-.->",
            (true, _) => "-->",
        };
        let rate = if *observed > 0 { format!(" · {observed} · {per_s:.2}/s") } else { String::new() };
        let label = format!("{}{rate}", escaped(event));
        lines.push(format!("    s{} {arrow}|\"{label}\"| s{}", place(from), place(to)));
    }
    lines.join("\n")
}
