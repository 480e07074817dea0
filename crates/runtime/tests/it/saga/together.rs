//! Steps taken together, sagas that start sagas, and outcomes that nobody knows.

use std::sync::Arc;
use std::time::Duration;

use ensue_core::Source;
use ensue_macros::Event;
use ensue_runtime::saga::SagaStatus::{Compensated, Completed, NeedsAttention, Terminated, Waiting};
use ensue_runtime::saga::{Operations, Request, SagaStatus};
use ensue_runtime::{App, Saga, SagaError, timer};
use ensue_test::{Harness, crash_everywhere};
use serde::{Deserialize, Serialize};

use super::world::{
    self, ALWAYS, Charge, Delivered, Ledger, OrderFulfilled, Refund, Release, Reserve, Ship, end, trouble,
};
use crate::words::{OrderPlaced, placed};

const SECOND: Duration = Duration::from_secs(1);

async fn ledger_of(shop: &mut Harness) -> Ledger {
    shop.running().await.state().expect("it is mounted")
}

fn sorted(mut effects: Vec<String>) -> Vec<String> {
    effects.sort_unstable();
    effects
}

async fn ask(shop: &Harness, key: &str, saga: &str, request: Request) {
    let source = Source::new("operator").expect("a valid source");
    let operations = Operations::new(Arc::clone(shop.store()) as _, shop.host().clone(), source);
    operations.ask(saga, key, &request, "because").await.expect("the request fits");
}

/// Charges and reserves at the same time, then ships.
async fn both(saga: Saga<OrderPlaced>) -> Result<OrderFulfilled, SagaError> {
    let order = saga.input().order.clone();
    let charge = saga
        .send("charge", Charge { order: order.clone() })
        .undo(|done| Refund { order: done.order.clone() });
    let reserve = saga
        .send("reserve", Reserve { order: order.clone() })
        .undo(|done| Release { order: done.order.clone() });
    let (paid, held) = saga.all((charge, reserve)).await?;
    assert_eq!(paid, held);
    saga.send("ship", Ship { order: order.clone() }).pivot().await?;
    Ok(OrderFulfilled { order })
}

fn both_shop() -> Harness {
    world::harness(&Ledger::default(), |app: App| app.saga("fulfil", both))
}

#[tokio::test]
async fn steps_taken_together_are_begun_at_once_and_every_failure_is_told() {
    let mut shop = both_shop();
    let ledger = ledger_of(&mut shop).await;
    ledger.delay("charge", SECOND * 10);
    ledger.delay("reserve", SECOND * 10);
    ledger.refuse("charge", ALWAYS);
    ledger.refuse("reserve", ALWAYS);
    shop.publish(placed("ORD-1")).await;
    shop.advance(SECOND).await;
    let head = shop.saga("fulfil", "ORD-1").await.expect("it was started");
    assert_eq!(head.waits_for.as_deref(), Some("the answer to Charge, the answer to Reserve"));
    shop.advance(SECOND * 10).await;
    let (status, code, reason) = trouble(&shop).await;
    assert_eq!((status, code.as_str()), (Compensated, "E0604"), "it took ten seconds, not twenty");
    assert!(reason.contains("no charge today") && reason.contains("no reserve today"), "{reason}");
    assert_eq!(ledger.effects(), [""; 0]);
}

#[tokio::test]
async fn what_succeeded_together_is_undone_when_the_other_fails_whatever_crashes() {
    for (fails, status, effects) in [
        ("charge", Compensated, vec!["release", "reserve"]),
        ("reserve", Compensated, vec!["charge", "refund"]),
        ("ship", Compensated, vec!["charge", "refund", "release", "reserve"]),
        ("nothing", Completed, vec!["charge", "reserve", "ship"]),
    ] {
        let shop = || {
            let ledger = Ledger::default();
            ledger.refuse(fails, ALWAYS);
            world::harness(&ledger, |app: App| app.saga("fulfil", both))
        };
        let run = async |shop: &mut Harness| {
            shop.publish(placed("ORD-1")).await;
            shop.settle().await;
            assert_eq!(sorted(ledger_of(shop).await.effects()), effects, "{fails} fails");
            assert_eq!(end(shop).await.0, status);
            assert!(shop.dead_letters().await.is_empty());
        };
        assert!(crash_everywhere(shop, run).await > 10);
        run(&mut shop().deliver_twice()).await;
        for seed in 0..20 {
            run(&mut shop().reorder_across_keys(seed)).await;
        }
    }
}

