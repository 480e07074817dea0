//! Flows and how they stand: a healthy one is never called late or stuck, one that nobody can go on with always is.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ensue_core::Host;
use ensue_runtime::dead::Which;
use ensue_runtime::flow::{FlowStatus, Rule, StuckFlow};
use ensue_runtime::{App, OnFailure, Reaction, Retry, State};
use ensue_test::Harness;

use crate::words::{Broken, Diary, OrderPlaced, PaymentCompleted, PaymentFailed, StockReserved, placed};

mod figures;
mod index;
mod operators;
mod sagas;
mod timers;

/// How a service behaves, by key: what tests write into a diary before they begin.
async fn take_payment(
    State(diary): State<Diary>,
    placed: OrderPlaced,
) -> Result<Option<PaymentCompleted>, Broken> {
    if diary.has("silent", &placed.order) {
        return Ok(None);
    }
    if diary.has("unreachable", &placed.order) {
        return Err(Broken("card declined"));
    }
    Ok(Some(PaymentCompleted { order: placed.order }))
}

async fn decline(State(diary): State<Diary>, placed: OrderPlaced) -> Option<PaymentFailed> {
    diary.has("declined", &placed.order).then_some(PaymentFailed { order: placed.order })
}

async fn reserve_stock(paid: PaymentCompleted) -> StockReserved {
    StockReserved { order: paid.order }
}

impl Diary {
    /// Whether there is a line for a key.
    fn has(&self, what: &str, key: &str) -> bool {
        self.count(&format!("{what} {key}")) > 0
    }
}

fn payment(app: App, diary: &Diary) -> App {
    let once = Retry { attempts: 1, ..Retry::DEFAULT };
    app.state(diary.clone())
        .external::<OrderPlaced>()
        .service("payment")
        .react("take-payment", take_payment.retry(once))
        .react("decline", decline)
}

fn shop(diary: &Diary) -> Harness {
    let diary = diary.clone();
    Harness::new(move |app: App| {
        payment(app, &diary).service("inventory").react("reserve-stock", reserve_stock).flow(
            "order",
            |flow| {
                flow.starts::<OrderPlaced>()
                    .ends::<StockReserved>()
                    .fails::<PaymentFailed>()
                    .within(Duration::from_hours(1))
            },
        )
    })
}

async fn stuck(shop: &mut Harness) -> Vec<StuckFlow> {
    shop.running().await.flows().await.expect("readable").stuck().await.expect("readable")
}

async fn the_stuck_one(shop: &mut Harness) -> StuckFlow {
    let mut stuck = stuck(shop).await;
    assert_eq!(stuck.len(), 1, "{stuck:#?}");
    stuck.remove(0)
}

async fn status(shop: &mut Harness, key: &str) -> FlowStatus {
    let flows = shop.running().await.flows().await.expect("readable");
    flows.show(key).await.expect("it is there").summary.status
}

#[tokio::test]
async fn a_flow_that_has_ended_is_done_or_failed_and_never_listed() {
    let diary = Diary::default();
    diary.note("declined ORD-2");
    diary.note("silent ORD-2");
    let mut shop = shop(&diary);
    shop.publish(placed("ORD-1")).await;
    shop.publish(placed("ORD-2")).await;
    shop.settle().await;
    assert_eq!(status(&mut shop, "ORD-1").await, FlowStatus::Done);
    assert_eq!(status(&mut shop, "ORD-2").await, FlowStatus::Failed);
    shop.advance(Duration::from_hours(48)).await;
    assert_eq!(stuck(&mut shop).await, [], "what is over is not late");
}

