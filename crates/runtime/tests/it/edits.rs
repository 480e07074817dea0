//! Edited copies of dead letters: what the handler sees, what others do not, and where it is on record.

use std::cell::RefCell;
use std::rc::Rc;

use ensue_core::{Code, Position};
use ensue_runtime::dead::{self, DeadLetters, Which};
use ensue_runtime::{App, Cause, Meta, Reaction, State};
use ensue_test::{Harness, crash_everywhere};

use crate::words::{Broken, Diary, OrderPlaced, PaymentCompleted, placed};

/// Cannot take amounts that are odd; notes what it took under which key.
async fn take(
    State(diary): State<Diary>,
    cause: Cause,
    meta: Meta,
    order: OrderPlaced,
) -> Result<PaymentCompleted, Broken> {
    diary.note(format!("{} {} {} at {}", order.order, order.cents, cause.idempotency_key(), meta.position));
    if order.cents % 2 == 1 { Err(Broken("odd")) } else { Ok(PaymentCompleted { order: order.order }) }
}

async fn watch(State(diary): State<Diary>, order: OrderPlaced) {
    diary.note(format!("watched {}", order.cents));
}

fn shop(diary: &Diary) -> Harness {
    let diary = diary.clone();
    Harness::new(move |app: App| {
        let app = app.state(diary.clone()).external::<OrderPlaced>();
        app.react("take", take.retry(1)).react("watch", watch)
    })
}

/// An order that cannot be taken and one behind it.
async fn with_an_odd_order(shop: &mut Harness) {
    shop.publish(OrderPlaced { cents: 3, ..placed("ORD-1") }).await;
    shop.publish(placed("ORD-1")).await;
    shop.settle().await;
}

fn operator(shop: &Harness) -> DeadLetters<'static> {
    DeadLetters::new(shop.store().clone(), shop.host().clone(), "ada")
}

const EVEN: &[u8] = br#"{"order":"ORD-1","cents":4}"#;

#[tokio::test]
async fn an_edited_copy_keeps_place_and_idempotency_key_and_only_its_handler_sees_it() {
    let diary = Diary::default();
    let mut shop = shop(&diary);
    with_an_odd_order(&mut shop).await;
    let [odd, _] = shop.dead_letters().await.try_into().expect("two letters");
    let dead = shop.running().await.dead().by("ada");
    let copy =
        dead.edit("take", "ORD-1", odd.parked.position, EVEN, "a slip of the pen").await.expect("it fits");
    shop.settle().await;
    let before = diary.lines().len();
    shop.running().await.dead().redrive(&Which::All).await.expect("it is parked");
    shop.settle().await;
    let (id, at) = (&odd.parked.event_id, odd.parked.position);
    let took = diary.lines().split_off(before);
    let [edited, behind] = took.as_slice() else { panic!("only its handler sees it: {took:?}") };
    assert_eq!(*edited, format!("ORD-1 4 take/{id} at {at}"), "the key and the place of the original");
    assert!(behind.starts_with("ORD-1 5998 "), "{behind}");
    assert_eq!(shop.dead_letters().await, []);
    let recorded = shop.recorded().await;
    let paid = recorded.iter().find(|event| event.envelope.event_type.as_str() == "PaymentCompleted");
    assert_eq!(paid.expect("it was paid").envelope.causation, Some(copy), "the copy is what caused it");
}

#[tokio::test]
async fn an_edit_is_on_record_with_the_original_who_and_why() {
    let mut shop = shop(&Diary::default());
    with_an_odd_order(&mut shop).await;
    let [odd, _] = shop.dead_letters().await.try_into().expect("two letters");
    let at = odd.parked.position;
    let first = operator(&shop).edit("take", "ORD-1", at, EVEN, "a slip of the pen").await.expect("it fits");
    operator(&shop).edit("take", "ORD-1", at, EVEN, "again").await.expect("it fits");
    let [edited, _] = shop.dead_letters().await.try_into().expect("the letter is still there");
    let edit = edited.parked.edit.clone().expect("it was edited");
    assert_eq!((edit.edited_by.as_str(), edit.edit_reason.as_str()), ("ada", "again"));
    let copies = dead::edits(&**shop.store(), "take", &edited.parked).await.expect("copies can be read");
    let [one, two] = copies.as_slice() else { panic!("{copies:?}") };
    assert_eq!((&one.envelope.id, one.envelope.causation.as_ref()), (&first, Some(&odd.parked.event_id)));
    assert_eq!(two.envelope.causation.as_ref(), Some(&first), "the second names the first");
    assert_eq!((one.stream.to_string(), one.envelope.flow()), ("dead.take/ORD-1".into(), &odd.parked.flow));
    let body = String::from_utf8_lossy(&one.envelope.data);
    assert!(body.contains("a slip of the pen") && body.contains("ada"), "{body}");
    let attributes = &one.envelope.extensions;
    assert!(attributes.iter().any(|(name, id)| name == "editedfrom" && id == odd.parked.event_id.as_str()));
}