#[tokio::test]
async fn answers_that_come_together_make_no_handler_work_twice() {
    for seed in 0..40 {
        let mut shop = both_shop().reorder_across_keys(seed);
        shop.publish(placed("ORD-1")).await;
        shop.settle().await;
        let ledger = ledger_of(&mut shop).await;
        assert_eq!((ledger.calls("charge"), ledger.calls("reserve")), (1, 1), "seed {seed}");
    }
}

/// As many reservations at a time as there are parcels, of one sort.
async fn many(saga: Saga<OrderPlaced>) -> Result<(), SagaError> {
    let order = saga.input().order.clone();
    let reservations = (0..40).map(|number| {
        let command = Reserve { order: format!("{order}/{number}").replace('/', "-") };
        saga.send(&format!("reserve-{number}"), command).undo(|done| Release { order: done.order.clone() })
    });
    let held = saga.all(reservations.collect::<Vec<_>>()).await?;
    assert_eq!(held.last().expect("forty").order, format!("{order}-39"));
    saga.send("ship", Ship { order }).pivot().await?;
    Ok(())
}

#[tokio::test]
async fn forty_steps_of_one_sort_come_back_in_their_order_and_are_undone_in_reverse() {
    let ledger = Ledger::default();
    ledger.refuse("ship", ALWAYS);
    let mut shop = world::harness(&ledger, |app: App| app.saga("fulfil", many));
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    let head = shop.saga("fulfil", "ORD-1").await.expect("it was started");
    let mut undone = head.undone.clone();
    undone.reverse();
    assert_eq!((head.status, undone.len(), &undone), (Compensated, 40, &head.undoable));
}

/// What starts the packing of an order.
#[derive(Event, Serialize, Deserialize, Clone, Debug)]
#[event(crate = ensue_core, topic = "Packing", key = order)]
struct PackOrder {
    order: String,
}

async fn pack(saga: Saga<PackOrder>) -> Result<Delivered, SagaError> {
    let order = saga.input().order.clone();
    saga.send("reserve", Reserve { order: order.clone() })
        .undo(|done| Release { order: done.order.clone() })
        .await?;
    saga.send("ship", Ship { order: order.clone() }).nothing_to_undo().await?;
    Ok(Delivered { order, parcel: 7 })
}

async fn sell(saga: Saga<OrderPlaced>) -> Result<(), SagaError> {
    let order = saga.input().order.clone();
    saga.send("charge", Charge { order: order.clone() })
        .undo(|done| Refund { order: done.order.clone() })
        .await?;
    let packed =
        saga.child("pack", "pack", &PackOrder { order: order.clone() }).returning::<Delivered>().await?;
    assert_eq!(packed.parcel, 7);
    saga.wait_for::<Delivered>("signed").within(SECOND * 100).await?;
    Ok(())
}

fn family(ledger: &Ledger) -> Harness {
    world::harness(ledger, |app: App| app.external::<PackOrder>().saga("fulfil", sell).saga("pack", pack))
}

async fn child(shop: &Harness) -> SagaStatus {
    shop.saga("pack", "ORD-1").await.expect("it was started").status
}

#[tokio::test]
async fn a_child_ends_its_step_and_its_failure_is_the_step_s_whatever_crashes() {
    for (fails, parent, children, effects) in [
        ("nothing", Waiting, Completed, vec!["charge", "reserve", "ship"]),
        ("reserve", Compensated, Compensated, vec!["charge", "refund"]),
        ("ship", Compensated, Compensated, vec!["charge", "reserve", "release", "refund"]),
    ] {
        let shop = || {
            let ledger = Ledger::default();
            ledger.refuse(fails, ALWAYS);
            family(&ledger)
        };
        let run = async |shop: &mut Harness| {
            shop.publish(placed("ORD-1")).await;
            shop.settle().await;
            assert_eq!((end(shop).await.0, child(shop).await), (parent, children), "{fails} fails");
            assert_eq!(ledger_of(shop).await.effects(), effects);
            assert!(shop.dead_letters().await.is_empty(), "{:?}", shop.dead_letters().await);
        };
        assert!(crash_everywhere(shop, run).await > 10);
        run(&mut shop().deliver_twice()).await;
    }
}