#[tokio::test]
async fn a_reply_that_never_comes_is_stuck_and_says_who_owes_what() {
    let diary = Diary::default();
    diary.note("silent ORD-2");
    let mut shop = shop(&diary);
    for order in ["ORD-1", "ORD-2", "ORD-3"] {
        shop.publish(placed(order)).await;
    }
    shop.settle().await;
    let flow = the_stuck_one(&mut shop).await;
    assert_eq!((flow.key.as_str(), flow.status, &flow.code), ("ORD-2", FlowStatus::Stuck, &None));
    assert_eq!(flow.waits_for.as_deref(), Some("PaymentCompleted"));
    assert_eq!(flow.from.as_deref(), Some("payment"));
    let since = flow.since.strftime("%FT%H:%M:%SZ");
    let expected = format!(
        "waits for PaymentCompleted from payment since {since}; payment has handled OrderPlaced #2 and not answered"
    );
    assert_eq!(flow.reason, expected);
    assert_eq!(status(&mut shop, "ORD-2").await, FlowStatus::Stuck);
}

#[tokio::test]
async fn a_parked_key_is_stuck_under_its_code_with_what_waits_behind_it_and_well_when_redriven() {
    let diary = Diary::default();
    diary.note("unreachable ORD-17");
    let mut shop = shop(&diary);
    shop.publish(placed("ORD-17")).await;
    shop.publish(placed("ORD-18")).await;
    shop.settle().await;
    let flow = the_stuck_one(&mut shop).await;
    assert_eq!((flow.key.as_str(), flow.code.as_deref()), ("ORD-17", Some("E0301")));
    let since = flow.since.strftime("%FT%H:%M:%SZ");
    let expected = format!(
        "waits for PaymentCompleted from payment since {since}; payment has parked ORD-17: E0301 card declined"
    );
    assert_eq!(flow.reason, expected);
    // A second order under the same key waits behind the first.
    shop.publish(placed("ORD-17")).await;
    shop.settle().await;
    let codes: Vec<Option<String>> = stuck(&mut shop).await.into_iter().map(|flow| flow.code).collect();
    assert_eq!(codes, [Some("E0301".to_owned()), Some("E0304".to_owned())]);

    diary.forget("unreachable ORD-17");
    let running = shop.running().await;
    let which = Which::key("take-payment", "ORD-17");
    assert_eq!(running.dead().redrive(&which).await.expect("it is parked").letters, 2);
    shop.settle().await;
    assert_eq!(stuck(&mut shop).await, []);
}

#[tokio::test]
async fn a_delivery_that_was_given_up_says_by_whom_when_and_why() {
    let diary = Diary::default();
    diary.note("unreachable ORD-17");
    let mut shop = shop(&diary);
    shop.publish(placed("ORD-17")).await;
    shop.settle().await;
    shop.advance(Duration::from_mins(5)).await;
    let now = shop.host().clock.now().strftime("%FT%H:%M:%SZ").to_string();
    let which = Which::key("take-payment", "ORD-17");
    let running = shop.running().await;
    running.dead().by("ada").discard(&which, "the customer is gone").await.expect("it is parked");
    shop.settle().await;
    let flow = the_stuck_one(&mut shop).await;
    assert_eq!((flow.from.as_deref(), flow.code.as_deref()), (Some("payment"), Some("E0301")));
    let end = format!("; OrderPlaced #1 was given up by ada at {now}: the customer is gone");
    assert!(flow.reason.ends_with(&end), "{}", flow.reason);
}

#[tokio::test]
async fn what_begins_without_being_declared_is_a_finding() {
    let mut shop = shop(&Diary::default());
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    let lint = async |shop: &mut Harness| {
        let findings = shop.running().await.flows().await.expect("readable").lint().await.expect("readable");
        findings.into_iter().map(|finding| (finding.rule, finding.subject)).collect::<Vec<_>>()
    };
    assert_eq!(lint(&mut shop).await, []);
    shop.publish(PaymentFailed { order: "ORD-9".to_owned() }).await;
    shop.settle().await;
    assert_eq!(lint(&mut shop).await, [(Rule::Undeclared, "PaymentFailed".to_owned())]);
}

