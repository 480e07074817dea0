//! `ensue flow show KEY|ID`: one flow as a tree, what is open, and why it stopped.

use std::collections::{HashMap, HashSet};

use clap::Args;
use ensue::core::EventId;
use ensue::runtime::flow::{FlowNode, FlowView, OpenState};

use super::sequence;
use crate::command::Session;
use crate::failure::Failure;
use crate::output::Format;
use crate::shape;
use crate::words::count;

/// One flow as a tree: what happened, what is open, why it stopped
#[derive(Args)]
pub(crate) struct Show {
    /// The business key of the event that began it, such as ORD-5001, or the id of the flow
    key: String,
}

impl Show {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let flows = super::flows(session).await?;
        let view = flows.show(&self.key).await?;
        let words = match session.output.format() {
            Format::Tree => tree(&view.nodes).join("\n"),
            Format::Sequence => sequence::text(&view),
            Format::Mermaid => sequence::mermaid(&view),
            Format::Table | Format::Json | Format::Jsonl => in_words(&view),
        };
        session.output.one(&view, &words)?;
        Ok(())
    }
}

fn in_words(view: &FlowView) -> String {
    let flow = &view.summary;
    let because = flow.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let mut lines = vec![
        format!("{} {}  {}{because}", flow.kind, flow.key, flow.status.as_str()),
        format!(
            "began {}, {}, flow {}",
            shape::time(flow.started_at),
            count(flow.events, "event"),
            flow.flow
        ),
        String::new(),
    ];
    lines.extend(tree(&view.nodes));
    for open in &view.open {
        let what = match open.state {
            OpenState::Ahead => "is before",
            OpenState::Deferred => "is deferred by",
            OpenState::Parked => "is parked by",
            OpenState::Halted => "has stopped",
        };
        let why = open.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let (event, position, service) = (&open.event_type, open.position, &open.service);
        lines.push(format!("  … {event} #{position} {what} {} ({service}){why}", open.handler));
    }
    lines.extend(view.sagas.iter().map(|saga| {
        let at = saga.step.as_ref().map(|step| format!(" at {step}")).unwrap_or_default();
        format!("  saga {} {}{at}, undone: {}", saga.saga, saga.key, list(&saga.undone))
    }));
    lines.join("\n").trim_end().to_owned()
}

fn list<T: AsRef<str>>(names: &[T]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    names.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(", ")
}

/// What happened, each under what caused it. Depth first and without recursion, so that no chain is too long.
fn tree(nodes: &[FlowNode]) -> Vec<String> {
    let ids: HashSet<&EventId> = nodes.iter().map(|node| &node.id).collect();
    let above = |node: &FlowNode| node.cause.clone().filter(|cause| ids.contains(cause));
    let mut below: HashMap<Option<EventId>, Vec<&FlowNode>> = HashMap::new();
    for node in nodes {
        below.entry(above(node)).or_default().push(node);
    }
    let mut lines = Vec::with_capacity(nodes.len());
    // Each with the columns to its left, and whether more siblings follow.
    let mut todo: Vec<(&FlowNode, String, bool)> = Vec::new();
    let mut push = |todo: &mut Vec<_>, cause: Option<EventId>, left: &str| {
        let children = below.remove(&cause).unwrap_or_default();
        let newest_first = children.into_iter().rev().enumerate();
        todo.extend(newest_first.map(|(index, node)| (node, left.to_owned(), index > 0)));
    };
    push(&mut todo, None, "");
    while let Some((node, left, has_more)) = todo.pop() {
        let is_root = node.depth == 0;
        let branch = match (is_root, has_more) {
            (true, _) => "",
            (false, true) => "├ ",
            (false, false) => "└ ",
        };
        lines.push(line(node, &format!("{left}{branch}{}", node.event_type)));
        let column = match (is_root, has_more) {
            (true, _) => "",
            (false, true) => "│ ",
            (false, false) => "  ",
        };
        push(&mut todo, Some(node.id.clone()), &format!("{left}{column}"));
    }
    lines
}

fn line(node: &FlowNode, name: &str) -> String {
    let millis = format!("+{}", millis(u64::try_from(node.after_us).unwrap_or_default()));
    let reason = node.reason.as_deref().unwrap_or_default();
    let line = format!("  {name:<40} {:<14} {millis:>11}  #{:<6} {reason}", node.service, node.position);
    line.trim_end().to_owned()
}

/// Microseconds as people read them: `2.9 ms`.
pub(super) fn millis(micros: u64) -> String {
    let tenths = micros.saturating_add(50) / 100;
    format!("{}.{} ms", tenths / 10, tenths % 10)
}