#[tokio::test]
async fn a_parent_that_goes_back_sends_its_child_back_first() {
    let run = async |shop: &mut Harness| {
        shop.publish(placed("ORD-1")).await;
        shop.settle().await;
        assert_eq!((end(shop).await.0, child(shop).await), (Waiting, Completed));
        // Nobody signs.
        shop.advance(SECOND * 100).await;
        assert_eq!((end(shop).await.0, child(shop).await), (Compensated, Compensated));
        assert_eq!(ledger_of(shop).await.effects(), ["charge", "reserve", "ship", "release", "refund"]);
        assert_eq!(end(shop).await.1, ["pack", "charge"]);
    };
    assert!(crash_everywhere(|| family(&Ledger::default()), run).await > 20);
    run(&mut family(&Ledger::default()).deliver_twice()).await;
}

#[tokio::test]
async fn cancelling_a_parent_goes_down_to_a_child_that_is_under_way() {
    for delay in [5, 25] {
        let ledger = Ledger::default();
        ledger.delay("reserve", SECOND * delay);
        let mut shop = family(&ledger);
        shop.publish(placed("ORD-1")).await;
        shop.advance(SECOND).await;
        assert_eq!((end(&shop).await.0, child(&shop).await), (Waiting, Waiting));
        ask(&shop, "ORD-1", "fulfil", Request::Cancel).await;
        shop.advance(SECOND * 200).await;
        assert_eq!((end(&shop).await.0, child(&shop).await), (Compensated, Compensated));
        let done = sorted(ledger.effects());
        assert_eq!(done, ["charge", "refund", "release", "reserve"], "reserved after {delay} seconds");
        assert_eq!(timer::list(&**shop.store()).await.expect("timers can be read"), []);
    }
}

#[tokio::test]
async fn a_child_that_is_terminated_fails_its_parent_and_one_that_is_paused_keeps_it_waiting() {
    let ledger = Ledger::default();
    ledger.delay("reserve", SECOND * 5);
    let mut shop = family(&ledger);
    shop.publish(placed("ORD-1")).await;
    shop.advance(SECOND).await;
    ask(&shop, "ORD-1", "pack", Request::Pause).await;
    shop.advance(SECOND * 60).await;
    let head = shop.saga("fulfil", "ORD-1").await.expect("it was started");
    assert_eq!((head.status, head.waits_for.as_deref()), (Waiting, Some("the end of saga pack")));
    ask(&shop, "ORD-1", "pack", Request::Terminate).await;
    shop.settle().await;
    let (status, code, reason) = trouble(&shop).await;
    assert_eq!((status, child(&shop).await, code.as_str()), (Compensated, Terminated, "E0604"));
    assert!(reason.contains("terminated: because"), "{reason}");
    assert_eq!(ledger.effects(), ["charge", "reserve", "refund"], "what the child did is left as it is");
}

async fn asks(saga: Saga<OrderPlaced>) -> Result<(), SagaError> {
    let order = saga.input().order.clone();
    saga.send("charge", Charge { order: order.clone() }).nothing_to_undo().await?;
    saga.send("reserve", Reserve { order }).within(SECOND * 5).ask_if_unknown().nothing_to_undo().await?;
    Ok(())
}

