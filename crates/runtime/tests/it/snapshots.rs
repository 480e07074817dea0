//! Snapshots of aggregates: shortcuts that change no state, and are not trusted.

use ensue_core::{Aggregate, Commit, RecordWrite, Space, Store, StoreExt, StreamName, Version};
use ensue_macros::{Command, Event};
use ensue_runtime::aggregate::{self, SnapshotUse};
use ensue_runtime::{Aggregates, App};
use ensue_test::Harness;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize, Clone, Debug)]
#[event(crate = ensue_core, topic = "Note", key = key)]
struct Noted {
    key: String,
    text: String,
}

#[derive(Command, Serialize, Deserialize, Clone)]
#[command(crate = ensue_core, key = key, failure = String)]
struct Note {
    key: String,
    text: String,
}

macro_rules! notes {
    ($name:ident, every $every:literal, bytes $bytes:literal, shape $shape:literal, $field:ident) => {
        /// All notes, one behind the other.
        #[derive(Default, Clone, Serialize, Deserialize, Debug)]
        struct $name {
            $field: String,
        }

        impl Aggregate for $name {
            type Event = Noted;
            type Command = Note;
            type Error = String;
            const TOPIC: &'static str = "Note";
            const SNAPSHOT_EVERY: u64 = $every;
            const SNAPSHOT_BYTES: u64 = $bytes;
            const SNAPSHOT_VERSION: u32 = $shape;

            fn upcast_state(from: u32, mut state: serde_json::Value) -> Option<serde_json::Value> {
                if from != 2 {
                    return None;
                }
                let object = state.as_object_mut()?;
                let text = object.remove("text")?;
                object.insert("body".to_owned(), text);
                Some(state)
            }

            fn decide(&self, note: Note) -> Result<Vec<Noted>, String> {
                Ok(vec![Noted { key: note.key, text: note.text }])
            }

            fn evolve(&mut self, event: &Noted) {
                self.$field.push_str(&event.text);
            }
        }
    };
}

notes!(Plain, every 0, bytes 0, shape 1, text);
notes!(Often, every 3, bytes 0, shape 1, text);
notes!(Heavy, every 0, bytes 100, shape 1, text);
notes!(Second, every 3, bytes 0, shape 2, text);
notes!(Third, every 3, bytes 0, shape 3, body);

fn harness<A: Aggregate>() -> Harness {
    Harness::new(App::aggregate::<A>)
}

async fn note(harness: &mut Harness, text: &str) {
    harness.dispatch(Note { key: "n".into(), text: text.into() }).await.expect("it is taken");
}

fn notes<A: Aggregate>(harness: &Harness) -> Aggregates<A> {
    Aggregates::new(harness.store().clone())
}

async fn tamper(harness: &Harness, change: impl FnOnce(String) -> String) {
    let space = Space::new("snapshot").expect("valid");
    let record = harness.store().record(space.clone(), "Note/n").await.expect("readable").expect("there");
    let value = String::from_utf8(record.value.to_vec()).expect("JSON");
    let changed = change(value.clone());
    assert_ne!(value, changed);
    let records = vec![RecordWrite::put(space, "Note/n", changed)];
    harness.store().commit(Commit { records, ..Commit::default() }).await.expect("it is taken");
}

#[tokio::test]
async fn the_state_is_the_same_with_and_without_snapshots_at_every_version() {
    let (mut often, mut heavy) = (harness::<Often>(), harness::<Heavy>());
    for version in 1..=20 {
        let text = format!("{version}{}", ".".repeat(version % 7));
        note(&mut often, &text).await;
        note(&mut heavy, &text).await;
        let plain = notes::<Plain>(&often).load("n").await.expect("it loads");
        assert_eq!((plain.replayed, &plain.snapshot), (version as u64, &SnapshotUse::Absent));
        let with_often = notes::<Often>(&often).load("n").await.expect("it loads");
        let with_heavy = notes::<Heavy>(&heavy).load("n").await.expect("it loads");
        assert_eq!(with_often.state.text, plain.state.text);
        assert_eq!(with_heavy.state.text, plain.state.text);
        assert_eq!(with_often.replayed, version as u64 % 3);
        // Each event has more than 18 bytes, so none of more than five events lacks a snapshot.
        assert!(with_heavy.replayed <= 5, "{with_heavy:?}");
        let back = notes::<Often>(&often).at_version("n", Version(version as u64)).await.expect("it loads");
        assert_eq!(back.state.text, plain.state.text);
    }
}

#[tokio::test]
async fn a_damaged_snapshot_is_ignored_says_so_and_is_replaced() {
    for damage in
        [|value: String| value.replace("abc", "abx"), |value: String| value[..value.len() / 2].to_owned()]
    {
        let mut harness = harness::<Often>();
        for text in ["a", "b", "c", "d"] {
            note(&mut harness, text).await;
        }
        tamper(&harness, damage).await;
        let loaded = notes::<Often>(&harness).load("n").await.expect("it loads");
        assert_eq!((loaded.state.text.as_str(), loaded.replayed), ("abcd", 4));
        let stream = StreamName::new("Note", "n").expect("valid");
        let kept = aggregate::kept(&**harness.store(), &stream).await.expect("readable").expect("there");
        let SnapshotUse::Ignored(reason) = &loaded.snapshot else { panic!("{loaded:?}") };
        assert_eq!(kept.damage.as_ref(), Some(reason));
        assert!(reason.contains("damaged") || reason.contains("cannot be read"), "{reason}");
        note(&mut harness, "e").await;
        let counts = harness.running().await.snapshots();
        assert_eq!((counts.used, counts.ignored), (1, 1));
        let (stream, said) = counts.last_ignored.expect("one was ignored");
        assert_eq!((stream.to_string().as_str(), &said), ("Note/n", reason));
        let loaded = notes::<Often>(&harness).load("n").await.expect("it loads");
        assert_eq!((loaded.state.text.as_str(), loaded.snapshot), ("abcde", SnapshotUse::From(Version(5))));
    }
}

#[tokio::test]
async fn a_snapshot_of_another_shape_is_converted_where_that_can_be_done_and_ignored_elsewhere() {
    let mut harness = harness::<Second>();
    for text in ["a", "b", "c", "d"] {
        note(&mut harness, text).await;
    }
    let third = notes::<Third>(&harness).load("n").await.expect("it loads");
    assert_eq!((third.state.body.as_str(), third.replayed), ("abcd", 1));
    assert_eq!(third.snapshot, SnapshotUse::From(Version(3)));
    let older = notes::<Often>(&harness).load("n").await.expect("it loads");
    assert_eq!((older.state.text.as_str(), older.replayed), ("abcd", 4));
    assert_eq!(older.snapshot, SnapshotUse::Ignored("it has shape 2, newer than 1".to_owned()));
    let mut first = self::harness::<Often>();
    for text in ["a", "b", "c", "d"] {
        note(&mut first, text).await;
    }
    let third = notes::<Third>(&first).load("n").await.expect("it loads");
    assert_eq!((third.state.body.as_str(), third.replayed), ("abcd", 4));
    let reason = "it has shape 1, and nothing makes of 1 the next".to_owned();
    assert_eq!(third.snapshot, SnapshotUse::Ignored(reason));
}
