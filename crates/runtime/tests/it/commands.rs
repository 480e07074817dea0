//! Commands: both shapes of handlers, aggregates, answers that are repeated.

use std::time::Duration;

use ensue_core::{Code, EventId, Position, StoreExt};
use ensue_macros::Command;
use ensue_runtime::app::DispatchError;
use ensue_runtime::{App, State};
use ensue_test::{Harness, crash_everywhere};
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
    assert_eq!((error.code(), error.message()), (Code::HANDLER_FAILED, "no counter"));
    shop.dispatch(Remind { order: "ORD-1".into() }).await.expect("a command without an answer to speak of");
}

#[tokio::test]
async fn a_command_repeated_under_its_id_is_answered_again_and_done_once() {
    let diary = Diary::default();
    let mut shop = shop(&diary);
    let running = shop.running().await;
    let id = EventId::new("cmd-1").expect("valid");
    for _ in 0..2 {
        let command = ProcessPayment { order: "ORD-1".into(), cents: 5 };
        let done = running.dispatch(command).id(id.clone()).await.expect("affordable");
        assert_eq!(done.output.order, "ORD-1");
    }
    let refused = EventId::new("cmd-2").expect("valid");
    for _ in 0..2 {
        let command = ProcessPayment { order: "ORD-2".into(), cents: 50_000 };
        let answer = running.dispatch(command).id(refused.clone()).await;
        assert!(matches!(answer, Err(DispatchError::Refused(_))), "{answer:?}");
    }
    assert_eq!(diary.lines(), ["ORD-1", "ORD-2"]);
    let other = running.dispatch(ProcessPayment { order: "ORD-3".into(), cents: 5 }).id(id).await;
    let Err(DispatchError::Failed(error)) = other else { panic!("{other:?}") };
    assert_eq!(error.code(), Code::DUPLICATE_ID);
}

#[tokio::test]
async fn a_command_nobody_handles_and_an_answer_that_takes_too_long_are_typed_failures() {
    async fn never(_: Remind) -> Result<(), ()> {
        std::future::pending().await
    }
    let mut shop = Harness::new(|app: App| app.handle(never));
    let running = shop.running().await;
    let unhandled = running.dispatch(Count { order: "ORD-1".into() }).await;
    let Err(DispatchError::Failed(error)) = unhandled else { panic!("{unhandled:?}") };
    assert_eq!(error.code(), Code::COMMAND_UNHANDLED);
    let (store, clock) = (shop.store().clone(), shop.clock().clone());
    let running = shop.running().await;
    let dispatch = running.dispatch(Remind { order: "ORD-1".into() }).within(Duration::from_secs(5));
    let (late, ()) = tokio::join!(dispatch.into_future(), async {
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(5));
    });
    let Err(DispatchError::Failed(error)) = late else { panic!("{late:?}") };
    assert_eq!(error.code(), Code::HANDLER_TIMED_OUT);
    assert_eq!(store.head().await.expect("memory can be read"), Position::ZERO);
}

#[tokio::test]
async fn a_crash_at_any_commit_does_a_dispatched_command_once() {
    let crashes = crash_everywhere(
        || shop(&Diary::default()),
        async |shop: &mut Harness| {
            let done = shop.dispatch(ProcessPayment { order: "ORD-1".into(), cents: 5 }).await;
            assert_eq!(done.expect("affordable").output.order, "ORD-1");
            shop.settle().await;
            assert_eq!(shop.events().await, ["PaymentCompleted"]);
        },
    )
    .await;
    assert!(crashes >= 4, "{crashes}");
}
