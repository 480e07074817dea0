//! What comes in: each shape, once however often it is repeated, and never half.

use serde_json::json;

use crate::{COMMAND, Ensue, ORDER, members};

const ORDER_STREAM: [&str; 2] = ["--stream", "Order/ORD-5001"];
/// Of a type that nobody knows, so that it may stand anywhere.
const UNKNOWN: &str = r#"{"event_type":"Unheard","event_id":"u1","data":{"n":1}}"#;

/// The documented order, by another customer: as valid, but not the same.
fn another_order() -> String {
    ORDER.replace("CUST-1001", "CUST-1002")
}

#[test]
fn the_documented_event_is_appended_as_it_stands_where_its_type_belongs() {
    let ensue = Ensue::new();
    let emitted = ensue.emit(&["-o", "json"], ORDER).ok().object();
    assert_eq!(
        emitted,
        json!({"id": "evt-a1b2c3", "source": "ensue-cli", "type": "OrderPlaced", "stream": "Order/ORD-5001",
            "position": 1, "repeated": false, "dry_run": false})
    );
    let events = ensue.run(&["stream", "read", "Order/ORD-5001", "-o", "jsonl"]).ok().objects();
    let [event] = events.as_slice() else { panic!("one event: {events:?}") };
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["time"], "2024-01-15T10:30:00Z");
    assert_eq!((&event["position"], &event["streamversion"]), (&json!(1), &json!(1)));
    assert_eq!(event["data"]["total"], json!(59.98));
}

#[test]
fn the_documented_command_parses_and_is_refused_with_a_way_out() {
    let ensue = Ensue::new();
    ensue.emit(&[], COMMAND).refused(2, "E0502").says("ProcessPayment").says("fix: ");
    assert!(!ensue.data().exists(), "a refusal makes no store");
}

#[test]
fn the_same_id_and_body_adds_nothing_and_another_body_is_a_conflict() {
    let ensue = Ensue::new();
    ensue.emit(&ORDER_STREAM, ORDER).ok();
    let again = ensue.emit(&[&ORDER_STREAM[..], &["-o", "json"]].concat(), ORDER).ok().object();
    assert_eq!((&again["repeated"], &again["position"]), (&json!(true), &json!(1)));
    let spaced = ORDER.replace(':', ": ").replace("T10: 30: 00", "T10:30:00");
    ensue.emit(&ORDER_STREAM, &spaced).ok();
    ensue.emit(&ORDER_STREAM, &another_order()).refused(6, "E0204");
    assert_eq!(ensue.ids(), ["evt-a1b2c3"]);
}

