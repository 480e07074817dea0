//! Flows of the shop from outside: what is broken is found, and nothing else.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{Ensue, members};

/// What a demonstration says it broke, by key.
fn broken(report: &Value) -> BTreeMap<String, String> {
    let orders = report["broken"].as_array().expect("a list").iter();
    orders.map(|order| (text(&order["key"]), text(&order["kind"]))).collect()
}

#[track_caller]
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text: {value}")).to_owned()
}

/// What `flow stuck` finds, by key.
fn stuck(ensue: &Ensue) -> BTreeMap<String, Value> {
    let found = ensue.run(&["flow", "stuck", "-o", "jsonl"]).ok().objects();
    let by_key: BTreeMap<String, Value> =
        found.iter().map(|flow| (text(&flow["key"]), flow.clone())).collect();
    assert_eq!(by_key.len(), found.len(), "each flow once");
    by_key
}

/// Asserts that a flow is listed for the way in which it was broken.
#[track_caller]
fn is_listed_as(kind: &str, flow: &Value) {
    let expected = ["code", "flow", "from", "key", "reason", "since", "status", "waits_for"];
    assert_eq!(members(flow), expected);
    let key = text(&flow["key"]);
    let (waits_for, from, reason, code) = match kind {
        "no_reply" => ("PaymentCompleted", "payment", "payment has handled OrderPlaced".to_owned(), None),
        "parked" => {
            ("PaymentCompleted", "payment", format!("payment has parked {key}: E0301 "), Some("E0301"))
        }
        "no_consumer" => ("", "", "nobody consumes StockBackordered".to_owned(), None),
        "undo_failed" => ("", "", "needs a decision since ".to_owned(), None),
        other => panic!("no such way to be broken: {other}"),
    };
    let nullable = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
    assert_eq!(flow["status"], "stuck", "{flow}");
    assert_eq!((&flow["waits_for"], &flow["from"]), (&nullable(waits_for), &nullable(from)), "{flow}");
    assert!(text(&flow["reason"]).contains(&reason), "{kind}: {flow}");
    assert_eq!(flow["code"], json!(code), "{flow}");
}

#[test]
fn exactly_the_broken_orders_are_stuck_each_for_the_way_in_which_it_was_broken() {
    let ensue = Ensue::new();
    let demo = ["demo", "--orders", "300", "--break", "25", "-o", "json"];
    let report = ensue.run(&demo).ok().object();
    let broken = broken(&report["choreography"]);
    assert_eq!(broken.len(), 25);
    let stuck = stuck(&ensue);
    assert_eq!(stuck.keys().collect::<Vec<_>>(), broken.keys().collect::<Vec<_>>());
    for (key, kind) in &broken {
        is_listed_as(kind, &stuck[key]);
    }
    let kinds: std::collections::BTreeSet<&String> = broken.values().collect();
    assert!(kinds.len() >= 4, "{kinds:?}");
    let listed = ensue.run(&["flow", "ls", "--status", "stuck", "-n", "1000", "-o", "jsonl"]).ok().objects();
    assert_eq!(listed.len(), 25, "the list judges alike");
    let key = broken.keys().next().expect("25 keys");
    assert_eq!(ensue.run(&["flow", "show", key, "-o", "json"]).ok().object()["reason"], stuck[key]["reason"]);
}

#[test]
fn a_demonstration_without_broken_orders_has_no_stuck_flow_in_either_style() {
    for style in ["choreography", "saga"] {
        let ensue = Ensue::new();
        let report = ensue.run(&["demo", "--orders", "60", "--style", style, "-o", "json"]).ok().object();
        assert_eq!(report[style]["broken"], json!([]));
        assert_eq!(stuck(&ensue), BTreeMap::new(), "{style}");
    }
}

#[test]
fn a_saga_whose_command_is_parked_is_stuck() {
    let ensue = Ensue::new();
    let demo = ["demo", "--orders", "30", "--break", "1", "--style", "saga", "-o", "json"];
    let broken = broken(&ensue.run(&demo).ok().object()["saga"]);
    let stuck = stuck(&ensue);
    assert_eq!(stuck.keys().collect::<Vec<_>>(), broken.keys().collect::<Vec<_>>());
    stuck.values().for_each(|flow| is_listed_as("parked", flow));
}