#[tokio::test]
async fn an_unknown_outcome_is_a_question_until_the_answer_comes_or_a_person_gives_it() {
    for by_hand in [false, true] {
        let ledger = Ledger::default();
        ledger.delay("reserve", SECOND * 20);
        let mut shop = world::harness(&ledger, |app: App| app.saga("fulfil", asks));
        shop.publish(placed("ORD-1")).await;
        shop.advance(SECOND * 10).await;
        let (status, code, reason) = trouble(&shop).await;
        assert_eq!((status, code.as_str()), (NeedsAttention, "E0607"), "{reason}");
        if by_hand {
            let result = Some(br#"{"order":"ORD-1"}"#.to_vec().into());
            ask(&shop, "ORD-1", "fulfil", Request::Resolve { step: "reserve".into(), result }).await;
            shop.advance(SECOND).await;
            assert_eq!(end(&shop).await.0, Completed, "before the answer");
        }
        shop.advance(SECOND * 30).await;
        assert_eq!(end(&shop).await.0, Completed);
        assert_eq!(ledger.effects(), ["charge", "reserve"]);
    }
}

async fn undoes_anyway(saga: Saga<OrderPlaced>) -> Result<(), SagaError> {
    let order = saga.input().order.clone();
    saga.send("charge", Charge { order })
        .within(SECOND * 5)
        .undo_if_unknown(|charge| Refund { order: charge.order.clone() })
        .undo(|done| Refund { order: done.order.clone() })
        .await?;
    Ok(())
}

#[tokio::test]
async fn an_unknown_outcome_is_undone_at_once_and_once_more_if_it_comes_true_later() {
    let run = async |shop: &mut Harness| {
        let ledger = ledger_of(shop).await;
        ledger.delay("charge", SECOND * 20);
        shop.publish(placed("ORD-1")).await;
        shop.advance(SECOND * 10).await;
        assert_eq!(ledger.effects(), ["refund"], "undone although nobody knew");
        assert_eq!(end(shop).await, (Compensated, vec!["charge".to_owned()]));
        shop.advance(SECOND * 60).await;
        assert_eq!(ledger.effects(), ["refund", "charge", "refund"], "under a key of its own");
        assert_eq!(end(shop).await, (Compensated, vec!["charge".to_owned(), "charge~late".to_owned()]));
    };
    run(&mut world::harness(&Ledger::default(), |app: App| app.saga("fulfil", undoes_anyway))).await;
}

#[tokio::test]
async fn an_answer_for_an_instance_that_does_not_exist_is_a_dead_letter() {
    let mut shop = both_shop();
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    // Its journal is lost but for one command, as if somebody had copied that into the stream of another instance.
    let command =
        shop.recorded().await.into_iter().find(|event| event.envelope.event_type.as_str() == "Charge");
    let mut envelope = command.expect("it was sent").envelope;
    envelope.id = shop.host().event_id();
    for (name, value) in &mut envelope.extensions {
        if name == "replyto" {
            *value = "saga.fulfil/ORD-9".into();
        }
    }
    let stream = "saga.fulfil/ORD-1".parse().expect("a valid name");
    let append = ensue_core::Append { stream, expected: ensue_core::Expected::Any, events: vec![envelope] };
    let commit = ensue_core::Commit { appends: vec![append], ..ensue_core::Commit::default() };
    ensue_core::Store::commit(&**shop.store(), commit).await.expect("it is taken");
    shop.settle().await;
    let letters = shop.dead_letters().await;
    let [letter] = letters.as_slice() else { panic!("one letter: {letters:?}") };
    assert_eq!((letter.handler.as_str(), letter.parked.key.as_str()), ("saga.fulfil", "ORD-9"));
    assert!(letter.parked.reason.contains("does not begin with its start"), "{}", letter.parked.reason);
}

/// Counts how often its code is in memory.
struct InMemory(Arc<std::sync::atomic::AtomicUsize>);

impl Drop for InMemory {
    fn drop(&mut self) {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[tokio::test]
async fn an_instance_that_waits_is_not_in_memory() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let alive = Arc::new(AtomicUsize::new(0));
    let runs = Arc::new(AtomicUsize::new(0));
    let (counter, counted) = (Arc::clone(&alive), Arc::clone(&runs));
    let waits = move |saga: Saga<OrderPlaced>| {
        counter.fetch_add(1, Ordering::Relaxed);
        counted.fetch_add(1, Ordering::Relaxed);
        let here = InMemory(Arc::clone(&counter));
        async move {
            let order = saga.input().order.clone();
            saga.wait_for::<Delivered>(&order).within(SECOND * 1_000).await?;
            drop(here);
            Ok::<(), SagaError>(())
        }
    };
    let mut shop = world::harness(&Ledger::default(), move |app: App| app.saga("fulfil", waits.clone()));
    for number in 0..500 {
        shop.publish(placed(&format!("ORD-{number}"))).await;
    }
    shop.settle().await;
    assert_eq!(
        timer::list(&**shop.store()).await.expect("timers can be read").len(),
        500,
        "all of them wait"
    );
    assert!(runs.load(Ordering::Relaxed) >= 500, "each has run up to its wait");
    assert_eq!(alive.load(Ordering::Relaxed), 0, "and none of their code is kept");
    shop.publish(Delivered { order: "ORD-7".to_owned(), parcel: 1 }).await;
    shop.settle().await;
    assert_eq!(shop.saga("fulfil", "ORD-7").await.expect("it was started").status, Completed);
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}
