//! The past: states at a position or a time, and which event changed what.

use std::time::Duration;

use ensue_core::{Position, Store};
use ensue_macros::Event;
use ensue_runtime::blame::{Blamed, select};
use ensue_runtime::projection::{blame, document_at};
use ensue_runtime::{App, Meta, Moment, Projection};
use ensue_test::Harness;
use serde::{Deserialize, Serialize};

use crate::words::{Tick, tick};

/// A body of another key under the same document: documents need not follow streams.
#[derive(Event, Serialize, Deserialize, Clone, Debug)]
#[event(crate = ensue_core, topic = "Note", key = id)]
struct Noted {
    id: String,
    about: String,
    text: String,
}

#[derive(Event)]
#[event(crate = ensue_core)]
enum Happened {
    Ticked(Tick),
    Noted(Noted),
}

struct Card;

#[derive(Serialize, Deserialize, Clone, Default, PartialEq, Eq, Debug)]
struct CardDocument {
    number: u32,
    notes: Vec<String>,
}

impl Projection for Card {
    const NAME: &'static str = "card";
    type Event = Happened;
    type Document = CardDocument;

    fn key(&self, event: &Happened) -> Option<String> {
        Some(match event {
            Happened::Ticked(tick) => tick.key.clone(),
            Happened::Noted(noted) => noted.about.clone(),
        })
    }

    fn apply(&self, document: &mut Option<CardDocument>, event: &Happened, _: &Meta) {
        match event {
            Happened::Ticked(tick) if tick.number == 0 => *document = None,
            Happened::Ticked(tick) => document.get_or_insert_default().number = tick.number,
            Happened::Noted(noted) => document.get_or_insert_default().notes.push(noted.text.clone()),
        }
    }
}

fn note(id: &str, text: &str) -> Noted {
    Noted { id: id.to_owned(), about: "a".to_owned(), text: text.to_owned() }
}

/// Five events about `a`, a minute apart, and one about another.
async fn five_minutes() -> Harness {
    let mut harness = Harness::new(|app: App| app.external::<Tick>().external::<Noted>().project(Card));
    harness.publish(tick("a", 1)).await;
    harness.advance(Duration::from_mins(1)).await;
    harness.publish(note("n1", "first")).await;
    harness.publish(tick("other", 9)).await;
    harness.advance(Duration::from_mins(1)).await;
    harness.publish(tick("a", 0)).await;
    harness.advance(Duration::from_mins(1)).await;
    harness.publish(tick("a", 1)).await;
    harness.publish(note("n2", "second")).await;
    harness.settle().await;
    harness
}

async fn card(harness: &Harness, moment: Moment) -> Option<CardDocument> {
    document_at(&Card, &**harness.store(), "a", moment).await.expect("it can be folded")
}

fn document(number: u32, notes: &[&str]) -> CardDocument {
    CardDocument { number, notes: notes.iter().map(ToString::to_string).collect() }
}

#[tokio::test]
async fn a_document_is_had_as_it_was_at_every_position() {
    let harness = five_minutes().await;
    let mut seen = Vec::new();
    for position in 0..=6 {
        seen.push(card(&harness, Moment::Position(Position(position))).await);
    }
    let first = document(1, &["first"]);
    let expected = [
        None,
        Some(document(1, &[])),
        Some(first.clone()),
        Some(first),
        None,
        Some(document(1, &[])),
        Some(document(1, &["second"])),
    ];
    assert_eq!(seen, expected);
    let stored = harness.view::<Card>().get("a").await.expect("it can be read");
    assert_eq!(card(&harness, Moment::Now).await, stored, "now is what the read model shows");
}

#[tokio::test]
async fn a_time_is_the_last_position_that_the_store_had_taken_then() {
    let harness = five_minutes().await;
    let store: &dyn Store = &**harness.store();
    let recorded = harness.recorded().await;
    for (index, event) in recorded.iter().enumerate() {
        let same_moment = recorded.iter().filter(|other| other.recorded_at <= event.recorded_at).count();
        let at = Moment::Time(event.recorded_at).position(store).await.expect("it is in the log");
        assert_eq!(at, Position(same_moment as u64), "event {index}");
        let before = Moment::Time(event.recorded_at - Duration::from_nanos(1)).position(store).await;
        let earlier = recorded.iter().filter(|other| other.recorded_at < event.recorded_at).count();
        assert_eq!(before.expect("it is in the log"), Position(earlier as u64), "before event {index}");
    }
}

#[tokio::test]
async fn blame_names_the_event_that_last_changed_each_field_also_for_one_that_is_gone() {
    let harness = five_minutes().await;
    let fields = blame(&Card, &**harness.store(), "a", Moment::Now).await.expect("it can be folded");
    let one = |field: &str| -> Blamed {
        let mut found = select(fields.clone(), field);
        found.retain(|blamed| blamed.field.trim_start_matches('/') == field.trim_start_matches('/'));
        found.pop().unwrap_or_else(|| panic!("{field} was there"))
    };
    let number = one("number");
    assert_eq!((number.position, number.changes), (Position(5), 3), "set, gone, and set to the same again");
    let first = one("/notes/0");
    assert_eq!((first.position, first.event_type.as_str()), (Position(6), "Noted"));
    assert_eq!(first.value.map(|value| value.get().to_owned()), Some("\"second\"".to_owned()));
    let empty = one("notes");
    assert_eq!((empty.position, empty.value.is_none()), (Position(6), true), "the empty list is gone");
    let then = blame(&Card, &**harness.store(), "a", Moment::Position(Position(3))).await.expect("folded");
    assert_eq!(select(then, "number").first().map(|blamed| blamed.position), Some(Position(1)));
}
