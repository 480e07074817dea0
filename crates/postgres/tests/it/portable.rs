//! Moving a store into a database and out of it.

use ensue_core::{
    Append, Code, Commit, ContentType, Envelope, EventId, EventType, Expected, Portable, Position, Read,
    RecordWrite, Recorded, Source, Space, Store, StoreExt, StreamName, Tag, Timestamp, Version,
};

use crate::given::Database;

/// Events as another store has recorded them: two streams in turn, with times of their own.
fn history(events: u64) -> Vec<Recorded> {
    let event = |position: u64| Recorded {
        position: Position(position),
        stream: StreamName::new("Order", format!("ORD-{}", position % 2)).expect("a stream"),
        version: Version(position.div_ceil(2)),
        recorded_at: Timestamp::from_microsecond(
            1_600_000_000_000_000 + i64::try_from(position).expect("small"),
        )
        .expect("in range"),
        envelope: Envelope {
            id: EventId::new(format!("e{position}")).expect("an id"),
            source: Source::new("elsewhere").expect("a source"),
            event_type: EventType::new("OrderPlaced").expect("a type"),
            schema_version: 3,
            time: Timestamp::from_second(1_500_000_000).expect("in range"),
            correlation: None,
            causation: None,
            trace: None,
            tags: vec![Tag::new("customer", "a,b%").expect("a tag")],
            extensions: Vec::new(),
            content_type: ContentType::json(),
            data: format!("{{\"n\": {position}}}").into(),
        },
    };
    (1..=events).map(event).collect()
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn an_import_keeps_positions_versions_and_times_and_appends_go_on_behind_it() {
    let database = Database::new().await;
    let store = database.open().await;
    let events = history(2_500);
    let (first, rest) = events.split_at(1_000);
    store.import(first.to_vec()).await.expect("it follows");
    assert_eq!(store.import(rest.to_vec()).await.expect("it follows"), Position(2_500));
    assert_eq!(store.collect(Read::all()).await.expect("readable"), events);
    let flow = EventId::new("e7").expect("an id");
    assert_eq!(store.collect(Read::flow(flow)).await.expect("readable").len(), 1);
    let last = events.last().expect("there are some");
    let next = Envelope { id: EventId::new("next").expect("an id"), ..last.envelope.clone() };
    let append =
        Append { stream: last.stream.clone(), expected: Expected::Exact(last.version), events: vec![next] };
    let committed =
        store.commit(Commit { appends: vec![append], ..Commit::default() }).await.expect("it is next");
    assert_eq!(committed.position(), Position(2_501));
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn what_does_not_follow_the_head_is_refused_as_a_whole() {
    let database = Database::new().await;
    let store = database.open().await;
    let events = history(10);
    let without = |position: u64| {
        let kept = events.iter().filter(|event| event.position.0 != position);
        kept.cloned().collect::<Vec<_>>()
    };
    for strays in [without(1), without(4)] {
        let error = store.import(strays).await.expect_err("a position is missing");
        assert_eq!(error.code(), Code::NO_COPY);
        assert_eq!(store.head().await.expect("readable"), Position::ZERO);
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn spaces_are_those_that_hold_records() {
    let database = Database::new().await;
    let store = database.open().await;
    for name in ["z", "a", "a.b", "ab"] {
        let records = vec![RecordWrite::put(Space::new(name).expect("valid"), "key", "value")];
        store.commit(Commit { records, ..Commit::default() }).await.expect("it is taken");
    }
    let spaces = store.spaces().await.expect("readable");
    assert_eq!(spaces.iter().map(Space::as_str).collect::<Vec<_>>(), ["a", "a.b", "ab", "z"]);
}
