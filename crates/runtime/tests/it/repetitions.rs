//! Repetitions: at the same moment, after a while, and while the first is parked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ensue_core::{Clock, EventId, Position, Store};
use ensue_macros::Command;
use ensue_runtime::app::DispatchError;
use ensue_runtime::dead::Which;
use ensue_runtime::{App, Catalogue, Reaction, State, dead};
use ensue_test::{Harness, VirtualClock};
use serde::{Deserialize, Serialize};

use crate::words::{Broken, Diary, OrderPlaced, PaymentCompleted, PaymentFailed, placed};

const DAY: Duration = Duration::from_hours(24);

#[derive(Command, Serialize, Deserialize, Clone)]
#[command(crate = ensue_core, key = order, reply = PaymentCompleted, failure = PaymentFailed, publish)]
pub(crate) struct Charge {
    pub(crate) order: String,
    pub(crate) cents: u64,
}

/// Calls out to a bank that takes a second, and so is still at it when the same command comes again.
async fn charge(
    State(diary): State<Diary>,
    State(clock): State<Arc<VirtualClock>>,
    command: Charge,
) -> Result<PaymentCompleted, PaymentFailed> {
    diary.note(format!("charged {}", command.order));
    clock.sleep(Duration::from_secs(1)).await;
    let order = command.order;
    if command.cents > 100 { Err(PaymentFailed { order }) } else { Ok(PaymentCompleted { order }) }
}

async fn bank(diary: &Diary) -> Harness {
    let (given, clock) = (diary.clone(), Arc::new(std::sync::OnceLock::<Arc<VirtualClock>>::new()));
    let later = clock.clone();
    let mut harness = Harness::new(move |app: App| {
        let clock = later.get().expect("it was set before the start").clone();
        app.state(given.clone()).state(clock).handle(charge)
    });
    clock.set(harness.clock().clone()).expect("set once");
    harness.running().await;
    harness
}

fn id(text: &str) -> EventId {
    EventId::new(text).expect("a valid id")
}

#[tokio::test]
async fn of_many_equal_commands_at_the_same_moment_one_is_done_and_all_get_its_answer() {
    let diary = Diary::default();
    let mut bank = bank(&diary).await;
    let clock = bank.clock().clone();
    let running = bank.running().await;
    for (order, cents) in [("ORD-1", 5), ("ORD-2", 5_000)] {
        let dispatches = (0..8).map(|_| {
            let command = Charge { order: order.into(), cents };
            running.dispatch(command).id(id(&format!("cmd-{order}"))).into_future()
        });
        let ticking = async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
                clock.advance(Duration::from_secs(1));
            }
        };
        let (answers, ()) = tokio::join!(futures_util::future::join_all(dispatches), ticking);
        assert_eq!(diary.count(&format!("charged {order}")), 1, "{:?}", diary.lines());
        for answer in answers {
            match answer {
                Ok(receipt) => {
                    assert_eq!((receipt.output.order, receipt.position), ("ORD-1".into(), Position(1)));
                }
                Err(DispatchError::Refused(failure)) => assert_eq!(failure.order, "ORD-2"),
                Err(DispatchError::Failed(error)) => panic!("{error}"),
            }
        }
    }
    assert_eq!(bank.events().await, ["PaymentCompleted", "PaymentFailed"]);
}

#[tokio::test]
async fn a_command_that_broke_down_is_done_by_whoever_waited() {
    async fn breaks_once(
        State(diary): State<Diary>,
        _: Charge,
    ) -> Result<Result<PaymentCompleted, PaymentFailed>, Broken> {
        diary.note("tried");
        tokio::task::yield_now().await;
        if diary.count("tried") == 1 {
            Err(Broken("the line is down"))
        } else {
            Ok(Ok(PaymentCompleted { order: "ORD-1".into() }))
        }
    }
    let diary = Diary::default();
    let given = diary.clone();
    let mut harness = Harness::new(move |app: App| app.state(given.clone()).handle(breaks_once));
    let running = harness.running().await;
    let dispatch =
        || running.dispatch(Charge { order: "ORD-1".into(), cents: 5 }).id(id("cmd-1")).into_future();
    let (first, second) = tokio::join!(dispatch(), dispatch());
    assert!(matches!(first, Err(DispatchError::Failed(_))), "{first:?}");
    assert_eq!(second.expect("the second try").output.order, "ORD-1");
    assert_eq!(diary.count("tried"), 2);
}

