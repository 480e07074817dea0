//! A log with a topic that keeps its events for a day, and what is left of it.

use std::collections::HashMap;
use std::time::Duration;

use ensue_core::{
    ContentType, Envelope, EventId, EventType, Portable, Position, Query, QueryItem, Read, Recorded, Source,
    StoreExt, StreamName, Tag, Timestamp, Topic, Version,
};
use ensue_postgres::PostgresStore;
use tokio_postgres::Client;

pub(super) const DAY: Duration = Duration::from_hours(24);
pub(super) const EVERYTHING: Position = Position(u64::MAX);

pub(super) fn ticks() -> Topic {
    Topic::new("ticks").expect("a topic")
}

/// A log under way: of each three events two are ticks of two keys, and one is an order.
#[derive(Default)]
pub(super) struct History {
    position: u64,
    pub(super) versions: HashMap<StreamName, u64>,
    pub(super) events: Vec<Recorded>,
}

impl History {
    /// So many more events, recorded so many hours ago.
    pub(super) fn more(&mut self, events: u64, hours: i64) -> Vec<Recorded> {
        let began = Timestamp::now().as_microsecond() - hours * 3_600_000_000;
        let more: Vec<Recorded> = (0..events).map(|_| self.one(began)).collect();
        self.events.extend(more.iter().cloned());
        more
    }

    /// The same, and each says its key as its site.
    pub(super) fn more_of_sites(&mut self, events: u64, hours: i64) -> Vec<Recorded> {
        let mut more = self.more(events, hours);
        let say = |event: &mut Recorded| {
            event.envelope.data = format!(r#"{{"site":"{}"}}"#, event.stream.key).into();
        };
        more.iter_mut().for_each(say);
        more
    }

    fn one(&mut self, began: i64) -> Recorded {
        self.position += 1;
        let (topic, key) = match self.position % 3 {
            0 => ("orders", "ORD-1"),
            1 => ("ticks", "a"),
            _ => ("ticks", "b"),
        };
        let stream = StreamName::new(topic, key).expect("a stream");
        let version = self.versions.entry(stream.clone()).or_default();
        *version += 1;
        let recorded_at = began + i64::try_from(self.position).expect("small");
        Recorded {
            position: Position(self.position),
            version: Version(*version),
            stream,
            recorded_at: Timestamp::from_microsecond(recorded_at).expect("in range"),
            envelope: envelope(
                &format!("e{}", self.position),
                if topic == "ticks" { "Ticked" } else { "OrderPlaced" },
            ),
        }
    }

    /// The events that are left where ticks up to this position were dropped.
    pub(super) fn without_ticks(&self, until: u64) -> Vec<Recorded> {
        let is_left = |event: &&Recorded| event.stream.topic.as_str() != "ticks" || event.position.0 > until;
        self.events.iter().filter(is_left).cloned().collect()
    }
}

pub(super) fn envelope(id: &str, event_type: &str) -> Envelope {
    Envelope {
        id: EventId::new(id).expect("an id"),
        source: Source::new("elsewhere").expect("a source"),
        event_type: EventType::new(event_type).expect("a type"),
        schema_version: 1,
        time: Timestamp::from_second(1_500_000_000).expect("in range"),
        correlation: None,
        causation: None,
        trace: None,
        tags: vec![Tag::new("site", "north").expect("a tag")],
        extensions: Vec::new(),
        content_type: ContentType::json(),
        data: "{}".into(),
    }
}

pub(super) async fn imported(store: &PostgresStore, events: Vec<Recorded>) {
    store.import(events).await.expect("it follows");
}

/// So many events of two days ago in a topic that keeps them for one: its partition takes no more, and holds the last event of the log.
pub(super) async fn of_two_days_ago(store: &PostgresStore, events: u64) -> History {
    let mut history = History::default();
    store.retain(&ticks(), Some(DAY)).await.expect("it is ours");
    imported(store, history.more(events, 48)).await;
    assert_eq!(trimmed(store, EVERYTHING).await, 0);
    history
}

/// How many were dropped.
pub(super) async fn trimmed(store: &PostgresStore, upto: Position) -> u64 {
    let mut trimmed = Vec::new();
    store.trim(upto, &mut trimmed).await.expect("it is ours");
    trimmed.iter().map(|trimmed| trimmed.events).sum()
}

/// What SQL reads, page by page, as positions.
pub(super) async fn read_in_sql(client: &Client, page: i32) -> Vec<i64> {
    let mut positions: Vec<i64> = Vec::new();
    loop {
        let after = positions.last().copied().unwrap_or_default();
        let rows = client
            .query("SELECT position FROM ensue.read($1, $2)", &[&after, &page])
            .await
            .expect("nothing is missing");
        if rows.is_empty() {
            return positions;
        }
        positions.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
    }
}

/// Reads in every way, and finds what is left and nothing else.
pub(super) async fn assert_left(store: &PostgresStore, client: &Client, left: &[Recorded]) {
    let read = async |read| store.collect(read).await.expect("nothing is missing");
    assert_eq!(read(Read::all()).await, left);
    let backward: Vec<Recorded> = left.iter().rev().cloned().collect();
    assert_eq!(read(Read::all().backward()).await, backward);
    let head = left.last().map(|event| event.position).unwrap_or_default();
    assert_eq!(store.head().await.expect("readable"), head);
    for (after, until) in [(0, 1), (1, 2), (2, 3), (5, 1_999), (999, 2_001), (2_000, 2_002), (2_999, 3_500)] {
        let within: Vec<Recorded> = left
            .iter()
            .filter(|event| event.position.0 > after && event.position.0 <= until)
            .cloned()
            .collect();
        let bounded = Read::all().after(Position(after)).until(Position(until));
        assert_eq!(read(bounded.clone()).await, within, "{after}..={until}");
        let reversed: Vec<Recorded> = within.into_iter().rev().collect();
        assert_eq!(read(bounded.backward()).await, reversed, "{after}..={until}");
    }
    let of_type = |name| {
        let types = vec![EventType::new(name).expect("a type")];
        Read::query(Query { items: vec![QueryItem { types, tags: Vec::new() }] })
    };
    let tagged = QueryItem { types: Vec::new(), tags: vec![Tag::new("site", "north").expect("a tag")] };
    assert_eq!(read(Read::query(Query { items: vec![tagged] })).await, left);
    for (name, topic) in [("Ticked", "ticks"), ("OrderPlaced", "orders")] {
        let its = |event: &&Recorded| event.stream.topic.as_str() == topic;
        assert_eq!(read(of_type(name)).await, left.iter().filter(its).cloned().collect::<Vec<_>>());
    }
    for name in ["ticks/a", "ticks/b", "orders/ORD-1"] {
        let stream: StreamName = name.parse().expect("a stream");
        let its: Vec<Recorded> = left.iter().filter(|event| event.stream == stream).cloned().collect();
        assert_eq!(read(Read::stream(stream.clone())).await, its);
        assert_eq!(read(Read::stream(stream).backward()).await, its.into_iter().rev().collect::<Vec<_>>());
    }
    let positions: Vec<i64> =
        left.iter().map(|event| i64::try_from(event.position.0).expect("small")).collect();
    for page in [7, 1_000, 100_000] {
        assert_eq!(read_in_sql(client, page).await, positions, "pages of {page}");
    }
}
