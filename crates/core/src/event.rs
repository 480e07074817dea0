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
        Ok(Self {
            stream: StreamName::new(E::INFO.topic, event.key())?,
            event_type: EventType::new(E::INFO.event_type)?,
            schema_version: E::INFO.version,
            tags: event.tags().iter().map(|(name, value)| Tag::new(name, value)).collect::<Result<_, _>>()?,
            data: to_json(E::INFO.event_type, event)?,
            later: None,
        })
    }
}

/// Decodes the body of `envelope`; the error names type, version and where in the document it went wrong.
pub fn decode_body<T: DeserializeOwned>(envelope: &Envelope) -> Result<T, Error> {
    if !envelope.content_type.is_json() {
        return Err(Error::new(
            Code::INVALID_BODY,
            format!(
                "{} v{} is {}, not JSON",
                envelope.event_type, envelope.schema_version, envelope.content_type
            ),
        ));
    }
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
            decode_body(envelope)
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
