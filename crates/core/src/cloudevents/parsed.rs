//! An event that came in: checked, and complete but for what its receiver knows better.

use bytes::Bytes;
use jiff::Timestamp;
use smol_str::SmolStr;

use super::{Error, invalid, time};
use crate::envelope::{Envelope, Recorded, Trace};
use crate::host::Host;
use crate::name::{ContentType, EventId, EventType, Position, Source, StreamName, Tag, Version};

/// An event from outside. The hints are kept as text, because in an event of a foreign system they may mean something
/// else; they are checked where they are used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parsed {
    /// `id`; absent only in the plain shape.
    pub id: Option<EventId>,
    /// `source`; absent only in the plain shape.
    pub source: Option<Source>,
    /// `type`.
    pub event_type: EventType,
    /// `schemaversion`.
    pub schema_version: Option<u32>,
    /// `time`.
    pub time: Option<Timestamp>,
    /// `correlationid`.
    pub correlation: Option<EventId>,
    /// `causationid`.
    pub causation: Option<EventId>,
    /// `traceparent`, `tracestate`, `baggage`.
    pub trace: Option<Box<Trace>>,
    /// `tags`.
    pub tags: Vec<Tag>,
    /// All other attributes, sorted by name; `dataschema` is one of them.
    pub extensions: Vec<(SmolStr, SmolStr)>,
    /// `datacontenttype`; JSON where it is absent, as the JSON format says.
    pub content_type: ContentType,
    /// `data`, verbatim; empty where it is absent.
    pub data: Bytes,
    /// Hint: `subject`, which is the key of the stream where Ensue wrote the event.
    pub subject: Option<SmolStr>,
    /// Hint: `partitionkey`.
    pub partition_key: Option<SmolStr>,
    /// Hint: `topic`, the category of the stream.
    pub topic: Option<SmolStr>,
    /// Hint: `position`, where the event had one.
    pub position: Option<SmolStr>,
    /// Hint: `streamversion`, where the event had one.
    pub stream_version: Option<SmolStr>,
    /// Hint: `recordedat`, where the event had one.
    pub recorded_at: Option<SmolStr>,
}

impl Parsed {
    /// The key that the event itself names: its subject, or else its partition key.
    pub fn key_hint(&self) -> Option<&str> {
        self.subject.as_deref().or(self.partition_key.as_deref())
    }

    /// The stream that the event itself names, if it names topic and key.
    pub fn stream(&self) -> Result<Option<StreamName>, Error> {
        match (self.topic.as_deref(), self.key_hint()) {
            (Some(topic), Some(key)) => StreamName::new(topic, key).map(Some),
            _ => Ok(None),
        }
    }

    /// Fills in what is absent: an id, the time, and `source` for an event that does not say where it is from.
    #[must_use]
    pub fn filled(mut self, host: &Host, source: &Source) -> Self {
        self.id.get_or_insert_with(|| host.event_id());
        self.time.get_or_insert_with(|| host.clock.now());
        self.source.get_or_insert_with(|| source.clone());
        self
    }

    /// The envelope. Fails (`E0103`) if id, source or time are absent; the schema version is 1 where none is given.
    pub fn into_envelope(self) -> Result<Envelope, Error> {
        Ok(Envelope {
            id: present("id", self.id)?,
            source: present("source", self.source)?,
            event_type: self.event_type,
            schema_version: self.schema_version.unwrap_or(1),
            time: present("time", self.time)?,
            correlation: self.correlation,
            causation: self.causation,
            trace: self.trace,
            tags: self.tags,
            extensions: self.extensions,
            content_type: self.content_type,
            data: self.data,
        })
    }

    /// The event as the log held it that wrote it. Fails (`E0103`) if it was not written from a log.
    pub fn into_recorded(self) -> Result<Recorded, Error> {
        let stream = self.stream()?.ok_or_else(|| invalid("topic", "topic or subject is missing"))?;
        let recorded_at = present("recordedat", self.recorded_at.as_deref())?;
        Ok(Recorded {
            position: Position(number("position", self.position.as_deref())?),
            stream,
            version: Version(number("streamversion", self.stream_version.as_deref())?),
            recorded_at: time::parse(recorded_at).map_err(|reason| invalid("recordedat", reason))?,
            envelope: self.into_envelope()?,
        })
    }
}

fn present<T>(name: &str, value: Option<T>) -> Result<T, Error> {
    value.ok_or_else(|| invalid(name, "it is missing"))
}

fn number(name: &str, text: Option<&str>) -> Result<u64, Error> {
    let text = present(name, text)?;
    text.parse().map_err(|_| invalid(name, format_args!("`{}` is not a whole number", text.escape_debug())))
}