#[test]
fn cloudevents_name_their_own_place() {
    let ensue = Ensue::new();
    let event = r#"{"specversion":"1.0","id":"1","source":"shop","type":"Seen","subject":"P-1","topic":"Page","data":{"n":1}}"#;
    ensue.emit(&[], event).ok();
    ensue.emit(&["-o", "json"], &format!("[{event},{}]", event.replace(r#""id":"1""#, r#""id":"2""#))).ok();
    let listed = ensue.run(&["stream", "ls", "-o", "jsonl"]).ok().objects();
    let [page] = listed.as_slice() else { panic!("one stream: {listed:?}") };
    assert_eq!((&page["stream"], &page["version"]), (&json!("Page/P-1"), &json!(2)));
}

#[test]
fn one_bad_event_of_an_array_keeps_the_others_out() {
    let ensue = Ensue::with_counts(1);
    let good = r#"{"event_type":"Good","event_id":"g","data":{}}"#;
    for (bad, code) in [
        (r#"{"event_type":"Bad","data":{},"more":1}"#.to_owned(), "E0103"),
        (format!(r#"{{"event_type":"Bad","data":"{}"}}"#, "x".repeat(2 << 20)), "E0107"),
    ] {
        let exit = if code == "E0107" { 1 } else { 2 };
        ensue.emit(&["--stream", "Any/1"], &format!("[{good},{bad}]")).refused(exit, code);
    }
    assert_eq!(ensue.ids(), ["c1"]);
}

#[test]
fn with_a_type_the_document_is_the_data() {
    let ensue = Ensue::new();
    let run = |arguments: &[&str]| ensue.run(&[&["emit", "Paid", "--stream", "Pay/1"], arguments].concat());
    run(&["-d", r#"{"amount":7}"#, "--id", "p1"]).ok();
    let file = ensue.around.path().join("paid.json");
    std::fs::write(&file, r#"{"amount":8}"#).expect("the folder is ours");
    run(&["-d", &format!("@{}", file.display()), "--id", "p2"]).ok();
    run(&["-d", "[1,2]", "--id", "p3", "-o", "json"]).ok();
    let data: Vec<_> = ensue
        .run(&["tail", "-e", "Paid", "-o", "jsonl"])
        .ok()
        .objects()
        .iter()
        .map(|event| event["data"].clone())
        .collect();
    assert_eq!(data, [json!({"amount": 7}), json!({"amount": 8}), json!([1, 2])]);
    run(&["-d", ORDER]).refused(2, "E0701").says("OrderPlaced");
    run(&["-d", "@missing.json"]).refused(3, "E0414");
}

#[test]
fn a_rehearsal_checks_everything_and_adds_nothing() {
    let ensue = Ensue::new();
    let dry_run = [&ORDER_STREAM[..], &["--dry-run", "-o", "json"]].concat();
    let rehearsed = ensue.emit(&dry_run, ORDER).ok().object();
    assert_eq!((&rehearsed["dry_run"], &rehearsed["position"]), (&json!(true), &json!(null)));
    assert!(!ensue.data().exists());
    ensue.emit(&ORDER_STREAM, ORDER).ok();
    assert_eq!(ensue.emit(&dry_run, ORDER).ok().object()["repeated"], json!(true));
    ensue.emit(&dry_run, &another_order()).refused(6, "E0204");
    ensue.emit(&["--stream", "saga.x/1", "--dry-run"], UNKNOWN).refused(1, "E0108");
    assert_eq!(ensue.ids(), ["evt-a1b2c3"]);
}

#[test]
fn what_breaks_a_rule_is_refused_with_its_place_and_nothing_is_lost() {
    let ensue = Ensue::with_counts(2);
    let wrong = "{\n  \"event_type\": \"A\",\n  \"data\": {\"total\" 59.98}\n}";
    ensue.emit(&["--stream", "A/1"], wrong).refused(2, "E0102").says(
        "  --> standard input:3:20\n   |\n 3 |   \"data\": {\"total\" 59.98}\n   |                    ^",
    );
    ensue.emit(&[], UNKNOWN).refused(2, "E0104").says("Unheard").says("--stream TOPIC/KEY");
    ensue.emit(&["--stream", "A/1"], "{}").refused(2, "E0103").says("specversion");
    ensue
        .emit(&["--stream", "A/1"], r#"{"event_type":"A","data":1,"data":2}"#)
        .refused(2, "E0103")
        .says("twice");
    ensue.emit(&["--stream", "A/b/c"], UNKNOWN).refused(2, "E0101").says("'/'");
    let long = ensue.emit(&["--stream", &format!("A/{}", "k".repeat(10_000))], UNKNOWN).refused(2, "E0101");
    assert!(long.err.len() < 1_000, "the name is not repeated whole: {}", long.err);
    ensue.emit(&["--stream", "command.Pay/1"], UNKNOWN).refused(1, "E0108");
    assert_eq!(ensue.ids(), ["c1", "c2"]);
    ensue.run(&["verify"]).ok();
}

#[test]
fn an_order_that_contradicts_itself_is_refused_by_field_and_expected_value() {
    let ensue = Ensue::new();
    ensue
        .emit(&[], &ORDER.replace("59.98", "60.00"))
        .refused(2, "E0106")
        .says("total is 60.00, expected 59.98");
    ensue.emit(&[], &ORDER.replace(r#""qty":2"#, r#""qty":0"#)).refused(2, "E0106").says("items[0].qty is 0");
    ensue
        .emit(&[], &ORDER.replace("59.98", "59.985"))
        .refused(2, "E0105")
        .says("`59.985`")
        .says("two decimals");
    ensue.emit(&[], &ORDER.replace(r#","total":59.98"#, "")).refused(2, "E0105").says("`total`");
    ensue.emit(&["--stream", "Order/ORD-9"], ORDER).refused(2, "E0701").says("Order/ORD-5001");
    assert!(!ensue.data().exists(), "a refusal makes no store");
    ensue.emit(&[], ORDER).ok();
    let late = ORDER.replace("evt-a1b2c3", "late").replace("59.98", "1.00");
    ensue.emit(&[], &late).refused(2, "E0106").says("total is 1.00, expected 59.98");
    assert_eq!(ensue.ids(), ["evt-a1b2c3"]);
}

#[test]
fn an_event_of_the_bank_finds_its_account() {
    let ensue = Ensue::new();
    let opened = r#"{"account_id":"ACC-7","owner":"Grace","amount":1000}"#;
    let emitted =
        ensue.run(&["emit", "AccountOpened", "--id", "a1", "-d", opened, "-o", "json"]).ok().object();
    assert_eq!((&emitted["stream"], &emitted["position"]), (&json!("Account/ACC-7"), &json!(1)));
    let event = ensue.run(&["event", "show", "a1", "-o", "json"]).ok().object();
    assert_eq!(event["data"], json!({"account_id": "ACC-7", "owner": "Grace", "amount": 1000}));
    assert!(event["tags"].to_string().contains("Grace"), "the type says that its owner is a tag: {event}");
    let wrong = r#"{"account_id":"ACC-7","amount":"much"}"#;
    ensue.run(&["emit", "Deposited", "-d", wrong]).refused(2, "E0105").says("\"much\"");
    assert_eq!(ensue.ids(), ["a1"]);
}

#[test]
fn a_document_of_100_mb_is_refused_and_later_ones_are_taken() {
    let ensue = Ensue::new();
    let file = ensue.around.path().join("large.json");
    std::fs::File::create(&file).and_then(|file| file.set_len(100 << 20)).expect("a sparse file");
    let path = format!("@{}", file.display());
    ensue.run(&["emit", "Large", "-d", &path, "--stream", "A/1"]).refused(1, "E0107").says("large.json");
    let mut piped = ensue.command(&["emit", "Large", "-d", "-", "--stream", "A/1"]);
    let stdin = std::fs::File::open(&file).expect("it was made above");
    let output = piped.stdin(stdin).output().expect("the binary ends");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("E0107"));
    ensue.emit(&ORDER_STREAM, ORDER).ok();
    assert_eq!(ensue.ids(), ["evt-a1b2c3"]);
}

#[test]
fn an_error_in_json_has_code_kind_message_fix_and_causes() {
    let ensue = Ensue::new();
    let answer = ensue.emit(&["-o", "json"], UNKNOWN).refused(2, "E0104");
    let error: serde_json::Value = serde_json::from_str(&answer.err).expect(&answer.err);
    assert_eq!(members(&error), ["causes", "code", "fix", "kind", "message"]);
    assert_eq!(error["kind"], "invalid");
    let usage = ensue.run(&["emit", "-o", "json"]).refused(2, "E0701");
    serde_json::from_str::<serde_json::Value>(&usage.err).expect("a refused command line is JSON too");
}
