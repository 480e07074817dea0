//! A flow is played again in a scratch store, and the world is not touched.

use std::sync::Arc;

use ensue_core::{Code, Position};
use ensue_macros::Emits;
use ensue_runtime::fork::ForkReport;
use ensue_runtime::{App, Fork, State};
use ensue_test::{Harness, MemoryStore};

use crate::words::{Diary, OrderPlaced, PaymentCompleted, PaymentFailed, StockReserved, placed};

#[derive(Emits)]
#[emits(crate = ensue_core)]
enum Payment {
    Completed(PaymentCompleted),
    Failed(PaymentFailed),
}

/// Touches the world: the diary stands for it.
async fn take_payment(State(diary): State<Diary>, placed: OrderPlaced) -> Payment {
    diary.note(format!("charge {}", placed.cents));
    let order = placed.order;
    if placed.cents > 10_000 {
        Payment::Failed(PaymentFailed { order })
    } else {
        Payment::Completed(PaymentCompleted { order })
    }
}

async fn reserve_stock(State(diary): State<Diary>, paid: PaymentCompleted) -> StockReserved {
    diary.note("reserve");
    StockReserved { order: paid.order }
}

async fn reserve_nothing(_: PaymentCompleted) -> Option<StockReserved> {
    None
}

fn mount(app: App, diary: &Diary) -> App {
    app.state(diary.clone())
        .external::<OrderPlaced>()
        .react("take-payment", take_payment)
        .react("reserve-stock", reserve_stock)
}

/// A shop that has served one order, and another one beside it.
async fn served(diary: &Diary) -> Harness {
    let world = diary.clone();
    let mut shop = Harness::new(move |app| mount(app, &world));
    shop.publish(placed("ORD-0")).await;
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
    shop
}

fn scratch(shop: &Harness) -> MemoryStore {
    MemoryStore::new(shop.host().clone())
}

async fn forked(
    shop: &Harness,
    change: impl FnOnce(Fork) -> Fork,
    app: impl FnOnce(App) -> App,
) -> ForkReport {
    let fork = Fork::of(Arc::new(Arc::clone(shop.store())), "ORD-1").await.expect("there is such a flow");
    let app = app(App::new("test").host(shop.host().clone()));
    change(fork).play(app, scratch(shop)).await.expect("it can be played")
}

fn types(moved: &[ensue_runtime::fork::Moved]) -> Vec<&str> {
    moved.iter().map(|moved| moved.event_type.as_str()).collect()
}

/// Where the order of the flow was placed.
async fn root(shop: &Harness) -> Position {
    let recorded = shop.recorded().await;
    let root = recorded.iter().find(|event| event.stream.to_string() == "Order/ORD-1");
    root.expect("it was placed").position
}

const DEAR: &str = r#"{"order":"ORD-1","cents":20000}"#;

#[tokio::test]
async fn a_fork_without_a_change_is_the_same_and_touches_nothing() {
    let diary = Diary::default();
    let shop = served(&diary).await;
    let before = (diary.lines(), shop.recorded().await.len());
    let report = forked(&shop, |fork| fork, |app| mount(app, &diary)).await;
    assert_eq!((report.same, report.is_same()), (3, true), "{report:?}");
    assert_eq!(report.before.map(|flow| flow.status), report.after.map(|flow| flow.status));
    assert_eq!((diary.lines(), shop.recorded().await.len()), before, "neither world nor log");
}

#[tokio::test]
async fn a_changed_event_has_no_answer_on_record_and_the_fork_says_who_would_be_called() {
    let diary = Diary::default();
    let shop = served(&diary).await;
    let calls = diary.lines();
    let position = root(&shop).await;
    let report = forked(&shop, |fork| fork.change(position, DEAR), |app| mount(app, &diary)).await;
    assert_eq!(diary.lines(), calls);
    let suppressed: Vec<&str> = report.suppressed.iter().map(|call| call.handler.as_str()).collect();
    assert_eq!(suppressed, ["take-payment"]);
    assert_eq!(types(&report.missing), ["PaymentCompleted", "StockReserved"]);
    let [changed] = report.changed.as_slice() else { panic!("{report:?}") };
    let fields: Vec<&str> = changed.fields.iter().map(|changed| changed.field.as_str()).collect();
    assert_eq!(fields, ["/cents"]);
}

#[tokio::test]
async fn a_named_handler_decides_anew_and_the_others_stay_on_record() {
    let diary = Diary::default();
    let shop = served(&diary).await;
    let (position, stand_in) = (root(&shop).await, Diary::default());
    let change = |fork: Fork| fork.change(position, DEAR).run("take-payment");
    let report = forked(&shop, change, |app| mount(app, &stand_in)).await;
    assert_eq!(stand_in.lines(), ["charge 20000"]);
    assert_eq!(types(&report.added), ["PaymentFailed"]);
    assert_eq!(types(&report.missing), ["PaymentCompleted", "StockReserved"]);
    assert_eq!(report.suppressed, []);
}

#[tokio::test]
async fn other_code_on_a_recorded_flow_shows_what_it_changes() {
    let diary = Diary::default();
    let shop = served(&diary).await;
    let stand_in = Diary::default();
    let app = |app: App| {
        app.state(stand_in.clone())
            .external::<OrderPlaced>()
            .react("take-payment", take_payment)
            .react("reserve-stock", reserve_nothing)
    };
    let report = forked(&shop, Fork::run_all, app).await;
    assert_eq!(stand_in.lines(), ["charge 5998"]);
    assert_eq!((report.same, types(&report.missing)), (2, vec!["StockReserved"]));
}

#[tokio::test]
async fn the_record_counts_up_to_a_position_and_what_follows_is_decided_anew() {
    let diary = Diary::default();
    let shop = served(&diary).await;
    let (position, calls) = (root(&shop).await, diary.lines());
    let report = forked(&shop, |fork| fork.until(position), |app| mount(app, &diary)).await;
    assert_eq!(diary.lines(), calls);
    assert_eq!(report.same, 1, "the event that began it");
    let suppressed: Vec<&str> = report.suppressed.iter().map(|call| call.handler.as_str()).collect();
    assert_eq!(suppressed, ["take-payment"]);
}

#[tokio::test]
async fn what_cannot_be_forked_is_refused() {
    let diary = Diary::default();
    let shop = served(&diary).await;
    let store = Arc::clone(shop.store());
    let refused = async |change: fn(Fork) -> Fork, scratch: Arc<MemoryStore>| {
        let fork = Fork::of(Arc::new(Arc::clone(&store)), "ORD-1").await.expect("there is such a flow");
        let app = mount(App::new("test").host(shop.host().clone()), &diary);
        change(fork).play(app, scratch).await.expect_err("it must be refused").code()
    };
    let empty = || Arc::new(scratch(&shop));
    assert_eq!(refused(|fork| fork, Arc::clone(&store)).await, Code::USAGE);
    assert_eq!(refused(|fork| fork.change(Position(99), "{}"), empty()).await, Code::NOT_FOUND);
    assert_eq!(refused(|fork| fork.change(Position(2), "{"), empty()).await, Code::INVALID_BODY);
    assert_eq!(refused(|fork| fork.run("nobody"), empty()).await, Code::NOT_FOUND);
    let unknown = Fork::of(Arc::new(Arc::clone(&store)), "ORD-9").await.err().expect("no such flow");
    assert_eq!(unknown.code(), Code::NOT_FOUND);
}