#[tokio::test]
async fn an_event_that_nobody_consumes_is_named() {
    let diary = Diary::default();
    let mut shop = Harness::new({
        let diary = diary.clone();
        move |app: App| {
            payment(app, &diary).flow("order", |flow| flow.starts::<OrderPlaced>().ends::<StockReserved>())
        }
    });
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    let flow = the_stuck_one(&mut shop).await;
    assert_eq!((flow.waits_for.as_deref(), flow.from.as_deref()), (None, None));
    assert!(flow.reason.starts_with("nobody consumes PaymentCompleted #2 from payment"), "{}", flow.reason);
}

/// An order whose failure is to be undone, and whose undoing may fail.
fn with_undo(diary: &Diary) -> Harness {
    async fn undo(State(diary): State<Diary>, failed: PaymentFailed) -> Option<StockReserved> {
        (!diary.has("no undo", &failed.order)).then_some(StockReserved { order: failed.order })
    }
    let diary = diary.clone();
    Harness::new(move |app: App| {
        payment(app, &diary).service("undo").react("undo", undo).flow("order", |flow| {
            flow.starts::<OrderPlaced>()
                .ends::<PaymentCompleted>()
                .fails_until::<PaymentFailed, StockReserved>()
        })
    })
}

#[tokio::test]
async fn a_failure_is_over_when_it_is_undone_and_stuck_when_nobody_undoes_it() {
    let diary = Diary::default();
    for order in ["ORD-1", "ORD-2"] {
        diary.note(format!("declined {order}"));
        diary.note(format!("silent {order}"));
    }
    diary.note("no undo ORD-2");
    let mut shop = with_undo(&diary);
    shop.publish(placed("ORD-1")).await;
    shop.publish(placed("ORD-2")).await;
    shop.settle().await;
    assert_eq!(status(&mut shop, "ORD-1").await, FlowStatus::Failed);
    let flow = the_stuck_one(&mut shop).await;
    assert_eq!((flow.key.as_str(), flow.waits_for.as_deref()), ("ORD-2", Some("StockReserved")));
    assert_eq!(flow.from.as_deref(), Some("undo"));
}

#[tokio::test]
async fn an_event_that_needs_a_person_is_stuck_until_the_flow_ends_in_another_way() {
    let diary = Diary::default();
    diary.note("declined ORD-1");
    diary.note("silent ORD-1");
    let mut shop = Harness::new({
        let diary = diary.clone();
        move |app: App| {
            payment(app, &diary).external::<StockReserved>().flow("order", |flow| {
                flow.starts::<OrderPlaced>().ends::<StockReserved>().needs_attention::<PaymentFailed>()
            })
        }
    });
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    let flow = the_stuck_one(&mut shop).await;
    assert!(flow.reason.starts_with("needs a decision since "), "{}", flow.reason);
    assert!(flow.reason.ends_with("PaymentFailed from payment"), "{}", flow.reason);
}

#[tokio::test]
async fn what_comes_from_outside_is_waited_for_and_late_when_its_time_is_over() {
    let mut shop = Harness::new(|app: App| {
        app.external::<OrderPlaced>()
            .external::<PaymentCompleted>()
            .service("inventory")
            .react("reserve-stock", reserve_stock)
            .flow("order", |flow| {
                flow.starts::<OrderPlaced>().ends::<StockReserved>().within(Duration::from_hours(1))
            })
    });
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    assert_eq!(status(&mut shop, "ORD-1").await, FlowStatus::Waiting);
    shop.advance(Duration::from_mins(59)).await;
    assert_eq!(stuck(&mut shop).await, []);
    shop.advance(Duration::from_mins(2)).await;
    let flow = the_stuck_one(&mut shop).await;
    assert_eq!((flow.status, flow.waits_for.as_deref()), (FlowStatus::Late, Some("PaymentCompleted")));
    assert!(flow.reason.contains("order may take 60 minutes"), "{}", flow.reason);
}

