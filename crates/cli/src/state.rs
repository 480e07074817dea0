//! The state of any stream without its application: the JSON data of its events, merged in order.
//!
//! Of each top-level field the last value counts. What an event *means* is not known here; a typed state is the business
//! of the application that owns the stream.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use ensue::core::event::Body;
use ensue::core::{
    Code, Envelope, Error, EventType, Position, Read, Recorded, Store, StoreExt, StreamName, Timestamp,
    Version,
};
use ensue::runtime::blame::{Blame, Blamed};
use ensue::runtime::door::Registry;
use futures_util::TryStreamExt;
use serde::Serialize;
use serde_json::value::RawValue;

/// The merged state of a stream.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Merged {
    stream: StreamName,
    /// Of the last event that is in it; zero before the first.
    pub(crate) version: Version,
    pub(crate) position: Position,
    /// The type of the last event.
    pub(crate) last_type: Option<EventType>,
    /// When the store took the last event.
    pub(crate) time: Option<Timestamp>,
    #[serde(rename = "state", serialize_with = "values")]
    pub(crate) fields: BTreeMap<String, Field>,
}

/// One field with the event that set it.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) value: Box<RawValue>,
    pub(crate) version: Version,
    pub(crate) event_type: EventType,
}

fn values<S: serde::Serializer>(fields: &BTreeMap<String, Field>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(fields.iter().map(|(name, field)| (name, &field.value)))
}

impl Field {
    /// Whether both hold the same JSON value, however it is written.
    pub(crate) fn is_equal(&self, other: &Self) -> bool {
        let value = |field: &Self| serde_json::from_str::<serde_json::Value>(field.value.get()).ok();
        self.value.get() == other.value.get() || value(self) == value(other)
    }
}

/// Up to which event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum At {
    /// All of them.
    End,
    /// This version, inclusive; the stream must have it.
    Version(Version),
    /// What stood in the log up to this position.
    Position(Position),
    /// What the store had taken at this time.
    Time(Timestamp),
}

impl At {
    fn is_past(self, recorded: &Recorded) -> bool {
        match self {
            Self::End | Self::Version(_) => false,
            Self::Position(position) => recorded.position > position,
            Self::Time(time) => recorded.recorded_at > time,
        }
    }
}

impl std::str::FromStr for At {
    type Err = Error;

    fn from_str(input: &str) -> Result<Self, Error> {
        if let Ok(version) = input.parse() {
            return Ok(Self::Version(Version(version)));
        }
        if let Some(Ok(position)) = input.strip_prefix('#').map(str::parse) {
            return Ok(Self::Position(Position(position)));
        }
        input.parse().map(Self::Time).map_err(|_| {
            Error::new(Code::USAGE, format!("`{}` is no version, position or time", input.escape_debug()))
                .with_fix("write a version such as `3`, a position such as `#1234`, or a time such as `2024-01-15T10:30:00Z`")
        })
    }
}

impl Merged {
    fn new(stream: &StreamName) -> Self {
        Self {
            stream: stream.clone(),
            version: Version::ZERO,
            position: Position::ZERO,
            last_type: None,
            time: None,
            fields: BTreeMap::new(),
        }
    }

    fn add(&mut self, recorded: &Recorded) {
        let envelope = &recorded.envelope;
        self.version = recorded.version;
        self.position = recorded.position;
        self.last_type = Some(envelope.event_type.clone());
        self.time = Some(recorded.recorded_at);
        let data = newest(envelope);
        // Data that is no object has no fields to merge; the event still moves the version on.
        let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&data).unwrap_or_default();
        for (name, value) in fields {
            let event_type = envelope.event_type.clone();
            self.fields.insert(name, Field { value, version: recorded.version, event_type });
        }
    }
}

/// The data in the newest schema version that this binary knows of its type; verbatim where it knows none, or an older one.
fn newest(envelope: &Envelope) -> Bytes {
    static KNOWN: LazyLock<Registry> = LazyLock::new(crate::known::registry);
    let upcast = || {
        let registration = KNOWN.get(envelope.event_type.as_str())?;
        let is_older = envelope.schema_version < registration.info.version;
        let mut body: Body = is_older.then(|| serde_json::from_slice(&envelope.data).ok()).flatten()?;
        registration.upcast(envelope.schema_version, &mut body).ok()?;
        serde_json::to_vec(&body).ok().map(Bytes::from)
    };
    upcast().unwrap_or_else(|| envelope.data.clone())
}

/// The state of a stream. `E0414` if the stream, or the version that was asked for, does not exist.
pub(crate) async fn merged(store: &dyn Store, stream: &StreamName, at: At) -> Result<Merged, Error> {
    follow(store, stream, at, |_, _| Ok(())).await
}

/// Every field of the state of a stream, with the event that changed it last. The same errors.
pub(crate) async fn blamed(store: &dyn Store, stream: &StreamName, at: At) -> Result<Vec<Blamed>, Error> {
    let mut blame = Blame::default();
    follow(store, stream, at, |state, recorded| {
        let values: BTreeMap<&String, &RawValue> =
            state.fields.iter().map(|(name, field)| (name, &*field.value)).collect();
        let state = serde_json::to_vec(&values).expect("values of JSON are JSON");
        blame.observe(Some(&state), recorded)
    })
    .await?;
    Ok(blame.into_fields())
}

async fn follow(
    store: &dyn Store,
    stream: &StreamName,
    at: At,
    mut show: impl FnMut(&Merged, &Recorded) -> Result<(), Error>,
) -> Result<Merged, Error> {
    let mut state = Merged::new(stream);
    let mut last = Version::ZERO;
    let to = if let At::Version(version) = at { version } else { Version::MAX };
    let mut events = store.read(Read::stream(stream.clone()).to_version(to));
    while let Some(recorded) = events.try_next().await? {
        if last == Version::ZERO && recorded.version > Version(1) {
            return Err(begins_late(stream, recorded.version));
        }
        last = recorded.version;
        if at.is_past(&recorded) {
            break;
        }
        state.add(&recorded);
        show(&state, &recorded)?;
    }
    if last == Version::ZERO {
        last = self::last(store, stream).await?;
    }
    match at {
        At::Version(version) if version > last => Err(no_version(stream, last, version)),
        At::Position(position) if state.version == Version::ZERO => {
            Err(Error::new(Code::NOT_FOUND, format!("{stream} had no event yet at position {position}")))
        }
        At::Time(time) if state.version == Version::ZERO => {
            Err(Error::new(Code::NOT_FOUND, format!("{stream} had no event yet at {time}")))
        }
        _ => Ok(state),
    }
}

/// A state is made of all events of its stream.
fn begins_late(stream: &StreamName, first: Version) -> Error {
    let message = format!("the log has dropped the events of {stream} before version {first}");
    Error::new(Code::EVENTS_DROPPED, message)
}

/// The version of a stream. `E0414` unless it has an event.
pub(crate) async fn last(store: &dyn Store, stream: &StreamName) -> Result<Version, Error> {
    let last = store.collect(Read::stream(stream.clone()).backward().limit(1)).await?;
    last.first().map(|last| last.version).ok_or_else(|| {
        Error::new(Code::NOT_FOUND, format!("there is no stream {stream}"))
            .with_fix("`ensue stream ls` lists the streams")
    })
}

/// Says that a stream which ends at `last` does not go as far as `version`.
pub(crate) fn no_version(stream: &StreamName, last: Version, version: Version) -> Error {
    Error::new(Code::NOT_FOUND, format!("{stream} is at version {last}; it has no version {version}"))
        .with_fix(format!("use a version up to {last}; `ensue stream read {stream}` lists them"))
}
