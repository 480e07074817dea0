//! What the provider, the warehouse and the carrier promise.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;

use ensue::Code;
use ensue_shop::events::OrderPlaced;
use ensue_shop::outside::{Broken, Calls, Config, Outside, Provider, Trouble};
use ensue_shop::{Money, OrderId, PaymentId, orders};

use crate::folder::Folder;

/// Nobody is refused and every call is answered.
const KIND: Config = Config {
    seed: 1,
    payments_refused_percent: 0,
    reservations_refused_percent: 0,
    shipments_refused_percent: 0,
    unanswered_percent: 0,
    pieces_per_sku: 1_000,
    broken: Broken::NONE,
};

fn order_id(text: &str) -> OrderId {
    OrderId::new(text).expect("a plain id")
}

fn first_order() -> OrderPlaced {
    orders(1, 1).next().expect("one order")
}

async fn open(folder: &Folder, config: Config) -> Outside {
    Outside::open(folder.path(), config).await.expect("a writable folder")
}

fn code(trouble: Trouble) -> Code {
    match trouble {
        Trouble::Broken(error) => error.code(),
        other => panic!("expected a broken ledger, got: {other}"),
    }
}

#[tokio::test]
async fn a_repeated_key_changes_nothing_and_gets_the_first_answer() {
    let folder = Folder::new("repeated-key");
    let outside = open(&folder, KIND).await;
    let order = first_order();
    let first = outside.provider.charge("key-1", &order.order_id, order.total).await.expect("charged");
    assert_eq!(first.payment_id, PaymentId::numbered("PAY", 1));
    let again =
        outside.provider.charge("key-1", &order.order_id, order.total).await.expect("the first answer");
    assert_eq!(again, first);
    let totals = outside.provider.totals();
    assert_eq!((totals.charged, totals.refunded, totals.kept), (order.total, Money::ZERO, order.total));
    assert_eq!(totals.calls, Calls { calls: 2, repeats: 1, effects: 1, refusals: 0 });
    assert_eq!(outside.audit().expect("readable"), Vec::<String>::new());
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_stays_the_same() {
    let folder = Folder::new("refusal");
    let outside = open(&folder, Config { payments_refused_percent: 100, ..KIND }).await;
    let order = first_order();
    for _ in 0..2 {
        let trouble =
            outside.provider.charge("key-1", &order.order_id, order.total).await.expect_err("declined");
        assert_eq!(trouble.to_string(), "refused: card declined");
    }
    drop(outside);
    // A kinder provider does not change what it has said before.
    let outside = open(&folder, KIND).await;
    let trouble = outside.provider.charge("key-1", &order.order_id, order.total).await.expect_err("declined");
    assert_eq!(trouble.to_string(), "refused: card declined");
    let totals = outside.provider.totals();
    assert_eq!(totals.charged, Money::ZERO);
    assert_eq!(totals.calls, Calls { calls: 3, repeats: 2, effects: 0, refusals: 1 });
}

#[tokio::test]
async fn a_key_stands_for_one_request() {
    let folder = Folder::new("one-request");
    let outside = open(&folder, KIND).await;
    outside.provider.charge("key-1", &order_id("ORD-1"), Money::from_cents(100)).await.expect("charged");
    let other = outside.provider.charge("key-1", &order_id("ORD-2"), Money::from_cents(100)).await;
    assert_eq!(code(other.expect_err("another order")), Code::DUPLICATE_ID);
    let other = outside.provider.refund("key-1", &order_id("ORD-1")).await;
    assert_eq!(code(other.expect_err("another verb")), Code::DUPLICATE_ID);
    assert_eq!(outside.provider.totals().charged, Money::from_cents(100));
}

#[tokio::test]
async fn reopening_keeps_money_stock_parcels_and_answers() {
    let folder = Folder::new("reopening");
    let order = first_order();
    let outside = open(&folder, KIND).await;
    let paid = outside.provider.charge("pay", &order.order_id, order.total).await.expect("charged");
    let held = outside.warehouse.reserve("hold", &order.order_id, &order.items).await.expect("reserved");
    let sent = outside.carrier.ship("ship", &order.order_id, &order.customer_id).await.expect("shipped");
    let before = (outside.provider.totals(), outside.warehouse.totals(), outside.carrier.totals());
    drop(outside);

    // Another size in the configuration does not deliver again: the ledger knows what the warehouse began with.
    let outside = open(&folder, Config { pieces_per_sku: 7, ..KIND }).await;
    let after = (outside.provider.totals(), outside.warehouse.totals(), outside.carrier.totals());
    assert_eq!(after, before);
    assert_eq!(outside.provider.charge("pay", &order.order_id, order.total).await.expect("repeated"), paid);
    assert_eq!(
        outside.warehouse.reserve("hold", &order.order_id, &order.items).await.expect("repeated"),
        held
    );
    let again = outside.carrier.ship("ship", &order.order_id, &order.customer_id).await.expect("repeated");
    assert_eq!(again, sent);
    assert_eq!(outside.carrier.totals().shipments, 1);
    assert_eq!(outside.audit().expect("readable"), Vec::<String>::new());
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_line_loses_only_what_nobody_was_told() {
    let folder = Folder::new("kill");
    let ledger = folder.path().join("payments/ledger.lines");
    let outside = open(&folder, KIND).await;
    for number in 1..=3 {
        let id = order_id(&format!("ORD-{number}"));
        outside
            .provider
            .charge(&format!("key-{number}"), &id, Money::from_cents(100))
            .await
            .expect("charged");
    }
    drop(outside);
    let bytes = std::fs::metadata(&ledger).expect("it is there").len();
    OpenOptions::new().write(true).open(&ledger).expect("it is there").set_len(bytes - 5).expect("shorter");

    let outside = open(&folder, KIND).await;
    assert_eq!(outside.provider.totals().charged, Money::from_cents(200));
    // The caller repeats, because nobody answered; the effect takes hold once.
    let paid = outside.provider.charge("key-3", &order_id("ORD-3"), Money::from_cents(100)).await;
    assert_eq!(paid.expect("charged").payment_id, PaymentId::numbered("PAY", 3));
    drop(outside);
    let totals = open(&folder, KIND).await.provider.totals();
    assert_eq!(totals.charged, Money::from_cents(300));
    assert_eq!(totals.calls, Calls { calls: 3, repeats: 0, effects: 3, refusals: 0 });
}

#[tokio::test]
async fn damage_in_the_middle_is_an_error_and_nothing_is_cut() {
    let folder = Folder::new("damage");
    let ledger = folder.path().join("payments/ledger.lines");
    let outside = open(&folder, KIND).await;
    for number in 1..=3 {
        let id = order_id(&format!("ORD-{number}"));
        outside
            .provider
            .charge(&format!("key-{number}"), &id, Money::from_cents(100))
            .await
            .expect("charged");
    }
    drop(outside);
    let text = std::fs::read_to_string(&ledger).expect("it is there").replace("ORD-2", "ORD-9");
    std::fs::write(&ledger, &text).expect("writable");
    let error = Outside::open(folder.path(), KIND).await.err().expect("damage");
    assert_eq!(error.code(), Code::CORRUPT);
    assert!(error.to_string().contains("payments/ledger.lines is damaged"), "{error}");
    assert_eq!(std::fs::read_to_string(&ledger).expect("it is there"), text);
}

/// Repeats an unanswered call with the same key, as a handler is retried.
macro_rules! insist {
    ($call:expr) => {
        loop {
            match $call.await {
                Err(Trouble::NoAnswer { .. }) => {}
                answer => break answer,
            }
        }
    };
}

/// One order, as the services would serve it; money and stock are given back where a later step is refused.
async fn serve(outside: &Outside, order: &OrderPlaced) -> &'static str {
    let id = &order.order_id;
    let key = |step: &str| format!("{id}/{step}");
    if insist!(outside.provider.charge(&key("charge"), id, order.total)).is_err() {
        return "payment failed";
    }
    if insist!(outside.warehouse.reserve(&key("reserve"), id, &order.items)).is_err() {
        insist!(outside.provider.refund(&key("refund"), id)).expect("a charge is open");
        return "inventory failed";
    }
    if insist!(outside.carrier.ship(&key("ship"), id, &order.customer_id)).is_err() {
        insist!(outside.warehouse.release(&key("release"), id)).expect("a reservation is open");
        insist!(outside.provider.refund(&key("refund"), id)).expect("a charge is open");
        return "shipping failed";
    }
    "completed"
}

async fn serve_all(outside: &Outside, count: u64) -> BTreeMap<&'static str, u64> {
    let outside = Arc::new(outside.clone());
    let mut tasks = tokio::task::JoinSet::new();
    for order in orders(7, count) {
        let outside = Arc::clone(&outside);
        tasks.spawn(async move { serve(&outside, &order).await });
    }
    let mut outcomes = BTreeMap::new();
    for outcome in tasks.join_all().await {
        *outcomes.entry(outcome).or_default() += 1;
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn money_and_stock_add_up_under_concurrent_and_unanswered_calls() {
    let folder = Folder::new("concurrent");
    let config = Config { unanswered_percent: 30, pieces_per_sku: 10_000, ..Config::default() };
    let outside = open(&folder, config).await;
    let outcomes = serve_all(&outside, 400).await;
    assert_eq!(outcomes.values().sum::<u64>(), 400);
    assert_eq!(outcomes.len(), 4, "every end is reached: {outcomes:?}");

    let (money, stock, parcels) =
        (outside.provider.totals(), outside.warehouse.totals(), outside.carrier.totals());
    let completed = outcomes.get("completed").copied().expect("most of them");
    assert_eq!(parcels.shipments, completed);
    assert_eq!(money.charged.checked_sub(money.refunded), Some(money.kept));
    assert!(
        money.refunded > Money::ZERO && stock.released > 0,
        "the undone orders count: {money:?} {stock:?}"
    );
    assert_eq!(stock.initial - stock.reserved + stock.released, stock.left);
    assert!(money.calls.repeats > 20, "lost answers were asked for again: {:?}", money.calls);
    assert_eq!(money.calls.calls, money.calls.repeats + money.calls.effects + money.calls.refusals);
    assert_eq!(outside.audit().expect("readable"), Vec::<String>::new());

    // Served once more after a restart, nothing changes but the number of repeats.
    drop(outside);
    let outside = open(&folder, config).await;
    assert_eq!(serve_all(&outside, 400).await, outcomes);
    let again = outside.provider.totals();
    assert_eq!((again.charged, again.refunded), (money.charged, money.refunded));
    assert_eq!(again.calls.effects, money.calls.effects);
    assert_eq!(outside.warehouse.totals().left, stock.left);
    assert_eq!(outside.audit().expect("readable"), Vec::<String>::new());
}

/// Each has the files open for itself, as processes have.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn those_who_share_ledgers_answer_a_key_once_between_them_and_come_to_the_same_books() {
    let folder = Folder::new("shared");
    let config = Config { unanswered_percent: 20, pieces_per_sku: 10_000, ..Config::default() };
    let (one, other) = tokio::join!(open(&folder, config), open(&folder, config));
    assert_eq!(one.warehouse.totals().calls, Calls::default(), "a warehouse begins once");
    let (outcomes, of_other) = tokio::join!(serve_all(&one, 200), serve_all(&other, 200));
    assert_eq!(outcomes, of_other, "both served the same orders and got the same answers");
    for outside in [&one, &other] {
        assert_eq!(outside.audit().expect("readable"), Vec::<String>::new());
    }
    let of =
        |outside: &Outside| (outside.provider.totals(), outside.warehouse.totals(), outside.carrier.totals());
    assert_eq!(of(&one), of(&other));
    let Calls { repeats, effects, refusals, .. } = one.provider.totals().calls;
    assert!(
        repeats >= effects + refusals,
        "every key was asked for by both: {repeats} of {effects} + {refusals}"
    );
    drop(one);
    drop(other);
    let again = open(&folder, config).await;
    assert_eq!(again.provider.totals().calls.effects, effects);
    assert_eq!(again.audit().expect("readable"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_depends_on_seed_and_order_alone() {
    let config = Config { pieces_per_sku: 10_000, ..Config::default() };
    let smooth = Folder::new("smooth");
    let bumpy = Folder::new("bumpy");
    let other = Folder::new("other-seed");
    let first = serve_all(&open(&smooth, config).await, 300).await;
    let bumped = Config { unanswered_percent: 40, ..config };
    assert_eq!(serve_all(&open(&bumpy, bumped).await, 300).await, first);
    let reseeded = Config { seed: 99, ..config };
    assert_ne!(serve_all(&open(&other, reseeded).await, 300).await, first);
}

#[tokio::test]
async fn an_unanswered_call_may_have_taken_effect_and_a_repetition_finds_out() {
    let folder = Folder::new("unanswered");
    let outside = open(&folder, Config { unanswered_percent: 100, ..KIND }).await;
    let (mut lost_before, mut lost_after) = (0, 0);
    for number in 0..40 {
        let id = order_id(&format!("ORD-{number}"));
        let key = format!("key-{number}");
        let before = outside.provider.totals().calls.effects;
        let trouble = outside.provider.charge(&key, &id, Money::from_cents(1)).await.expect_err("unanswered");
        assert_eq!(
            trouble.to_string(),
            "the payment provider did not answer; the call may have taken effect"
        );
        if outside.provider.totals().calls.effects > before {
            lost_after += 1;
        } else {
            lost_before += 1;
        }
        insist!(outside.provider.charge(&key, &id, Money::from_cents(1))).expect("trouble passes");
    }
    assert!(lost_before > 5 && lost_after > 5, "{lost_before} never arrived, {lost_after} took effect");
    assert_eq!(outside.provider.totals().charged, Money::from_cents(40));
}

#[tokio::test]
async fn stock_is_never_promised_twice() {
    let folder = Folder::new("last-piece");
    let outside = open(&folder, Config { pieces_per_sku: 3, ..KIND }).await;
    let item = |qty: u32| {
        serde_json::from_value(serde_json::json!({"sku":"WIDGET-1","qty":qty,"price":1})).expect("an item")
    };
    let two_lines = [item(2), item(2)];
    let trouble = outside.warehouse.reserve("a", &order_id("ORD-1"), &two_lines).await.expect_err("4 of 3");
    assert_eq!(trouble.to_string(), "refused: WIDGET-1: 3 left, 4 wanted");
    outside.warehouse.reserve("b", &order_id("ORD-2"), &[item(3)]).await.expect("the last three");
    outside.warehouse.reserve("c", &order_id("ORD-3"), &[item(1)]).await.expect_err("none left");
    let slip = outside.warehouse.release("d", &order_id("ORD-2")).await.expect("reserved before");
    assert_eq!(slip.reservation_id().as_str(), "RES-1");
    outside.warehouse.release("e", &order_id("ORD-2")).await.expect_err("released before");
    let nothing = outside.warehouse.reserve("f", &order_id("ORD-4"), &[]).await.expect_err("an empty order");
    assert_eq!(nothing.to_string(), "refused: nothing to set aside");
    let totals = outside.warehouse.totals();
    assert_eq!((totals.initial, totals.reserved, totals.released, totals.left), (12, 3, 3, 12));
}

#[tokio::test]
async fn money_goes_back_once_and_only_where_it_came_from() {
    let folder = Folder::new("refund");
    let outside = open(&folder, KIND).await;
    let id = order_id("ORD-1");
    let none = outside.provider.refund("early", &id).await.expect_err("never charged");
    assert_eq!(none.to_string(), "refused: no charge of ORD-1 is open");
    let negative =
        outside.provider.charge("negative", &id, Money::from_cents(-1)).await.expect_err("not an amount");
    assert_eq!(negative.to_string(), "refused: -0.01 is not an amount to charge");
    let paid = outside.provider.charge("pay", &id, Money::from_cents(500)).await.expect("charged");
    assert_eq!(outside.provider.refund("back", &id).await.expect("open"), paid);
    outside.provider.refund("again", &id).await.expect_err("given back before");
    let totals = outside.provider.totals();
    assert_eq!((totals.charged, totals.refunded, totals.kept), (paid.amount, paid.amount, Money::ZERO));
    outside.provider.charge("max", &id, Money::from_cents(i64::MAX)).await.expect_err("does not fit");
}

#[tokio::test]
async fn the_audit_sees_an_order_served_twice_under_two_keys() {
    let folder = Folder::new("audit");
    let outside = open(&folder, KIND).await;
    let order = first_order();
    for key in ["one", "two"] {
        outside
            .provider
            .charge(key, &order.order_id, order.total)
            .await
            .expect("a provider does not know orders");
        outside.warehouse.reserve(key, &order.order_id, &order.items).await.expect("nor does the warehouse");
        outside.carrier.ship(key, &order.order_id, &order.customer_id).await.expect("nor the carrier");
    }
    assert_eq!(
        outside.audit().expect("readable"),
        [
            "the payment provider: ORD-0001 was charged 2 times",
            "the warehouse: ORD-0001 was reserved 2 times",
            "the carrier: ORD-0001 was shipped 2 times",
        ]
    );
}

/// A line as the ledger writes it, for histories that the provider itself would never write.
fn line(text: &str) -> String {
    format!("{:08x} {text}\n", crc32c::crc32c(text.as_bytes()))
}

fn forge(folder: &Path, lines: &[&str]) -> Provider {
    let text: String = lines.iter().map(|text| line(text)).collect();
    std::fs::create_dir_all(folder).expect("writable");
    std::fs::write(folder.join("ledger.lines"), text).expect("writable");
    Provider::open(folder, KIND).expect("whole lines")
}

#[test]
fn the_audit_sees_a_key_that_took_effect_twice_and_a_refund_from_nowhere() {
    let folder = Folder::new("forged");
    let charge = r#"{"answered":{"key":"k","request":{"charge":{"order_id":"ORD-1","amount":5.00}},"outcome":{"Ok":{"payment_id":"PAY-1","amount":5.00}}}}"#;
    let refund = r#"{"answered":{"key":"r","request":{"refund":{"order_id":"ORD-2"}},"outcome":{"Ok":{"payment_id":"PAY-9","amount":7.00}}}}"#;
    let provider = forge(folder.path(), &[charge, charge, refund]);
    assert_eq!(
        provider.audit().expect("readable"),
        [
            "the payment provider: key `k` took effect 2 times",
            "the payment provider: ORD-2 was refunded 7.00 without a charge of it",
            "the payment provider: ORD-1 was charged 2 times",
        ]
    );
}
