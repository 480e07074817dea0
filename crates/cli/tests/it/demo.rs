//! The demonstrations from end to end: what they print, what can be looked at afterwards, and that one which was killed is
//! taken up with nothing lost and nothing done twice.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::{Ensue, members};

/// Orders of the demonstration that is killed, and answers of the payment provider after which it is.
const ORDERS: u64 = 2_000;
const ANSWERS_BEFORE_THE_KILL: usize = 300;

#[track_caller]
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a count: {value}"))
}

/// An amount of money in cents: exact, where the sum of two fractions is not.
#[track_caller]
fn cents(value: &Value) -> u64 {
    let text = value.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, "0"));
    format!("{whole}{fraction:0<2}").parse().unwrap_or_else(|_| panic!("an amount of money: {text}"))
}

/// Asserts that all books of one style agree: every order in exactly one end, money and pieces add up.
#[track_caller]
pub(crate) fn adds_up(report: &Value, orders: u64) {
    assert_eq!(
        members(report),
        [
            "broken",
            "effects",
            "elapsed_s",
            "events",
            "latency_us",
            "money",
            "orders",
            "orders_per_s",
            "outcomes",
            "stock"
        ]
    );
    assert_eq!(
        members(&report["outcomes"]),
        ["completed", "inventory_failed", "payment_failed", "shipping_failed"]
    );
    assert_eq!(members(&report["latency_us"]), ["max", "p50", "p99"]);
    assert_eq!(number(&report["orders"]), orders);
    let ends = report["outcomes"].as_object().expect("an object").values().map(number).sum::<u64>();
    let broken = report["broken"].as_array().expect("a list").len() as u64;
    assert_eq!(ends + broken, orders, "{report}");
    let money = &report["money"];
    assert_eq!(members(money), ["charged", "kept", "refunded"]);
    assert!(cents(&money["kept"]) > 0, "{report}");
    assert_eq!(cents(&money["charged"]), cents(&money["refunded"]) + cents(&money["kept"]), "{report}");
    let stock = &report["stock"];
    assert_eq!(members(stock), ["initial", "left", "released", "reserved"]);
    assert_eq!(
        number(&stock["initial"]) + number(&stock["released"]),
        number(&stock["reserved"]) + number(&stock["left"]),
        "{report}"
    );
}

/// Watches a ledger until it has so many lines. Behind them stand zeros, which lines replace, so a reader cannot follow it.
fn wait_for_lines(path: &Path, lines: usize, mut is_running: impl FnMut() -> bool) {
    loop {
        let ledger = std::fs::read(path).unwrap_or_default();
        let seen = ledger.split(|byte| *byte == b'\n').count() - 1;
        if seen >= lines {
            return;
        }
        assert!(is_running(), "it ended with {seen} lines in {}", path.display());
        std::thread::yield_now();
    }
}

#[test]
fn a_demonstration_prints_the_promised_members_and_its_books_agree() {
    let ensue = Ensue::new();
    let printed = ensue.run(&["demo", "--orders", "20", "-o", "json"]).ok().object();
    assert_eq!(members(&printed), ["choreography"]);
    adds_up(&printed["choreography"], 20);
    assert!(number(&printed["choreography"]["events"]) >= 40, "{printed}");
}

#[test]
fn both_styles_come_to_the_same_ends() {
    let ensue = Ensue::new();
    let printed = ensue.run(&["demo", "--orders", "20", "--style", "both", "-o", "json"]).ok().object();
    assert_eq!(members(&printed), ["choreography", "saga"]);
    let [choreography, saga] = ["choreography", "saga"].map(|style| &printed[style]);
    adds_up(choreography, 20);
    adds_up(saga, 20);
    for member in ["outcomes", "money", "stock"] {
        assert_eq!(choreography[member], saga[member], "{member}");
    }
}

#[test]
fn the_bank_shows_its_balances() {
    let ensue = Ensue::new();
    let bank = ["demo", "--app", "bank", "-o", "json"];
    let printed = ensue.run(&bank).ok();
    assert_eq!(printed.out, "{\"balances\":[1000,800,900,500]}\n");
    assert_eq!(ensue.run(&bank).ok().out, printed.out, "its commands carry ids: nothing happens twice");
    ensue.run(&["projection", "verify", "accounts"]).ok();
}

#[test]
fn a_folder_with_a_demonstration_is_only_taken_up_when_asked() {
    let ensue = Ensue::new();
    let first = ensue.run(&["demo", "--orders", "10", "-o", "json"]).ok().object();
    ensue.run(&["demo", "--orders", "10"]).refused(2, "E0701").says("--resume");
    let resumed = ensue.run(&["demo", "--orders", "10", "--resume", "-o", "json"]).ok().object();
    adds_up(&resumed["choreography"], 10);
    for member in ["outcomes", "money", "stock", "events"] {
        assert_eq!(resumed["choreography"][member], first["choreography"][member], "{member}");
    }
}