#[tokio::test]
async fn a_body_that_cannot_stand_in_its_place_is_refused_and_changes_nothing() {
    let mut shop = shop(&Diary::default());
    with_an_odd_order(&mut shop).await;
    let before = (shop.dead_letters().await, shop.recorded().await.len());
    let at = before.0.first().expect("two letters").parked.position;
    let refused: [(&[u8], Code); 4] = [
        (b"{", Code::INVALID_JSON),
        (br#"{"order":"ORD-1","cents":"four"}"#, Code::INVALID_BODY),
        (br#"{"order":"ORD-1","cents":0}"#, Code::RULE_BROKEN),
        (br#"{"order":"ORD-2","cents":4}"#, Code::RULE_BROKEN),
    ];
    for (body, code) in refused {
        let error =
            shop.running().await.dead().edit("take", "ORD-1", at, body, "no").await.expect_err("refused");
        assert_eq!(error.code(), code, "{error}");
    }
    let nowhere =
        operator(&shop).edit("take", "ORD-1", Position(999), EVEN, "no").await.expect_err("not there");
    assert_eq!(nowhere.code(), Code::NOT_FOUND);
    assert_eq!((shop.dead_letters().await, shop.recorded().await.len()), before);
}

#[tokio::test]
async fn a_crash_at_any_commit_after_an_edit_applies_it_once_and_in_order() {
    let diaries: Rc<RefCell<Diary>> = Rc::default();
    let of_shop = diaries.clone();
    let crashes = crash_everywhere(
        move || {
            *of_shop.borrow_mut() = Diary::default();
            shop(&of_shop.borrow())
        },
        async |shop: &mut Harness| {
            with_an_odd_order(shop).await;
            let at = shop.dead_letters().await.first().expect("two letters").parked.position;
            operator(shop).edit("take", "ORD-1", at, EVEN, "a slip of the pen").await.expect("it fits");
            operator(shop).redrive(&Which::All).await.expect("it is parked");
            shop.restart().await;
            shop.settle().await;
            assert_eq!(shop.dead_letters().await, []);
            let paid = shop.events_of("Payment/ORD-1").await;
            assert_eq!(
                paid,
                ["PaymentCompleted", "PaymentCompleted"],
                "the edited one and the one behind it"
            );
        },
    )
    .await;
    assert!(crashes >= 18, "{crashes}");
}

#[tokio::test]
async fn a_crash_at_any_commit_after_a_discard_tries_what_is_behind_it() {
    let crashes = crash_everywhere(
        || shop(&Diary::default()),
        async |shop: &mut Harness| {
            with_an_odd_order(shop).await;
            let at = shop.dead_letters().await.first().expect("two letters").parked.position;
            operator(shop).discard_one("take", "ORD-1", at, "paid in cash").await.expect("it is parked");
            shop.restart().await;
            shop.settle().await;
            assert_eq!(shop.dead_letters().await, []);
            assert_eq!(shop.events_of("Payment/ORD-1").await, ["PaymentCompleted"]);
            let kept = dead::discarded(&**shop.store()).await.expect("letters can be read");
            let kept: Vec<_> =
                kept.iter().map(|kept| (kept.parked.position, kept.discarded_by.as_str())).collect();
            assert_eq!(kept, [(at, "ada")]);
        },
    )
    .await;
    assert!(crashes >= 18, "{crashes}");
}
