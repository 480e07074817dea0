//! `#[derive(Command)]` on structs and enums.

use ensue_core::{Code, Command, CommandSet, StreamName};
use ensue_macros::{Command, Event};
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, topic = "Payment", key = order_id)]
struct PaymentCompleted {
    order_id: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(crate = ensue_core, topic = "Payment", key = order_id)]
struct PaymentFailed {
    order_id: String,
}

#[derive(Command, Serialize, Deserialize, PartialEq, Debug)]
#[command(crate = ensue_core, key = order_id, reply = PaymentCompleted, failure = PaymentFailed, publish)]
struct ProcessPayment {
    order_id: String,
}

#[derive(Command, Serialize, Deserialize, PartialEq, Debug)]
#[command(crate = ensue_core, name = "payment.refund", key = order)]
struct Refund {
    #[serde(rename = "orderId")]
    order: u64,
}

#[derive(Command, PartialEq, Debug)]
#[command(crate = ensue_core)]
enum PaymentCommand {
    Process(ProcessPayment),
    Refund(Refund),
}

#[test]
fn a_struct_knows_its_type_and_key() {
    assert_eq!((ProcessPayment::TYPE, ProcessPayment::KEY_FIELD), ("ProcessPayment", "order_id"));
    assert_eq!((Refund::TYPE, Refund::KEY_FIELD), ("payment.refund", "orderId"));
    assert_eq!(Command::key(&Refund { order: 7 }), "7");
}

#[test]
fn an_answer_is_not_published_unless_asked_for() {
    assert!(Refund::publishes().is_empty());
    assert!(Refund::published(&Err(())).expect("nothing to encode").is_empty());
}

#[test]
fn a_published_answer_is_one_event_of_either_side() {
    let types: Vec<&str> = ProcessPayment::info().publishes.iter().map(|info| info.event_type).collect();
    assert_eq!(types, ["PaymentCompleted", "PaymentFailed"]);
    for (answer, event_type) in [
        (Ok(PaymentCompleted { order_id: "ORD-1".into() }), "PaymentCompleted"),
        (Err(PaymentFailed { order_id: "ORD-1".into() }), "PaymentFailed"),
    ] {
        let drafts = ProcessPayment::published(&answer).expect("good names");
        let [draft] = drafts.as_slice() else { panic!("{} drafts", drafts.len()) };
        assert_eq!(draft.event_type.as_str(), event_type);
        assert_eq!(draft.stream, StreamName::new("Payment", "ORD-1").expect("a plain name"));
    }
}

#[test]
fn a_set_decodes_each_of_its_commands() {
    let types: Vec<&str> = PaymentCommand::types().iter().map(|info| info.command_type).collect();
    assert_eq!(types, ["ProcessPayment", "payment.refund"]);
    let refund = PaymentCommand::decode("payment.refund", br#"{"orderId":7}"#).expect("its own shape");
    assert_eq!(refund, PaymentCommand::from(Refund { order: 7 }));
    assert_eq!(CommandSet::key(&refund), "7");
}

#[test]
fn a_set_refuses_other_commands_and_bad_bodies() {
    let unknown = PaymentCommand::decode("Ship", b"{}").expect_err("not in the set");
    assert_eq!(unknown.code(), Code::UNKNOWN_TYPE);
    let bad = PaymentCommand::decode("ProcessPayment", b"{}").expect_err("no order_id");
    assert_eq!(bad.code(), Code::INVALID_BODY);
}
