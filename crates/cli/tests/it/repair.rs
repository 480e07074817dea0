//! Broken orders that an operator sees to, from what `flow stuck` says to the books that agree afterwards.

use serde_json::{Value, json};

use crate::Ensue;

/// A demonstration with broken orders, and one of its reports.
struct Shop {
    ensue: Ensue,
    style: &'static str,
    report: Value,
}

impl Shop {
    fn broken(style: &'static str, count: &str) -> Self {
        let ensue = Ensue::new();
        let demo = ["demo", "--orders", "30", "--break", count, "--style", style, "-o", "json"];
        let report = ensue.run(&demo).ok().object()[style].clone();
        Self { ensue, style, report }
    }

    /// The order that is broken in this way.
    fn order(&self, kind: &str) -> String {
        let broken = self.report["broken"].as_array().expect("a list");
        let order = broken.iter().find(|order| order["kind"] == kind).expect(kind);
        order["key"].as_str().expect("a key").to_owned()
    }

    fn saga(&self, request: &str, key: &str, more: &[&str]) {
        let asked = ["saga", request, "fulfil-order", key, "--reason", "the customer called"];
        self.ensue.run(&[&asked[..], more].concat()).ok();
    }

    /// Runs the shop again; the books have to agree.
    fn resume(&mut self) {
        self.report = self.ensue.run(&["demo", "--resume", "-o", "json"]).ok().object()[self.style].clone();
    }

    /// What `flow stuck` says of an order.
    fn stuck(&self, key: &str) -> Option<Value> {
        let found = self.ensue.run(&["flow", "stuck", "-o", "jsonl"]).ok().objects();
        found.into_iter().find(|flow| flow["key"] == key)
    }

    /// The broken orders that have ended.
    fn ended(&self) -> Vec<String> {
        let broken = self.report["broken"].as_array().expect("a list").iter();
        let ended = broken.filter(|order| order["ended"] == true);
        ended.map(|order| order["key"].as_str().expect("a key").to_owned()).collect()
    }
}

#[test]
fn an_order_whose_day_is_brought_forward_ends_and_the_books_agree() {
    let mut shop = Shop::broken("choreography", "5");
    assert_eq!(shop.ended(), Vec::<String>::new());
    let (later, parked) = (shop.order("timer"), shop.order("parked"));
    let owner = format!("Payment/{later}");
    let timers = shop.ensue.run(&["timer", "ls", "--owner", &owner, "-o", "json"]).ok().object();
    let name = timers[0]["name"].as_str().expect("a name").to_owned();
    shop.ensue.run(&["timer", "fire", &owner, &name, "--reason", "the customer called"]).ok();
    let asked = shop.ensue.run(&["dead", "redrive", "take-payment", &parked]).ok();
    assert!(asked.out.starts_with("1 letter of 1 key will be tried again"), "{}", asked.out);
    shop.resume();
    assert_eq!(shop.ended(), [later]);
    assert_eq!(shop.report["orders"], json!(30));
}

#[test]
fn sagas_that_an_operator_cancels_or_gives_outcomes_end_and_the_books_agree() {
    let mut shop = Shop::broken("saga", "4");
    let undone = shop.order("undo_failed");
    let parked: Vec<String> = shop.report["broken"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|order| order["kind"] == "parked")
        .map(|order| order["key"].as_str().expect("a key").to_owned())
        .collect();
    let [cancelled, resolved] = parked.as_slice() else { panic!("two of four: {parked:?}") };
    let before = shop.stuck(cancelled).expect("it is parked");
    shop.saga("pause", cancelled, &[]);
    shop.saga("resume", cancelled, &[]);
    shop.resume();
    assert_eq!(shop.ended(), Vec::<String>::new());
    assert_eq!(shop.stuck(cancelled), Some(before), "a pause makes the problem no younger");
    shop.saga("cancel", cancelled, &[]);
    let shown = shop.ensue.run(&["saga", "show", "fulfil-order", cancelled, "-o", "json"]).ok().object();
    let head = &shown["head"];
    assert_eq!((&head["status"], &head["requested"]), (&json!("waiting"), &json!("cancel")));
    assert_eq!((&head["code"], &head["reason"]), (&json!("E0605"), &json!("the customer called")));
    assert_eq!(shop.stuck(cancelled), None, "it goes on as soon as the application runs");
    shop.saga("resolve", &undone, &["--step", "charge", "--skip-undo"]);
    let paid = format!(r#"{{"order_id":"{resolved}","payment_id":"PAY-BY-HAND","amount":0}}"#);
    shop.saga("resolve", resolved, &["--step", "charge", "--done", &paid]);
    shop.resume();
    let mut expected = [cancelled.clone(), resolved.clone(), undone];
    expected.sort();
    assert_eq!(shop.ended(), expected);
    for key in &expected {
        assert_eq!(shop.stuck(key), None, "its command is parked, but nobody waits for the answer");
    }
    let letters = shop.ensue.run(&["dead", "ls", "handle.ProcessPayment", "-o", "jsonl"]).ok().objects();
    assert_eq!(letters.len(), 2, "what is parked stays until somebody gives it up");
}

#[test]
fn an_outcome_given_by_hand_has_to_be_json() {
    let shop = Shop::broken("saga", "1");
    let key = shop.order("parked");
    let resolve = ["saga", "resolve", "fulfil-order", &key, "--reason", "x", "--step", "charge", "--done"];
    shop.ensue.run(&[&resolve[..], &["{bad"]].concat()).refused(2, "E0102").says("--done:1:2");
}

#[test]
fn the_reason_of_a_refusal_is_told_in_words() {
    let shop = Shop::broken("saga", "2");
    let stuck = shop.ensue.run(&["flow", "stuck"]).ok().out;
    assert!(stuck.contains("was refused 5 times: the account is closed"), "{stuck}");
}

#[test]
fn what_cannot_be_broken_is_refused_and_makes_no_store() {
    let ensue = Ensue::new();
    ensue.run(&["demo", "--orders", "3", "--break", "9"]).refused(2, "E0701").says("9 of 3");
    for shop_only in [&["--break", "2"][..], &["--resume"]] {
        let bank = [&["demo", "--app", "bank"][..], shop_only].concat();
        ensue.run(&bank).refused(2, "E0701").says(shop_only[0]);
    }
    assert!(!ensue.data().exists());
}
