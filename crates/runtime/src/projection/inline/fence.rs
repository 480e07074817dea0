//! Which generation takes events inline, and how commands learn of a change before they commit.
//!
//! A record says which generation is inline. Whoever changes it, or puts another generation in the place of an inline one,
//! tells of it by an event in the same commit. Commands carry the condition that nothing was told since they looked: unlike
//! the revision of a record it can be checked by many at once, without one conflicting with the other.

use ensue_core::{
    Append, AppendCondition, Commit, CommitError, ContentType, Envelope, Error, EventType, Expected, Host,
    Position, Query, Read, RecordWrite, Revision, Source, Store, StoreExt, StreamName, event::to_json,
};
use futures_util::TryStreamExt;

use super::super::generation::{self, Generation};
use super::super::subscription_name;
use super::InlineModel;
use crate::spaces::{self, VIEW};
use crate::subscription::Checkpoints;

/// The event that tells of a change.
const SWITCHED: &str = "ensue.ViewSwitched";

/// What the record says of a read model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::projection) struct Marker {
    /// Which generation is inline; not the live one any more, if that is another.
    pub(in crate::projection) generation: Option<Generation>,
    revision: Revision,
}

impl Marker {
    pub(in crate::projection) async fn load(store: &dyn Store, name: &str) -> Result<Self, Error> {
        let record = store.record(VIEW.clone(), marker_key(name)).await?;
        let revision = record.as_ref().map(|record| record.revision).unwrap_or_default();
        let generation = record.map(|record| spaces::decode("read model", &record.value)).transpose()?;
        Ok(Self { generation, revision })
    }

    /// The write that says which generation is inline from now on, unless another change was faster.
    pub(in crate::projection) fn moved(self, name: &str, to: Option<Generation>) -> RecordWrite {
        let write = match to {
            Some(generation) => RecordWrite::put(VIEW.clone(), marker_key(name), spaces::encode(&generation)),
            None => RecordWrite::delete(VIEW.clone(), marker_key(name)),
        };
        write.expect(self.revision)
    }
}

/// Whether this write is that of a marker.
pub(in crate::projection) fn is_marker(write: &RecordWrite, name: &str) -> bool {
    write.space == *VIEW && write.key == marker_key(name)
}

fn marker_key(name: &str) -> bytes::Bytes {
    spaces::join(&[name, "inline"])
}

fn switched() -> EventType {
    EventType::new(SWITCHED).expect("a constant name is valid")
}

/// Nothing was told of a change since this position.
pub(crate) fn condition(since: Position) -> AppendCondition {
    AppendCondition { fail_if_match: Query::types([switched()]), after: since }
}

/// Nothing was told of a change, and none of these events came, since this position.
pub(in crate::projection) fn unfed(mut types: Vec<EventType>, since: Position) -> AppendCondition {
    types.push(switched());
    AppendCondition { fail_if_match: Query::types(types), after: since }
}

/// Tells of a change.
pub(in crate::projection) fn told(host: &Host, name: &str, generation: Generation) -> Result<Append, Error> {
    let envelope = Envelope {
        id: host.event_id(),
        source: Source::new("ensue")?,
        event_type: switched(),
        schema_version: 1,
        time: host.clock.now(),
        correlation: None,
        causation: None,
        trace: None,
        tags: Vec::new(),
        extensions: Vec::new(),
        content_type: ContentType::json(),
        data: to_json(SWITCHED, &serde_json::json!({"projection": name, "generation": generation}))?,
    };
    let stream = StreamName::new("ensue.view", name)?;
    Ok(Append { stream, expected: Expected::Any, events: vec![envelope] })
}

/// The generation that takes events of this code inline, if there is one.
pub(super) async fn taking(store: &dyn Store, model: &dyn InlineModel) -> Result<Option<Generation>, Error> {
    let live = generation::live(store, model.name(), model.version()).await?.generation;
    let marker = Marker::load(store, model.name()).await?;
    Ok((live.version == model.version() && marker.generation == Some(live)).then_some(live))
}

/// What came of the attempt to make a read model inline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::projection) enum Activation {
    /// It is.
    Inline,
    /// Another version of the code is live.
    OtherVersion,
    /// There are events that the lanes have not taken yet.
    Behind,
}

/// Makes a read model inline if its lanes, which begin after `start` where they have never run, have taken everything. Whatever
/// is appended at the same moment is seen by one of the two: it makes this attempt fail, or is decided anew.
pub(in crate::projection) async fn activate(
    store: &dyn Store,
    host: &Host,
    model: &dyn InlineModel,
    start: Position,
) -> Result<Activation, Error> {
    let name = model.name();
    let live = generation::settle(store, name, model.version()).await?.generation;
    if live.version != model.version() {
        return Ok(Activation::OtherVersion);
    }
    let marker = Marker::load(store, name).await?;
    if marker.generation == Some(live) {
        return Ok(Activation::Inline);
    }
    let types: Vec<EventType> =
        model.types().iter().map(|info| EventType::new(info.event_type)).collect::<Result<_, _>>()?;
    let head = store.head().await?;
    if has_untaken(store, name, &types, (start, head)).await? {
        return Ok(Activation::Behind);
    }
    let commit = Commit {
        appends: vec![told(host, name, live)?],
        condition: Some(unfed(types, head)),
        records: vec![marker.moved(name, Some(live))],
        ..Commit::default()
    };
    match store.commit(commit).await {
        Ok(_) => Ok(Activation::Inline),
        Err(CommitError::ConditionFailed { .. } | CommitError::RecordConflict { .. }) => {
            Ok(Activation::Behind)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the lanes have events up to `head` that they have not taken.
async fn has_untaken(
    store: &dyn Store,
    name: &str,
    types: &[EventType],
    (start, head): (Position, Position),
) -> Result<bool, Error> {
    let checkpoints = Checkpoints::load(store, &subscription_name(name).into()).await?;
    let settled = if checkpoints.has_run() { checkpoints.settled() } else { vec![start] };
    let since = settled.iter().min().copied().unwrap_or(start);
    let lanes = u16::try_from(settled.len()).unwrap_or(u16::MAX);
    let mut events = store.read(Read::query(Query::types(types.iter().cloned())).after(since).until(head));
    while let Some(recorded) = events.try_next().await? {
        let lane = usize::from(spaces::spread(recorded.stream.key.as_str(), lanes));
        if settled.get(lane).is_some_and(|settled| recorded.position > *settled) {
            return Ok(true);
        }
    }
    Ok(false)
}
