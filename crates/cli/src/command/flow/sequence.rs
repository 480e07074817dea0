//! A flow as a sequence: who told whom what, as text or as a Mermaid diagram.
//!
//! Entries in the journals of sagas are left out; what they caused hangs on what they stand for.

use std::collections::{BTreeSet, HashMap};

use ensue::core::EventId;
use ensue::runtime::flow::{FlowNode, FlowView, OpenState};

use super::mermaid::escaped;
use super::show::millis;

/// Something that one service told another.
struct Message<'a> {
    from: &'a str,
    to: &'a str,
    text: String,
    after_us: i64,
    /// Why it has not been taken, where it has not.
    trouble: Option<String>,
}

/// One line for each message.
pub(super) fn text(view: &FlowView) -> String {
    let flow = &view.summary;
    let mut lines = vec![format!("{} {}  {}", flow.kind, flow.key, flow.status.as_str())];
    for message in messages(view) {
        let Message { from, to, text, after_us, trouble } = message;
        let after = format!("+{}", millis(u64::try_from(after_us).unwrap_or_default()));
        let way = if from == to { from.to_owned() } else { format!("{from} → {to}") };
        let trouble = trouble.map_or_else(String::new, |trouble| format!("  ✗ {trouble}"));
        lines.push(format!("  {after:>12}  {way:<28} {text}{trouble}"));
    }
    lines.extend(flow.reason.clone());
    lines.join("\n")
}

/// A Mermaid `sequenceDiagram`.
pub(super) fn mermaid(view: &FlowView) -> String {
    let messages = messages(view);
    let mut services: Vec<&str> = Vec::new();
    for name in messages.iter().flat_map(|message| [message.from, message.to]) {
        if !services.contains(&name) {
            services.push(name);
        }
    }
    let place = |name: &str| services.iter().position(|known| *known == name).unwrap_or_default();
    let mut lines = vec!["sequenceDiagram".to_owned()];
    lines.extend(
        services
            .iter()
            .enumerate()
            .map(|(index, name)| format!("    participant s{index} as {}", escaped(name))),
    );
    for message in &messages {
        let arrow = if message.trouble.is_some() { "--x" } else { "->>" };
        let trouble = message.trouble.as_ref().map_or_else(String::new, |trouble| format!(" ({trouble})"));
        let text = escaped(&format!("{}{trouble}", message.text));
        lines.push(format!("    s{} {arrow} s{}: {text}", place(message.from), place(message.to)));
    }
    let flow = &view.summary;
    if let (Some(reason), Some(last)) = (&flow.reason, services.len().checked_sub(1)) {
        let over = if last == 0 { "s0".to_owned() } else { format!("s0,s{last}") };
        lines.push(format!(
            "    Note over {over}: {}",
            escaped(&format!("{}: {reason}", flow.status.as_str()))
        ));
    }
    lines.join("\n")
}

fn messages(view: &FlowView) -> Vec<Message<'_>> {
    let is_journal = |node: &FlowNode| node.stream.topic.as_str().starts_with("saga.");
    // What each event stands for: itself, or for an entry of a journal what caused it.
    let mut stands_for: HashMap<&EventId, &EventId> = HashMap::new();
    for node in &view.nodes {
        let above = node.cause.as_ref().and_then(|cause| stands_for.get(cause)).copied();
        stands_for.insert(&node.id, if is_journal(node) { above.unwrap_or(&node.id) } else { &node.id });
    }
    let mut takers: HashMap<&EventId, BTreeSet<&str>> = HashMap::new();
    let visible = view.nodes.iter().filter(|node| !is_journal(node));
    for node in visible.clone() {
        if let Some(cause) = node.cause.as_ref().and_then(|cause| stands_for.get(cause)).copied() {
            takers.entry(cause).or_default().insert(&node.service);
        }
    }
    let mut messages = Vec::new();
    for node in visible {
        let told = takers.remove(&node.id).unwrap_or_default();
        let before = messages.len();
        messages.extend(told.into_iter().map(|to| message(node, to, None)));
        for work in view.open.iter().filter(|work| work.position == node.position) {
            let why = [work.code.as_deref(), work.reason.as_deref()].into_iter().flatten();
            let why: Vec<&str> = why.collect();
            let state = match work.state {
                OpenState::Ahead => "before it",
                OpenState::Deferred => "deferred:",
                OpenState::Parked => "parked:",
                OpenState::Halted => "stopped:",
            };
            messages.push(message(
                node,
                &work.service,
                Some(format!("{state} {}", why.join(" ")).trim_end().to_owned()),
            ));
        }
        if messages.len() == before {
            messages.push(message(node, &node.service, None));
        }
    }
    messages
}

fn message<'a>(node: &'a FlowNode, to: &'a str, trouble: Option<String>) -> Message<'a> {
    let reason = node.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    let text = format!("{}{reason}", node.event_type);
    Message { from: &node.service, to, text, after_us: node.after_us, trouble }
}