/// Fails until it is mended.
async fn fussy(State(is_mended): State<Arc<AtomicBool>>, _: OrderPlaced) -> Result<(), Broken> {
    if is_mended.load(Ordering::Relaxed) { Ok(()) } else { Err(Broken("not today")) }
}

#[tokio::test]
async fn the_id_of_a_parked_event_does_not_lapse_while_its_letter_lives() {
    let is_mended = Arc::new(AtomicBool::new(false));
    let given = is_mended.clone();
    let mut shop = Harness::new(move |app: App| {
        let app = app.state(given.clone()).external::<OrderPlaced>().window(DAY);
        app.react("one", fussy.retry(1)).react("two", fussy.retry(1))
    });
    for order in ["evt-1", "evt-2"] {
        shop.publish_as(id(order), placed("ORD-1")).await.expect("it is new");
    }
    shop.settle().await;
    assert_eq!(shop.dead_letters().await.len(), 4, "both handlers park both, the second behind the first");
    shop.clock().advance(DAY * 30);
    let repeated = async |shop: &mut Harness| {
        let one = shop.publish_as(id("evt-1"), placed("ORD-1")).await.expect("the same").repeated;
        let two = shop.publish_as(id("evt-2"), placed("ORD-1")).await.expect("the same").repeated;
        (one, two)
    };
    assert_eq!(repeated(&mut shop).await, (true, true), "thirty windows later");
    is_mended.store(true, Ordering::Relaxed);
    shop.running().await.dead().redrive(&Which::Handler("one".into())).await.expect("it is parked");
    shop.settle().await;
    shop.clock().advance(DAY * 2);
    assert_eq!(repeated(&mut shop).await, (true, true), "the other handler still has them");
    shop.running().await.dead().discard(&Which::All, "too late").await.expect("it is parked");
    shop.settle().await;
    shop.clock().advance(DAY.saturating_sub(Duration::from_secs(1)));
    assert_eq!(repeated(&mut shop).await, (true, true), "the window began when the last letter went");
    shop.clock().advance(Duration::from_secs(1));
    assert_eq!(repeated(&mut shop).await, (false, false));
}

#[tokio::test]
async fn an_application_chooses_its_window_and_the_catalogue_shows_it() {
    let mut shop = Harness::new(|app: App| app.external::<OrderPlaced>().window(DAY * 2));
    shop.publish_as(id("evt-1"), placed("ORD-1")).await.expect("it is new");
    shop.clock().advance((DAY * 2).saturating_sub(Duration::from_secs(1)));
    assert!(shop.publish_as(id("evt-1"), placed("ORD-1")).await.expect("remembered").repeated);
    shop.clock().advance(Duration::from_secs(1));
    assert!(!shop.publish_as(id("evt-1"), placed("ORD-1")).await.expect("forgotten").repeated);
    let store: Arc<dyn Store> = shop.store().clone();
    let [catalogue] = ensue_runtime::Catalogue::load(&*store).await.expect("stored").try_into().expect("one");
    assert_eq!(catalogue.window(), DAY * 2);
}

#[tokio::test]
async fn a_window_that_a_dead_letter_outlives_or_a_retry_outlasts_is_warned_about() {
    let mut shop = Harness::new(|app: App| {
        let app = app.state(Arc::new(AtomicBool::new(false))).external::<OrderPlaced>().window(DAY);
        app.react("brief", fussy.retry(1)).react("stubborn", fussy.retry(10_000))
    });
    let warnings = shop.running().await.catalogue().warnings();
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(warning.starts_with("stubborn can try an event for 4 days, but ids are remembered for 24 hours"));
    shop.publish(placed("ORD-1")).await;
    while shop.dead_letters().await.is_empty() {
        shop.advance(Duration::from_millis(1)).await;
    }
    let outlived = async |shop: &Harness| {
        let outlived = dead::outlived(&**shop.store(), shop.clock().now()).await.expect("memory can be read");
        outlived.into_iter().map(|outlived| outlived.to_string()).collect::<Vec<_>>()
    };
    shop.clock().advance(Duration::from_hours(23));
    assert_eq!(outlived(&shop).await, Vec::<String>::new(), "the window is not over");
    shop.clock().advance(DAY);
    let warnings = outlived(&shop).await;
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(warning.contains("for 24 hours, but brief has a dead letter of 47 hours"), "{warning}");
    let catalogues = Catalogue::load(&**shop.store()).await.expect("memory can be read");
    assert_eq!((Catalogue::longest_window(&catalogues), Catalogue::longest_window(&[])), (DAY, DAY * 7));
}
