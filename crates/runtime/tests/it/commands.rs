//! Commands: both shapes of handlers, aggregates, answers that are repeated.

use ensue_macros::Command;
use ensue_runtime::app::DispatchError;
use ensue_runtime::{App, State};
use ensue_test::Harness;
use serde::{Deserialize, Serialize};

use crate::words::{Broken, Diary, PaymentCompleted, PaymentFailed};

#[derive(Command, Serialize, Deserialize, Clone)]
#[command(crate = ensue_core, key = order, reply = PaymentCompleted, failure = PaymentFailed, publish)]
struct ProcessPayment {
    order: String,
    cents: u64,
}

#[derive(Command, Serialize, Deserialize, Clone)]
#[command(crate = ensue_core, key = order)]
struct Remind {
    order: String,
}

#[derive(Command, Serialize, Deserialize, Clone)]
#[command(crate = ensue_core, key = order, reply = u64, failure = String)]
struct Count {
    order: String,
}

async fn process_payment(
    State(diary): State<Diary>,
    command: ProcessPayment,
) -> Result<PaymentCompleted, PaymentFailed> {
    diary.note(command.order.clone());
    let order = command.order;
    if command.cents > 10_000 { Err(PaymentFailed { order }) } else { Ok(PaymentCompleted { order }) }
}

async fn remind(_: Remind) -> Result<(), ()> {
    Ok(())
}

async fn count(State(diary): State<Diary>, command: Count) -> Result<Result<u64, String>, Broken> {
    match command.order.as_str() {
        "broken" => Err(Broken("no counter")),
        "none" => Ok(Err("nothing to count".to_owned())),
        order => Ok(Ok(diary.count(order) as u64)),
    }
}

fn shop(diary: &Diary) -> Harness {
    let diary = diary.clone();
    Harness::new(move |app: App| {
        app.state(diary.clone()).handle(process_payment).handle(remind).handle(count)
    })
}

#[tokio::test]
async fn a_handler_answers_with_its_reply_or_its_typed_failure() {
    let mut shop = shop(&Diary::default());
    let done = shop.dispatch(ProcessPayment { order: "ORD-1".into(), cents: 5 }).await.expect("affordable");
    assert_eq!(done.output, PaymentCompleted { order: "ORD-1".into() });
    let refused = shop.dispatch(ProcessPayment { order: "ORD-2".into(), cents: 50_000 }).await;
    let Err(DispatchError::Refused(failure)) = refused else { panic!("{refused:?}") };
    assert_eq!(failure, PaymentFailed { order: "ORD-2".into() });
    assert_eq!(shop.events().await, ["PaymentCompleted", "PaymentFailed"], "both were asked to be published");
}

#[tokio::test]
async fn a_handler_may_also_break_down() {
    let mut shop = shop(&Diary::default());
    assert_eq!(shop.dispatch(Count { order: "ORD-1".into() }).await.expect("it counts").output, 0);
    let refused = shop.dispatch(Count { order: "none".into() }).await;
    let Err(DispatchError::Refused(failure)) = refused else { panic!("{refused:?}") };
    assert_eq!(failure, "nothing to count");
    let broken = shop.dispatch(Count { order: "broken".into() }).await;
    let Err(DispatchError::Failed(error)) = broken else { panic!("{broken:?}") };
    assert_eq!((error.code(), error.message()), (ensue_core::Code::HANDLER_FAILED, "no counter"));
    shop.dispatch(Remind { order: "ORD-1".into() }).await.expect("a command without an answer to speak of");
}
