//! Attributes as (name, text), in both directions: what every header mapping and the JSON format stand on.
//!
//! `datacontenttype` is not among those that are visited, because every binding has a place of its own for it. The
//! builder takes it, under its name.

use std::fmt::Write;

use bytes::Bytes;
use smol_str::SmolStr;

use super::parsed::Parsed;
use super::time::{self, Short};
use super::{Code, Error, invalid};
use crate::envelope::{Envelope, Trace};
use crate::name::{ContentType, EventId, EventType, Source, StreamName, Tag};

/// The only version of the specification that there is.
pub(super) const SPEC_VERSION: &str = "1.0";

/// Attributes that Ensue knows and that are text; with [`NUMBERS`] these are no names for an extension.
const TEXTS: [&str; 18] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "partitionkey",
    "topic",
    "time",
    "datacontenttype",
    "data",
    "correlationid",
    "causationid",
    "traceparent",
    "tracestate",
    "baggage",
    "tags",
    "recordedat",
    "dataschema",
];

/// Attributes that Ensue knows and that are whole numbers.
const NUMBERS: [&str; 3] = ["schemaversion", "position", "streamversion"];

/// Whether an attribute of this name has a place of its own in an envelope or its stream: an extension of such a name
/// could not be told from the attribute. (`dataschema` is carried as an extension.)
pub fn has_own_place(name: &str) -> bool {
    name != "dataschema" && (TEXTS.contains(&name) || NUMBERS.contains(&name))
}

/// Whether the attribute is text by its definition; an extension may also be a number or a boolean.
pub(super) fn is_text_attribute(name: &str) -> bool {
    TEXTS.contains(&name)
}

/// Whether an extension may have this name. `dataschema` is one, because it is carried untouched.
fn is_free(name: &str) -> bool {
    name == "dataschema" || !(TEXTS.contains(&name) || NUMBERS.contains(&name))
}

/// Calls `visit` with the name and text of each attribute that is set, the required ones first.
///
/// An extension that has the name of an attribute Ensue knows could not be told from it, so it is left out.
pub fn for_each_attribute(envelope: &Envelope, mut visit: impl FnMut(&str, &str)) {
    visit("specversion", SPEC_VERSION);
    visit("id", envelope.id.as_str());
    visit("source", envelope.source.as_str());
    visit("type", envelope.event_type.as_str());
    visit("time", Short::of(envelope.time).as_str());
    visit("schemaversion", Short::of(envelope.schema_version).as_str());
    if let Some(id) = &envelope.correlation {
        visit("correlationid", id.as_str());
    }
    if let Some(id) = &envelope.causation {
        visit("causationid", id.as_str());
    }
    if let Some(trace) = &envelope.trace {
        let parts = [
            ("traceparent", &trace.traceparent),
            ("tracestate", &trace.tracestate),
            ("baggage", &trace.baggage),
        ];
        parts.iter().filter(|(_, text)| !text.is_empty()).for_each(|(name, text)| visit(name, text));
    }
    if !envelope.tags.is_empty() {
        visit("tags", &tags_text(&envelope.tags));
    }
    for (name, value) in &envelope.extensions {
        if is_free(name) {
            visit(name, value);
        }
    }
}

/// Calls `visit` with the attributes that say to which stream an event belongs.
pub fn for_each_stream_attribute(stream: &StreamName, mut visit: impl FnMut(&str, &str)) {
    visit("subject", stream.key.as_str());
    visit("partitionkey", stream.key.as_str());
    visit("topic", stream.topic.as_str());
}