#[test]
fn a_folder_has_one_process_and_is_not_joined() {
    let ensue = Ensue::new();
    ensue.run(&["demo", "--orders", "10", "-q"]).ok();
    ensue.run(&["demo", "--join"]).refused(1, "E0506").says("postgres://");
}

#[test]
fn events_of_others_are_not_mixed_with_a_demonstration() {
    let ensue = Ensue::with_counts(1);
    ensue.run(&["demo", "--orders", "10"]).refused(2, "E0701");
    assert_eq!(ensue.ids(), ["c1"]);
}

#[test]
fn a_demonstration_that_is_killed_ends_every_order_once_when_resumed() {
    let ensue = Ensue::new();
    let mut killed = ensue.spawn(&["demo", "--orders", &ORDERS.to_string()]);
    let ledger = ensue.data().join("outside/payments/ledger.lines");
    wait_for_lines(&ledger, ANSWERS_BEFORE_THE_KILL, || killed.try_wait().expect("our own child").is_none());
    killed.kill().expect("it runs");
    let ended = killed.wait().expect("it was killed");
    assert_eq!(ended.signal(), Some(9), "it was killed before its end");

    let resumed = ensue.run(&["demo", "--resume", "-o", "json"]).ok().object();
    adds_up(&resumed["choreography"], ORDERS);
    ensue.run(&["projection", "verify", "orders_view"]).ok();
    ensue.run(&["verify"]).ok();
    assert_eq!(ensue.run(&["dead", "ls", "-o", "json"]).ok().object(), json!([]));
}

#[test]
fn flows_of_a_demonstration_are_listed_and_shown() {
    let ensue = Ensue::new();
    let printed = ensue.run(&["demo", "--orders", "20", "-o", "json"]).ok().object();
    let listed = ensue.run(&["flow", "ls", "-n", "100", "-o", "jsonl"]).ok().objects();
    assert_eq!(listed.len(), 20, "{listed:?}");
    let done = ensue.run(&["flow", "ls", "--status", "done", "-n", "100", "-o", "jsonl"]).ok().objects();
    assert_eq!(done.len() as u64, number(&printed["choreography"]["outcomes"]["completed"]), "{done:?}");
    let five = ensue.run(&["flow", "ls", "-n", "5", "-o", "json"]).ok().object();
    assert_eq!(five.as_array().map(Vec::len), Some(5));

    let shown = ensue.run(&["flow", "show", "ORD-0001", "-o", "json"]).ok().object();
    assert_eq!((&shown["key"], &shown["kind"]), (&json!("ORD-0001"), &json!("order")));
    assert_eq!(shown["nodes"][0]["event_type"], "OrderPlaced");
    assert_eq!(shown["nodes"][0]["depth"], 0);
    assert_eq!(Some(number(&shown["events"])), shown["nodes"].as_array().map(|nodes| nodes.len() as u64));
    let by_id = shown["flow"].as_str().expect("an id");
    assert_eq!(ensue.run(&["flow", "show", by_id, "-o", "json"]).ok().object(), shown);
    assert!(ensue.run(&["flow", "show", "ORD-0001"]).ok().out.starts_with("order ORD-0001  "));
    ensue.run(&["flow", "show", "ORD-9999"]).refused(3, "E0414");
}

#[test]
fn read_models_are_compared_with_the_log_and_built_anew() {
    let ensue = Ensue::new();
    ensue.run(&["demo", "--orders", "20", "-q"]).ok();
    let verified = ensue.run(&["projection", "verify", "orders_view", "-o", "json"]).ok().object();
    assert_eq!(
        members(&verified),
        ["added", "different", "documents", "events", "missing", "projection", "unlisted"]
    );
    assert_eq!(verified["documents"], json!(20));
    let audited = ensue.run(&["projection", "audit", "orders_view", "-o", "json"]).ok().object();
    assert_eq!((&audited["clean"], &audited["documents_found"]), (&json!(true), &json!(20)));
    let rebuilt = ensue.run(&["projection", "rebuild", "sales", "-o", "json"]).ok().object();
    assert_eq!(members(&rebuilt), ["difference", "dropped", "events", "generation", "projection", "seconds"]);
    assert_eq!(rebuilt["generation"], json!({"version": 1, "number": 1}));
    ensue.run(&["projection", "audit", "sales"]).ok();
    let listed = ensue.run(&["projection", "ls"]).ok().out;
    assert!(listed.contains("orders_view") && !listed.contains("accounts"), "{listed}");
    ensue.run(&["projection", "verify", "sales"]).ok();
    ensue.run(&["projection", "verify", "unheard_of"]).refused(3, "E0414").says("orders_view");
}

#[test]
fn the_histories_of_the_shop_fit_the_code_of_the_shop() {
    let ensue = Ensue::new();
    ensue.run(&["demo", "-q", "--style", "saga", "--orders", "10"]).ok();
    let checked = ensue.run(&["saga", "check", "--all", "-o", "json"]).ok().object();
    assert_eq!((&checked["checked"], &checked["misfits"]), (&serde_json::json!(10), &serde_json::json!([])));
}