#[tokio::test]
async fn a_lane_that_has_stopped_makes_what_is_before_it_stuck_and_nothing_else() {
    async fn stop(State(diary): State<Diary>, placed: OrderPlaced) -> Result<PaymentCompleted, Broken> {
        if diary.has("stop", &placed.order) {
            Err(Broken("out of paper"))
        } else {
            Ok(PaymentCompleted { order: placed.order })
        }
    }
    let diary = Diary::default();
    diary.note("stop ORD-1");
    let mut shop = Harness::new(move |app: App| {
        let once = Retry { attempts: 1, ..Retry::DEFAULT };
        app.state(diary.clone())
            .external::<OrderPlaced>()
            .react("take-payment", stop.retry(once).lanes(64).on_failure(OnFailure::Stop))
            .flow("order", |flow| flow.starts::<OrderPlaced>().ends::<PaymentCompleted>())
    });
    for order in ["ORD-1", "ORD-2"] {
        shop.publish(placed(order)).await;
        shop.settle().await;
    }
    let flow = the_stuck_one(&mut shop).await;
    assert_eq!((flow.key.as_str(), flow.code.as_deref()), ("ORD-1", Some("E0301")));
    assert!(flow.reason.ends_with("test has stopped at ORD-1: E0301 out of paper"), "{}", flow.reason);
}

#[tokio::test]
async fn a_kind_that_nobody_declared_is_over_when_nothing_is_in_hand() {
    let diary = Diary::default();
    diary.note("silent ORD-1");
    diary.note("unreachable ORD-2");
    let mut shop = Harness::new(move |app: App| payment(app, &diary));
    shop.publish(placed("ORD-1")).await;
    shop.publish(placed("ORD-2")).await;
    shop.settle().await;
    assert_eq!(status(&mut shop, "ORD-1").await, FlowStatus::Done);
    assert_eq!(the_stuck_one(&mut shop).await.key, "ORD-2", "parked is parked");
}

/// A service that is far slower for one order than for all others.
async fn dawdle(
    State(diary): State<Diary>,
    State(host): State<Host>,
    placed: OrderPlaced,
) -> PaymentCompleted {
    if diary.has("slow", &placed.order) {
        host.clock.sleep(Duration::from_mins(10)).await;
    }
    PaymentCompleted { order: placed.order }
}

#[tokio::test]
async fn a_delivery_far_slower_than_is_usual_is_late_while_it_runs() {
    let diary = Diary::default();
    diary.note("slow ORD-last");
    let host: Arc<OnceLock<Host>> = Arc::default();
    let inside = Arc::clone(&host);
    let mut shop = Harness::new(move |app: App| {
        let host = inside.get().expect("it is set before the first start").clone();
        app.state(diary.clone())
            .state(host)
            .flow_index_every(50)
            .external::<OrderPlaced>()
            .service("payment")
            .react("dawdle", dawdle.timeout(Duration::from_hours(1)))
            .flow("order", |flow| flow.starts::<OrderPlaced>().ends::<PaymentCompleted>())
    });
    host.set(shop.host().clone()).expect("it is set once");
    for order in 0..200 {
        shop.publish(placed(&format!("ORD-{order}"))).await;
    }
    shop.settle().await;
    shop.publish(placed("ORD-last")).await;
    shop.advance(Duration::from_secs(5)).await;
    assert_eq!(stuck(&mut shop).await, [], "a moment is no delay");
    shop.advance(Duration::from_secs(25)).await;
    let flow = the_stuck_one(&mut shop).await;
    assert_eq!((flow.key.as_str(), flow.status), ("ORD-last", FlowStatus::Late));
    assert!(flow.reason.starts_with("dawdle of payment has had OrderPlaced #"), "{}", flow.reason);
    shop.advance(Duration::from_mins(15)).await;
    assert_eq!(stuck(&mut shop).await, [], "it is done");
}
