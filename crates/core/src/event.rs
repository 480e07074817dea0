//! Typed events, sets of them, and drafts: the bridge between Rust types and envelopes.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::envelope::{Envelope, Recorded};
use crate::error::{Code, Error};
use crate::later::Later;
use crate::name::{ContentType, EventType, StreamName, Tag};

/// What is known of an event type without having one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EventInfo {
    /// The `type` attribute.
    pub event_type: &'static str,
    /// The newest schema version.
    pub version: u32,
    /// The category of its streams.
    pub topic: &'static str,
    /// The path of the field in `data` that holds the stream's key, such as `order_id`; empty where the key is computed.
    pub key_field: &'static str,
}

/// A fact in the past tense. Usually derived: `#[derive(Event)]` with `#[event(topic = "Order", key = order_id)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    note = "put `#[derive(Event, Serialize, Deserialize)]` on the struct"
)]
pub trait Event: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What is known of the type.
    const INFO: EventInfo;

    /// The business id: which stream of the topic this event belongs to.
    fn key(&self) -> String;

    /// By what it can be found besides, as (name, value).
    fn tags(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Makes of a body of schema version `from` one of version `from + 1`. Called for each version from that of the stored
    /// event up to [`EventInfo::version`], wherever a stored event is read; what is stored is never rewritten. Without it
    /// an older body is taken to fit as it is.
    ///
    /// In the derive: `#[event(version = 3, upcast(1 = from_v1, 2 = from_v2))]` with `fn from_v1(body: &mut event::Body)`.
    fn upcast(_from: u32, _body: &mut Body) {}

    /// Rules between the fields, checked where an event enters from outside. The error says field and expectation.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }
}

/// A closed set of event types, such as those of an aggregate. Derived on an enum whose variants each hold an event.
pub trait EventSet: Sized + Send + Sync + 'static {
    /// The types in the set.
    fn types() -> Vec<EventInfo>;

    /// Decodes a stored event. A type outside the set is `E0104`, a known type with a bad body `E0105`.
    fn decode(envelope: &Envelope) -> Result<Self, Error>;

    /// The event as it goes into the log.
    fn draft(&self) -> Result<Draft, Error>;
}

/// The body of an event as JSON: what an upcast works on.
pub type Body = serde_json::Map<String, serde_json::Value>;

/// An event type that the reader does not know: type and data, untouched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unknown {
    /// The `type` attribute.
    pub event_type: EventType,
    /// The body, verbatim.
    pub data: Bytes,
}

/// An event that is about to be appended: everything its type knows, before id, time and cause are filled in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    /// Where it goes.
    pub stream: StreamName,
    /// The `type` attribute.
    pub event_type: EventType,
    /// The schema version of the body.
    pub schema_version: u32,
    /// By what it can be found.
    pub tags: Vec<Tag>,
    /// The body as JSON.
    pub data: Bytes,
    /// When it is appended, if not at once.
    pub later: Option<Later>,
}

impl Draft {
    /// Turns a typed event into its draft. Fails if its key or tags break a rule of names.
    pub fn of<E: Event>(event: &E) -> Result<Self, Error> {
        let Place { stream, tags } = Place::of(event)?;
        Ok(Self {
            stream,
            event_type: EventType::new(E::INFO.event_type)?,
            schema_version: E::INFO.version,
            tags,
            data: to_json(E::INFO.event_type, event)?,
            later: None,
        })
    }
}

/// Where an event goes and by what it is found there, as its type knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Where it goes.
    pub stream: StreamName,
    /// By what it can be found.
    pub tags: Vec<Tag>,
}

impl Place {
    /// The place of a typed event. Fails if its key or tags break a rule of names.
    pub fn of<E: Event>(event: &E) -> Result<Self, Error> {
        Ok(Self {
            stream: StreamName::new(E::INFO.topic, event.key())?,
            tags: event.tags().iter().map(|(name, value)| Tag::new(name, value)).collect::<Result<_, _>>()?,
        })
    }
}