/// Collects attributes one by one, each checked as it comes, into a [`Parsed`].
#[derive(Clone, Default, Debug)]
pub struct Attributes {
    has_spec_version: bool,
    id: Option<EventId>,
    source: Option<Source>,
    event_type: Option<EventType>,
    schema_version: Option<u32>,
    time: Option<jiff::Timestamp>,
    correlation: Option<EventId>,
    causation: Option<EventId>,
    traceparent: Option<SmolStr>,
    tracestate: Option<SmolStr>,
    baggage: Option<SmolStr>,
    tags: Option<Vec<Tag>>,
    content_type: Option<ContentType>,
    subject: Option<SmolStr>,
    partition_key: Option<SmolStr>,
    topic: Option<SmolStr>,
    position: Option<SmolStr>,
    stream_version: Option<SmolStr>,
    recorded_at: Option<SmolStr>,
    extensions: Vec<(SmolStr, SmolStr)>,
}

impl Attributes {
    /// Takes one attribute. Fails (`E0103`) if the value breaks the attribute's rule, the name is no attribute name, or
    /// the attribute was given before; an extension that is given twice is refused at the end.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        match name {
            "specversion" => self.set_spec_version(value),
            "id" => fill(&mut self.id, name, EventId::new(value)),
            "source" => fill(&mut self.source, name, Source::new(value)),
            "type" => fill(&mut self.event_type, name, EventType::new(value)),
            "time" => fill(&mut self.time, name, time::parse(value)),
            "datacontenttype" => fill(&mut self.content_type, name, ContentType::new(value)),
            "schemaversion" => fill(&mut self.schema_version, name, schema_version(value)),
            "correlationid" => fill(&mut self.correlation, name, EventId::new(value)),
            "causationid" => fill(&mut self.causation, name, EventId::new(value)),
            "traceparent" => fill(&mut self.traceparent, name, text(value)),
            "tracestate" => fill(&mut self.tracestate, name, text(value)),
            "baggage" => fill(&mut self.baggage, name, text(value)),
            "tags" => fill(&mut self.tags, name, parse_tags(value)),
            "subject" => fill(&mut self.subject, name, text_not_empty(value)),
            "partitionkey" => fill(&mut self.partition_key, name, text_not_empty(value)),
            "topic" => fill(&mut self.topic, name, text(value)),
            "position" => fill(&mut self.position, name, text(value)),
            "streamversion" => fill(&mut self.stream_version, name, text(value)),
            "recordedat" => fill(&mut self.recorded_at, name, text(value)),
            _ => self.set_extension(name, value),
        }
    }

    fn set_spec_version(&mut self, value: &str) -> Result<(), Error> {
        if value != SPEC_VERSION {
            return Err(invalid("specversion", format_args!("`{}` is not `1.0`", value.escape_debug())));
        }
        if std::mem::replace(&mut self.has_spec_version, true) {
            return Err(twice("specversion"));
        }
        Ok(())
    }

    fn set_extension(&mut self, name: &str, value: &str) -> Result<(), Error> {
        if name.is_empty()
            || name == "data"
            || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        {
            let shown = name.escape_debug();
            return Err(Error::new(
                Code::INVALID_EVENT,
                format!("`{shown}` is not the name of an attribute"),
            )
            .with_fix("names of attributes are lower-case letters and digits, and not `data`"));
        }
        let value = text(value).map_err(|reason| invalid(name, reason))?;
        self.extensions.push((SmolStr::new(name), value));
        Ok(())
    }

    /// The event, with its data verbatim. Fails (`E0103`) if a required attribute is missing.
    pub fn finish(self, data: Bytes) -> Result<Parsed, Error> {
        let missing = [
            ("specversion", !self.has_spec_version),
            ("id", self.id.is_none()),
            ("source", self.source.is_none()),
        ];
        match missing.iter().find(|(_, is_missing)| *is_missing) {
            Some((name, _)) => Err(invalid(name, "it is missing")),
            None => self.finish_plain(data),
        }
    }

    /// As [`Attributes::finish`], for a shape in which only the type is required.
    pub(super) fn finish_plain(mut self, data: Bytes) -> Result<Parsed, Error> {
        let event_type = self.event_type.ok_or_else(|| invalid("type", "it is missing"))?;
        self.extensions.sort_unstable();
        let repeated = self.extensions.array_windows().find(|[(one, _), (next, _)]| one == next);
        if let Some([(name, _), _]) = repeated {
            return Err(twice(name));
        }
        let trace = Trace {
            traceparent: self.traceparent.unwrap_or_default(),
            tracestate: self.tracestate.unwrap_or_default(),
            baggage: self.baggage.unwrap_or_default(),
        };
        Ok(Parsed {
            id: self.id,
            source: self.source,
            event_type,
            schema_version: self.schema_version,
            time: self.time,
            correlation: self.correlation,
            causation: self.causation,
            trace: (trace != Trace::default()).then(|| Box::new(trace)),
            tags: self.tags.unwrap_or_default(),
            extensions: self.extensions,
            content_type: self.content_type.unwrap_or_else(ContentType::json),
            data,
            subject: self.subject,
            partition_key: self.partition_key,
            topic: self.topic,
            position: self.position,
            stream_version: self.stream_version,
            recorded_at: self.recorded_at,
        })
    }

    /// The content type given so far.
    pub(super) fn content_type(&self) -> Option<&ContentType> {
        self.content_type.as_ref()
    }
}

