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
        "timer" => ("PaymentDue", "", "order may take 24 hours".to_owned(), None),
        other => panic!("no such way to be broken: {other}"),
    };
    let nullable = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
    assert_eq!(flow["status"], if kind == "timer" { "waiting" } else { "stuck" }, "{flow}");
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
    assert_eq!(kinds.len(), 5, "{kinds:?}");
    let listed = ensue.run(&["flow", "ls", "--status", "stuck", "-n", "1000", "-o", "jsonl"]).ok().objects();
    assert_eq!(listed.len(), 20, "the list judges alike; five wait for a timer");
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

#[test]
fn the_figures_of_a_demonstration_are_those_of_its_report() {
    let ensue = Ensue::new();
    let report = ensue.run(&["demo", "--orders", "120", "--break", "8", "-o", "json"]).ok().object();
    let report = &report["choreography"];
    let stats = ensue.run(&["flow", "stats", "-o", "json"]).ok().object();
    assert_eq!(members(&stats), ["completeness", "kinds", "statement"]);
    let [order] = stats["kinds"].as_array().expect("a list").as_slice() else { panic!("{stats}") };
    let outcome = |name: &str| report["outcomes"][name].as_u64().expect("a count");
    assert_eq!((&order["kind"], &order["flows"], &order["open"]), (&json!("order"), &json!(120), &json!(8)));
    assert_eq!(order["done"], outcome("completed"));
    let failed = outcome("payment_failed") + outcome("inventory_failed") + outcome("shipping_failed");
    assert_eq!(order["failed"], failed);
    let served = ["OrderPlaced", "PaymentCompleted", "StockReserved", "ShipmentCreated", "CustomerNotified"];
    let first = &order["variants"][0];
    assert_eq!(first["events"], json!(served), "most orders are served");
    let ways: u64 = order["variants"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|way| way["count"].as_u64().unwrap_or(0))
        .sum();
    assert_eq!(ways, outcome("completed") + failed);
    let paid =
        order["edges"].as_array().expect("a list").iter().find(|edge| edge["to"] == "PaymentCompleted");
    let paid = paid.expect("somebody paid");
    assert_eq!((&paid["from"], &paid["service"]), (&json!("OrderPlaced"), &json!("payment")));
    assert!(paid["latency_us"]["p50"].as_u64() <= paid["latency_us"]["p95"].as_u64(), "{paid}");
    assert!(text(&stats["statement"]).starts_with("complete: "), "{stats}");
    let words = ensue.run(&["flow", "stats"]).ok().out;
    assert!(
        words.contains("order  120 flows") && words.contains("OrderPlaced → PaymentCompleted"),
        "{words}"
    );
}

#[test]
fn the_topology_of_the_shop_holds_together_and_is_mapped() {
    for style in ["choreography", "saga"] {
        let ensue = Ensue::new();
        ensue.run(&["demo", "--orders", "40", "--style", style, "-q"]).ok();
        let findings = ensue.run(&["flow", "lint", "-o", "jsonl"]).ok().objects();
        assert!(findings.iter().all(|finding| finding["rule"] == "unconsumed"), "{style}: {findings:?}");
        let map = ensue.run(&["flow", "map", "-o", "json"]).ok().object();
        assert_eq!(members(&map), ["handlers", "links", "never_observed", "observed"]);
        assert!(
            map["observed"].as_array().expect("a list").iter().all(|edge| edge["is_declared"] == true),
            "{style}: {map}"
        );
        let diagram = ensue.run(&["flow", "map", "-o", "mermaid"]).ok().out;
        assert!(diagram.starts_with("flowchart LR\n"), "{diagram}");
        assert!(
            diagram.contains("[\"payment\"]") && diagram.contains(" -->|\"OrderPlaced · "),
            "{style}: {diagram}"
        );
    }
}

#[test]
fn a_flow_is_drawn_as_a_tree_a_sequence_and_a_diagram_and_nothing_else_is() {
    let ensue = Ensue::new();
    let demo = ["demo", "--orders", "30", "--break", "3", "-o", "json"];
    let report = ensue.run(&demo).ok().object();
    let parked = broken(&report["choreography"]).into_iter().find(|(_, kind)| kind == "parked");
    let (key, _) = parked.expect("one of three is parked");
    let draw = |format: &str| ensue.run(&["flow", "show", &key, "-o", format]).ok().out;
    assert!(draw("tree").trim_start().starts_with("OrderPlaced"), "{}", draw("tree"));
    assert!(draw("sequence").contains("order → payment"), "{}", draw("sequence"));
    let diagram = draw("mermaid");
    assert!(diagram.starts_with("sequenceDiagram\n    participant s0 as order\n"), "{diagram}");
    assert!(
        diagram
            .contains("    s0 --x s1: OrderPlaced (parked: E0301 the payment provider did not answer#59; "),
        "{diagram}"
    );
    assert!(diagram.contains("    Note over s0,s1: stuck: waits for PaymentCompleted"), "{diagram}");
    ensue.run(&["flow", "ls", "-o", "mermaid"]).refused(2, "E0701").says("flow show");
    ensue.run(&["stat", "-o", "tree"]).refused(2, "E0701");
}