/// Decodes a stored event, bringing an older body up to the newest version first. This is the one way from stored data
/// to an [`Event`]: aggregates, reactions, projections, sagas and dead letters all pass through here.
///
/// Errors: `E0105` if the body does not fit the type, `E0110` if its version is newer than this program.
pub fn decode_event<E: Event>(envelope: &Envelope) -> Result<E, Error> {
    if envelope.schema_version == E::INFO.version {
        return decode_body(envelope);
    }
    check_json(envelope)?;
    decode_version(envelope.schema_version, &envelope.data)
        .map_err(|error| Error::new(error.code(), format!("{} (id {})", error.message(), envelope.id)))
}

/// Like [`decode_event`], for a body that is kept without its envelope.
pub fn decode_version<E: Event>(version: u32, data: &[u8]) -> Result<E, Error> {
    let info = E::INFO;
    let failed = |cause: serde_json::Error| {
        let message = format!("{} v{version} does not decode as v{}: {cause}", info.event_type, info.version);
        Error::new(Code::INVALID_BODY, message)
    };
    if version == info.version {
        return serde_json::from_slice(data).map_err(failed);
    }
    let mut body: Body = serde_json::from_slice(data).map_err(failed)?;
    upcast::<E>(version, &mut body)?;
    E::deserialize(serde_json::Value::Object(body)).map_err(failed)
}

/// Brings a body from a version up to the newest.
pub fn upcast<E: Event>(version: u32, body: &mut Body) -> Result<(), Error> {
    if version > E::INFO.version {
        return Err(Error::new(
            Code::NEWER_SCHEMA,
            format!("{} v{version} is newer than v{}", E::INFO.event_type, E::INFO.version),
        ));
    }
    (version.max(1)..E::INFO.version).for_each(|from| E::upcast(from, body));
    Ok(())
}

fn check_json(envelope: &Envelope) -> Result<(), Error> {
    if envelope.content_type.is_json() {
        return Ok(());
    }
    let Envelope { event_type, schema_version, content_type, .. } = envelope;
    Err(Error::new(Code::INVALID_BODY, format!("{event_type} v{schema_version} is {content_type}, not JSON")))
}

/// Decodes a body that has no versions of its own; events go through [`decode_event`]. The error names type, version and
/// where in the document it went wrong.
pub fn decode_body<T: DeserializeOwned>(envelope: &Envelope) -> Result<T, Error> {
    check_json(envelope)?;
    serde_json::from_slice(&envelope.data).map_err(|cause| {
        Error::new(
            Code::INVALID_BODY,
            format!(
                "{} v{} (id {}) does not decode: {cause}",
                envelope.event_type, envelope.schema_version, envelope.id
            ),
        )
    })
}

/// Encodes a body; `what` names it in the error.
pub fn to_json<T: Serialize>(what: &str, body: &T) -> Result<Bytes, Error> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|cause| Error::new(Code::INVALID_BODY, format!("{what} does not encode as JSON: {cause}")))
}

/// The error of an [`EventSet`] that is handed a type outside of it.
pub fn not_in_set(envelope: &Envelope, types: &[EventInfo]) -> Error {
    let known: Vec<&str> = types.iter().map(|info| info.event_type).collect();
    Error::new(Code::UNKNOWN_TYPE, format!("{} is none of {}", envelope.event_type, known.join(", ")))
}

impl<E: Event> EventSet for E {
    fn types() -> Vec<EventInfo> {
        vec![E::INFO]
    }

    fn decode(envelope: &Envelope) -> Result<Self, Error> {
        if envelope.event_type.as_str() == E::INFO.event_type {
            decode_event(envelope)
        } else {
            Err(not_in_set(envelope, &Self::types()))
        }
    }

    fn draft(&self) -> Result<Draft, Error> {
        Draft::of(self)
    }
}

impl Recorded {
    /// Decodes the event into a set it belongs to.
    pub fn decode<S: EventSet>(&self) -> Result<S, Error> {
        S::decode(&self.envelope)
    }
}

impl Draft {
    /// The content type of every draft.
    pub fn content_type() -> ContentType {
        ContentType::json()
    }
}
