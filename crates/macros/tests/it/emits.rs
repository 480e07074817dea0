//! `#[derive(Emits)]` on enums.

use ensue_core::{Draft, Emits};
use ensue_macros::{Emits, Event};
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, topic = "Payment", key = order_id)]
struct PaymentCompleted {
    order_id: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, topic = "Payment", key = order_id)]
struct ReceiptPrinted {
    order_id: String,
}

#[derive(Emits)]
#[emits(crate = ensue_core)]
enum Outcome {
    Paid(PaymentCompleted),
    PaidWithReceipts((PaymentCompleted, Vec<ReceiptPrinted>)),
    AlreadyPaid,
}

fn emitted(outcome: Outcome) -> Vec<String> {
    let mut drafts: Vec<Draft> = Vec::new();
    outcome.emit(&mut drafts).expect("good names");
    drafts.iter().map(|draft| draft.event_type.to_string()).collect()
}

#[test]
fn every_type_that_can_come_out_is_known_before() {
    let types: Vec<&str> = Outcome::types().iter().map(|info| info.event_type).collect();
    assert_eq!(types, ["PaymentCompleted", "PaymentCompleted", "ReceiptPrinted"]);
}

#[test]
fn a_variant_emits_what_it_holds_in_order() {
    let paid = || PaymentCompleted { order_id: "ORD-1".into() };
    let receipt = || ReceiptPrinted { order_id: "ORD-1".into() };
    assert_eq!(emitted(Outcome::Paid(paid())), ["PaymentCompleted"]);
    let several = Outcome::PaidWithReceipts((paid(), vec![receipt(), receipt()]));
    assert_eq!(emitted(several), ["PaymentCompleted", "ReceiptPrinted", "ReceiptPrinted"]);
}

#[test]
fn a_unit_variant_emits_nothing() {
    assert!(emitted(Outcome::AlreadyPaid).is_empty());
}
