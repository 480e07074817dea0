//! The past, and what would have been: states at a moment, who changed what, and forks.

use serde_json::Value;

use crate::Ensue;

fn rows(ensue: &Ensue, arguments: &[&str]) -> Vec<Value> {
    ensue.run(&[arguments, &["-o", "jsonl"]].concat()).ok().objects()
}

/// The shop with twenty orders, one of which was paid, and the positions of that one's events by type.
fn shop() -> (Ensue, String, Vec<(String, u64)>) {
    let ensue = Ensue::new();
    ensue.run(&["demo", "-q"]).ok();
    let done = rows(&ensue, &["flow", "ls", "--status", "done", "-n", "1"]);
    let key = done[0]["key"].as_str().expect("a key").to_owned();
    let view = ensue.run(&["flow", "show", &key, "-o", "json"]).ok().object();
    let nodes = view["nodes"].as_array().expect("an array").iter();
    let positions = nodes.map(|node| {
        (
            node["event_type"].as_str().expect("a type").to_owned(),
            node["position"].as_u64().expect("a position"),
        )
    });
    let positions = positions.collect();
    (ensue, key, positions)
}

fn position(positions: &[(String, u64)], event_type: &str) -> String {
    let found = positions.iter().find(|(name, _)| name == event_type);
    found.unwrap_or_else(|| panic!("{event_type} is in the flow")).1.to_string()
}

#[test]
fn the_state_of_a_stream_names_the_event_behind_each_field() {
    let ensue = Ensue::with_counts(5);
    let blamed = rows(&ensue, &["stream", "blame", "Counter/one"]);
    let [count] = blamed.as_slice() else { panic!("one field: {blamed:?}") };
    assert_eq!(
        (&count["field"], &count["value"], &count["before"]),
        (&"/count".into(), &5.into(), &4.into())
    );
    assert_eq!(
        (&count["changes"], &count["position"], &count["type"]),
        (&5.into(), &5.into(), &"Counted".into())
    );
    let then = rows(&ensue, &["stream", "blame", "Counter/one", "count", "--at", "3"]);
    assert_eq!(then[0]["value"], 3);
    let state = ensue.run(&["stream", "state", "Counter/one", "--at", "#2", "-o", "json"]).ok().object();
    assert_eq!(state["state"]["count"], 2);
    ensue.run(&["stream", "blame", "Counter/one", "colour"]).refused(3, "E0414").says("colour");
    ensue.run(&["stream", "state", "Counter/one", "--at", "soon"]).refused(2, "E0701");
}

#[test]
fn a_row_of_a_read_model_is_shown_as_it_was_and_who_changed_it() {
    let (ensue, key, positions) = shop();
    let paid = position(&positions, "PaymentCompleted");
    let at = ["projection", "state", "orders_view", &key, "--at", &paid, "-o", "json"];
    assert_eq!(ensue.run(&at).ok().object()["status"], "PAYMENT_COMPLETED");
    let now = ensue.run(&["projection", "state", "orders_view", &key, "-o", "json"]).ok().object();
    assert_eq!(now["status"], "COMPLETED");
    let changed = rows(&ensue, &["projection", "diff", "orders_view", &key, &paid]);
    let fields: Vec<&str> =
        changed.iter().map(|changed| changed["field"].as_str().expect("a field")).collect();
    assert_eq!(fields, ["/pieces", "/status"]);
    let blamed = rows(&ensue, &["projection", "blame", "orders_view", &key, "pieces"]);
    assert_eq!(blamed[0]["type"], "StockReserved");
    ensue.run(&["projection", "state", "orders_view", &key, "--at", "0"]).refused(3, "E0414").says("--at");
    ensue.run(&["projection", "state", "nothing", &key]).refused(3, "E0414").says("ensue projection ls");
    ensue.run(&["projection", "state", "orders_view", "NOPE"]).refused(3, "E0414").says("ORD-0001");
    let listed = rows(&ensue, &["projection", "ls"]);
    let names: Vec<&str> = listed.iter().map(|model| model["projection"].as_str().expect("a name")).collect();
    assert_eq!(names, ["orders_view", "sales"], "what the bank would mount has never run here");
}

#[test]
fn a_fork_shows_what_another_event_would_have_led_to_and_changes_nothing() {
    let (ensue, key, positions) = shop();
    let before = ensue.ids();
    let same = ensue.run(&["flow", "fork", &key, "-o", "json"]).ok().object();
    assert_eq!((&same["missing"], &same["suppressed"]), (&Value::Array(vec![]), &Value::Array(vec![])));
    assert_eq!(same["same"], positions.len());

    // Nobody says who receives it, so it cannot be shipped.
    let reserved = position(&positions, "StockReserved");
    let change = format!(r#"{reserved}={{"order_id":"{key}","reservation_id":"RES-1","items":[]}}"#);
    let asked = ["flow", "fork", &key, "--change", &change, "-o", "json"];
    let suppressed = ensue.run(&asked).ok().object();
    assert_eq!(suppressed["suppressed"][0]["handler"], "create-shipment", "{suppressed}");
    let run = [&asked[..], &["--run", "create-shipment"]].concat();
    let report = ensue.run(&run).ok().object();
    let types = |list: &str| -> Vec<String> {
        let events = report[list].as_array().expect("an array").iter();
        events.map(|event| event["type"].as_str().expect("a type").to_owned()).collect()
    };
    assert_eq!(types("added"), ["ShipmentFailed"], "{report}");
    assert_eq!(types("missing"), ["ShipmentCreated", "CustomerNotified"], "{report}");
    assert_eq!(ensue.ids(), before, "the folder is as it was");
    ensue.run(&["flow", "fork", &key, "--change", "x={}"]).refused(2, "E0701");
    ensue.run(&["flow", "fork", &key, "--change", "1000000={}"]).refused(3, "E0414");
}