/// Why a value was refused, with what to do where the rule knows.
struct Refusal {
    reason: String,
    fix: Option<String>,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self { reason, fix: None }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { reason: error.message().to_owned(), fix: Some(error.fix().to_owned()) }
    }
}

fn fill<T>(slot: &mut Option<T>, name: &str, value: Result<T, impl Into<Refusal>>) -> Result<(), Error> {
    if slot.is_some() {
        return Err(twice(name));
    }
    let value = value.map_err(|refused| {
        let Refusal { reason, fix } = refused.into();
        let error = invalid(name, reason);
        fix.map_or(error.clone(), |fix| error.with_fix(fix))
    })?;
    *slot = Some(value);
    Ok(())
}

fn twice(name: &str) -> Error {
    invalid(name, "it is given twice")
}

fn text(value: &str) -> Result<SmolStr, String> {
    match value.chars().find(|c| c.is_control()) {
        Some(bad) => Err(format!("it holds the control character {bad:?}")),
        None => Ok(SmolStr::new(value)),
    }
}

fn text_not_empty(value: &str) -> Result<SmolStr, String> {
    if value.is_empty() { Err("it is empty".to_owned()) } else { text(value) }
}

fn schema_version(value: &str) -> Result<u32, String> {
    value
        .parse()
        .ok()
        .filter(|version| *version > 0)
        .ok_or_else(|| format!("`{}` is not a whole number from 1 upward", value.escape_debug()))
}

/// `name:value` joined by `,`; the comma and the percent sign inside a value are percent-encoded.
fn tags_text(tags: &[Tag]) -> String {
    let mut text = String::new();
    for tag in tags {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(tag.name());
        text.push(':');
        for c in tag.value().chars() {
            match c {
                ',' | '%' => write!(text, "%{:02X}", u32::from(c)).expect("writing to a string cannot fail"),
                plain => text.push(plain),
            }
        }
    }
    text
}

fn parse_tags(text: &str) -> Result<Vec<Tag>, Refusal> {
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) = part.split_once(':').ok_or_else(|| format!("`{part}` is not NAME:VALUE"))?;
            let value = percent_decoded(value)?;
            Ok(Tag::new(name, value)?)
        })
        .collect()
}

/// The text behind `%XX`, where the bytes are UTF-8.
pub(super) fn percent_decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let byte = after.split_first_chunk::<2>().and_then(|([high, low], after)| {
            rest = after;
            Some(hex(*high)? << 4 | hex(*low)?)
        });
        bytes.push(
            byte.ok_or_else(|| format!("`{text}` holds a `%` that is not followed by two hex digits"))?,
        );
    }
    String::from_utf8(bytes).map_err(|_| format!("`{text}` is not UTF-8 after percent-decoding"))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
