//! The envelope: what every event and command carries besides its body, as `CloudEvents` 1.0 names it.

use bytes::Bytes;
use jiff::Timestamp;
use smol_str::SmolStr;

use crate::name::{ContentType, EventId, EventType, Position, Source, StreamName, Tag, Version};

/// An event (or a command in flight) with its attributes. The stream it goes to stands beside it, in an
/// [`Append`](crate::Append) before it is stored and in a [`Recorded`] after.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// `id`; (source, id) is unique.
    pub id: EventId,
    /// `source`: the application's name, or a foreign system's URI.
    pub source: Source,
    /// `type`.
    pub event_type: EventType,
    /// `schemaversion`: from 1 upward.
    pub schema_version: u32,
    /// `time`: wall clock where the event was made. Never used for order.
    pub time: Timestamp,
    /// `correlationid`: the flow this belongs to, which is the id of the event or command that began it.
    pub correlation: Option<EventId>,
    /// `causationid`: the event or command that caused this one.
    pub causation: Option<EventId>,
    /// `traceparent`, `tracestate` and `baggage`, as plain text, captured at append.
    pub trace: Option<Box<Trace>>,
    /// By what the event can be found besides its type and stream.
    pub tags: Vec<Tag>,
    /// Attributes that Ensue does not know, carried along: sorted by name, names in lower case.
    pub extensions: Vec<(SmolStr, SmolStr)>,
    /// `datacontenttype`.
    pub content_type: ContentType,
    /// `data`, carried verbatim.
    pub data: Bytes,
}

/// W3C trace context, kept also when unsampled.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Trace {
    /// The `traceparent` header.
    pub traceparent: SmolStr,
    /// The `tracestate` header; may be empty.
    pub tracestate: SmolStr,
    /// The `baggage` header; may be empty.
    pub baggage: SmolStr,
}

impl Envelope {
    /// The flow this event belongs to: its correlation id, or its own id where it began the flow.
    pub fn flow(&self) -> &EventId {
        self.correlation.as_ref().unwrap_or(&self.id)
    }

    /// Bytes this envelope takes in memory and, about, on disk. The size limit of a store counts this.
    pub fn size(&self) -> usize {
        let attributes = self.id.as_str().len() + self.source.as_str().len() + self.event_type.as_str().len();
        let ids = [&self.correlation, &self.causation]
            .into_iter()
            .flatten()
            .map(|id| id.as_str().len())
            .sum::<usize>();
        let tags = self.tags.iter().map(|tag| tag.name().len() + tag.value().len()).sum::<usize>();
        let extensions = self.extensions.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        attributes + ids + tags + extensions + self.data.len()
    }
}

/// An event as the log holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// Place in the whole log.
    pub position: Position,
    /// The stream it was appended to.
    pub stream: StreamName,
    /// Place in that stream.
    pub version: Version,
    /// When the store took it; never goes back from one position to the next.
    pub recorded_at: Timestamp,
    /// The event itself.
    pub envelope: Envelope,
}
