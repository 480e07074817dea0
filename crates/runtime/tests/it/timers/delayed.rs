//! Events and commands that are appended later.

use ensue_core::{Code, EventId};
use ensue_macros::Command;
use ensue_runtime::timer::Action;

use super::*;

async fn remind_by_name(placed: OrderPlaced) -> Delayed<PaymentDue> {
    Delayed::after(10 * MINUTE, PaymentDue { order: placed.order }).named("payment")
}

#[derive(Command, Serialize, Deserialize, Clone)]
#[command(crate = ensue_core, key = order, reply = PaymentDue, failure = PaymentFailed, publish)]
struct Chase {
    order: String,
}

async fn chase(State(diary): State<Diary>, chase: Chase) -> Result<PaymentDue, PaymentFailed> {
    diary.note(chase.order.clone());
    Ok(PaymentDue { order: chase.order })
}

fn reminding() -> Harness {
    Harness::new(|app: App| app.external::<OrderPlaced>().react("remind", remind))
}

#[tokio::test]
async fn a_delayed_event_is_appended_when_it_is_due_with_its_cause() {
    let mut harness = reminding();
    harness.publish(placed("ORD-1")).await;
    harness.settle().await;
    let [timer] = timers(&harness).await.try_into().expect("one timer");
    let Action::Append { stream, event } = &timer.action else { panic!("{timer:?}") };
    assert_eq!((stream.to_string(), event.event_type.as_str()), ("Order/ORD-1".to_owned(), "PaymentDue"));
    harness.advance(Duration::from_millis(599_999)).await;
    assert_eq!(harness.events().await, ["OrderPlaced"]);
    harness.advance(Duration::from_millis(1)).await;
    let [placed, due] = harness.recorded().await.try_into().expect("two events");
    let caused = (due.envelope.causation.as_ref(), due.envelope.flow(), due.envelope.time);
    assert_eq!(caused, (Some(&placed.envelope.id), &placed.envelope.id, timer.due));
    assert_eq!(timers(&harness).await, []);
}

#[tokio::test]
async fn a_delayed_event_comes_once_whatever_crashes() {
    let crashes = crash_everywhere(reminding, async |harness: &mut Harness| {
        harness.publish(placed("ORD-1")).await;
        harness.settle().await;
        harness.advance(11 * MINUTE).await;
        assert_eq!(harness.events().await, ["OrderPlaced", "PaymentDue"]);
    })
    .await;
    assert!(crashes >= 8, "start, publish, settle and fire are commits, each crashed at twice: {crashes}");
}

#[tokio::test]
async fn a_name_is_held_by_the_newest_timer() {
    let mut harness = Harness::new(|app: App| app.external::<OrderPlaced>().react("remind", remind_by_name));
    harness.publish(placed("ORD-1")).await;
    harness.advance(6 * MINUTE).await;
    // The order begins anew: what its former life has set must not go off in the new one.
    harness.publish(placed("ORD-1")).await;
    harness.advance(9 * MINUTE).await;
    assert_eq!(harness.events().await, ["OrderPlaced", "OrderPlaced"], "the first was due five minutes ago");
    harness.advance(MINUTE).await;
    assert_eq!(harness.events().await, ["OrderPlaced", "OrderPlaced", "PaymentDue"]);
    assert_eq!(timers(&harness).await, []);
}

#[tokio::test]
async fn a_command_can_be_sent_later_and_is_done_once() {
    let diary = Diary::default();
    let given = diary.clone();
    let mut harness = Harness::new(move |app: App| app.state(given.clone()).handle(chase));
    let id = EventId::new("chase-1").expect("valid");
    for _ in 0..2 {
        let command = Chase { order: "ORD-1".to_owned() };
        let scheduled = harness.running().await.dispatch(command).id(id.clone()).after(MINUTE).await;
        assert_eq!(scheduled.expect("it is set").event, id);
    }
    assert_eq!(timers(&harness).await.len(), 1, "the second was the first again");
    let other = Chase { order: "ORD-2".to_owned() };
    let refused = harness.running().await.dispatch(other).id(id).after(MINUTE).await;
    assert_eq!(refused.expect_err("the id is taken").code(), Code::DUPLICATE_ID);
    harness.restart().await;
    assert_eq!(diary.lines(), Vec::<String>::new());
    harness.advance(MINUTE).await;
    assert_eq!(
        (diary.lines(), harness.events().await),
        (vec!["ORD-1".to_owned()], vec!["PaymentDue".to_owned()])
    );
}

#[tokio::test]
async fn an_event_can_be_published_at_a_time() {
    let mut harness = Harness::new(|app: App| app.external::<OrderPlaced>());
    let past: Timestamp = "2024-01-01T00:00:00Z".parse().expect("a time");
    let coming: Timestamp = "2024-01-15T12:00:00Z".parse().expect("a time");
    let running = harness.running().await;
    running.publish(placed("ORD-2")).at(coming).await.expect("it is set");
    running.publish(placed("ORD-1")).at(past).await.expect("it is set");
    harness.settle().await;
    let recorded = harness.recorded().await;
    assert_eq!(recorded.iter().map(|event| event.stream.key.as_str()).collect::<Vec<_>>(), ["ORD-1"]);
    harness.advance(90 * MINUTE).await;
    assert_eq!(harness.events().await.len(), 2);
    let refused = harness.running().await.publish(placed("ORD-1")).at(past).named("a\nb").await;
    assert_eq!(refused.expect_err("no name").code(), Code::INVALID_NAME);
}
