//! The words in which the cases are written: short forms of events, commits and what is expected of them.

use bytes::Bytes;
use ensue_core::{
    Append, AppendCondition, Commit, CommitError, Committed, ContentType, Envelope, EventId, EventType,
    Expected, Position, Query, QueryItem, Read, Record, RecordScan, RecordWrite, Recorded, Source, Space,
    Store, StoreExt, StreamName, Tag, Timestamp,
};

/// A stream of the topic that the cases use.
pub(super) fn stream(key: &str) -> StreamName {
    StreamName::new("Case", key).expect("the cases use valid keys")
}

/// A space of records.
pub(super) fn space(name: &str) -> Space {
    Space::new(name).expect("the cases use valid spaces")
}

/// An event id.
pub(super) fn id(text: &str) -> EventId {
    EventId::new(text).expect("the cases use valid ids")
}

/// An event type.
pub(super) fn event_type(text: &str) -> EventType {
    EventType::new(text).expect("the cases use valid types")
}

/// A tag, written `name:value`.
pub(super) fn tag(text: &str) -> Tag {
    text.parse().expect("the cases use valid tags")
}

/// A plain event: type `Happened`, no tags, its id as its data.
pub(super) fn event(text: &str) -> Envelope {
    Envelope {
        id: id(text),
        source: Source::new("conformance").expect("a valid source"),
        event_type: event_type("Happened"),
        schema_version: 1,
        time: Timestamp::UNIX_EPOCH,
        correlation: None,
        causation: None,
        trace: None,
        tags: Vec::new(),
        extensions: Vec::new(),
        content_type: ContentType::json(),
        data: Bytes::from(format!("{text:?}")),
    }
}

/// What an event gets besides its id.
pub(super) trait Dress {
    /// Another type.
    fn typed(self, event_type: &str) -> Self;
    /// One more tag, written `name:value`.
    fn tagged(self, tag: &str) -> Self;
    /// A flow that it belongs to.
    fn in_flow(self, flow: &str) -> Self;
    /// Other data.
    fn holding(self, data: impl Into<Bytes>) -> Self;
}

impl Dress for Envelope {
    fn typed(mut self, text: &str) -> Self {
        self.event_type = event_type(text);
        self
    }

    fn tagged(mut self, text: &str) -> Self {
        self.tags.push(tag(text));
        self
    }

    fn in_flow(mut self, flow: &str) -> Self {
        self.correlation = Some(id(flow));
        self
    }

    fn holding(mut self, data: impl Into<Bytes>) -> Self {
        self.data = data.into();
        self
    }
}

/// A commit that does nothing yet.
pub(super) fn nothing() -> Commit {
    Commit::default()
}

/// A commit of plain events to one stream.
pub(super) fn append(key: &str, expected: Expected, ids: &[&str]) -> Commit {
    nothing().and(key, expected, ids.iter().map(|id| event(id)))
}

/// A commit of events to one stream, whatever its version.
pub(super) fn append_events(key: &str, events: impl IntoIterator<Item = Envelope>) -> Commit {
    nothing().and(key, Expected::Any, events)
}

/// What a commit does besides.
pub(super) trait Extend {
    /// Also appends.
    fn and(self, key: &str, expected: Expected, events: impl IntoIterator<Item = Envelope>) -> Self;
    /// Also writes a record.
    fn writing(self, write: RecordWrite) -> Self;
    /// Only if nothing matches.
    fn unless(self, fail_if_match: Query, after: Position) -> Self;
}

impl Extend for Commit {
    fn and(mut self, key: &str, expected: Expected, events: impl IntoIterator<Item = Envelope>) -> Self {
        self.appends.push(Append { stream: stream(key), expected, events: events.into_iter().collect() });
        self
    }

    fn writing(mut self, write: RecordWrite) -> Self {
        self.records.push(write);
        self
    }

    fn unless(mut self, fail_if_match: Query, after: Position) -> Self {
        self.condition = Some(AppendCondition { fail_if_match, after });
        self
    }
}

/// Events of these types that carry these tags.
pub(super) fn query(types: &[&str], tags: &[&str]) -> Query {
    Query { items: vec![item(types, tags)] }
}

/// One alternative of a query.
pub(super) fn item(types: &[&str], tags: &[&str]) -> QueryItem {
    QueryItem {
        types: types.iter().map(|text| event_type(text)).collect(),
        tags: tags.iter().map(|text| tag(text)).collect(),
    }
}

/// Everything that a store holds, as far as the cases write: what must be the same after a refusal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Contents {
    pub(super) events: Vec<Recorded>,
    pub(super) records: Vec<Record>,
}

/// The space that the cases write to where one is enough.
pub(super) const SPACE: &str = "case.records";

impl Contents {
    pub(super) async fn of(store: &dyn Store) -> Self {
        let events = events(store, Read::all()).await;
        let scan = RecordScan::all(space(SPACE)).limit(100);
        let records = store.records(scan).await.expect("records can be scanned");
        Self { events, records }
    }
}

/// Commits, and insists that it is taken.
pub(super) async fn take(store: &dyn Store, commit: Commit) -> Committed {
    match store.commit(commit.clone()).await {
        Ok(committed) => committed,
        Err(error) => panic!("a valid commit was refused: {error}\n{}", shown(&commit)),
    }
}

/// Commits, and insists that it is refused and that nothing of it is left.
pub(super) async fn refuse(store: &dyn Store, commit: Commit) -> CommitError {
    let before = Contents::of(store).await;
    let outcome = store.commit(commit.clone()).await;
    let Err(error) = outcome else {
        panic!("a commit was taken that must be refused: {outcome:?}\n{}", shown(&commit));
    };
    assert_eq!(Contents::of(store).await, before, "the refused commit ({error}) has left something");
    error
}

/// The commit for a message, cut where a large body would fill the screen.
fn shown(commit: &Commit) -> String {
    const CHARACTERS_MAX: usize = 2_000;
    let mut text: String = format!("{commit:#?}").chars().take(CHARACTERS_MAX + 1).collect();
    if text.chars().count() > CHARACTERS_MAX {
        text.push('…');
    }
    text
}

/// The stream and its version that a refusal names.
pub(super) fn conflict_of(error: CommitError) -> (StreamName, Expected, u64) {
    match error {
        CommitError::Conflict { stream, expected, actual } => (stream, expected, actual.0),
        other => panic!("a version conflict was due, not: {other}"),
    }
}

/// The revision that a refusal names.
pub(super) fn record_conflict_of(error: CommitError) -> u64 {
    match error {
        CommitError::RecordConflict { actual, .. } => actual.0,
        other => panic!("a record conflict was due, not: {other}"),
    }
}

/// Every event that a read selects.
pub(super) async fn events(store: &dyn Store, read: Read) -> Vec<Recorded> {
    match store.collect(read.clone()).await {
        Ok(events) => events,
        Err(error) => panic!("{read:?} failed: {error}"),
    }
}

/// The ids of the events that a read selects.
pub(super) async fn ids(store: &dyn Store, read: Read) -> Vec<String> {
    events(store, read).await.into_iter().map(|recorded| recorded.envelope.id.to_string()).collect()
}

/// One record of the space that the cases use.
pub(super) async fn record(store: &dyn Store, key: &'static str) -> Option<Record> {
    store.record(space(SPACE), key).await.expect("a record can be read")
}

/// Sets a record of the space that the cases use.
pub(super) fn put(key: &'static str, value: &'static str) -> RecordWrite {
    RecordWrite::put(space(SPACE), key, value)
}
