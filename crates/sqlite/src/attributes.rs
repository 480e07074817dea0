//! Envelopes as rows: the attributes as one JSON object of texts, named as `CloudEvents` names them; the body verbatim.
//!
//! The event type has a column of its own and the content type is left out where it is JSON.

use bytes::Bytes;
use ensue_core::cloudevents::{Attributes, for_each_attribute};
use ensue_core::{
    Code, ContentType, Envelope, Error, EventType, Position, Recorded, StreamName, Timestamp, Version,
};
use rusqlite::Row;
use rusqlite::types::{FromSql, ValueRef};
use serde_json::{Map, Value};

use crate::error;

/// Attributes that are not in the metadata: one never changes, the other is a column.
const ELSEWHERE: [&str; 2] = ["specversion", "type"];

/// The attributes of an event as a JSON text.
pub(crate) fn metadata(envelope: &Envelope) -> String {
    let mut attributes = Map::new();
    for_each_attribute(envelope, |name, text| {
        if !ELSEWHERE.contains(&name) {
            attributes.insert(name.to_owned(), Value::from(text));
        }
    });
    if envelope.content_type != ContentType::json() {
        attributes.insert("datacontenttype".to_owned(), Value::from(envelope.content_type.as_str()));
    }
    Value::Object(attributes).to_string()
}

/// The body as a column: text where it is JSON, so that SQL can look into it, and else a blob. The bytes are the same.
pub(crate) fn data(envelope: &Envelope) -> ValueRef<'_> {
    let is_text = envelope.content_type.is_json() && std::str::from_utf8(&envelope.data).is_ok();
    if is_text { ValueRef::Text(&envelope.data) } else { ValueRef::Blob(&envelope.data) }
}

/// The columns that [`recorded`] reads, of the table of events under the name `e`.
pub(crate) const COLUMNS: &str =
    "e.position, e.topic, e.key, e.version, e.event_type, e.recorded_at, e.metadata, e.data";

/// The event of a row of [`COLUMNS`].
pub(crate) fn recorded(row: &Row<'_>) -> Result<Recorded, Error> {
    let position = Position(number(column(row, 0)?));
    envelope(row).and_then(|envelope| {
        let (topic, key): (Box<str>, Box<str>) = (column(row, 1)?, column(row, 2)?);
        Ok(Recorded {
            position,
            stream: StreamName::new(topic, key)?,
            version: Version(number(column(row, 3)?)),
            recorded_at: timestamp(column(row, 5)?)?,
            envelope,
        })
    })
    .map_err(|cause| {
        let message = format!("the row of the event at position {position} does not hold an event: {}", cause.message());
        Error::new(Code::CORRUPT, message)
            .with_fix("restore the row, or the file, from a backup: the tables of Ensue are not changed by hand")
            .with_source(cause)
    })
}

fn envelope(row: &Row<'_>) -> Result<Envelope, Error> {
    let (event_type, metadata): (Box<str>, Box<str>) = (column(row, 4)?, column(row, 6)?);
    let metadata: Map<String, Value> = serde_json::from_str(&metadata)
        .map_err(|cause| Error::new(Code::CORRUPT, "the metadata is no JSON object").with_source(cause))?;
    let mut attributes = Attributes::default();
    attributes.set("specversion", "1.0")?;
    attributes.set("type", EventType::new(event_type)?.as_str())?;
    for (name, value) in &metadata {
        match value {
            Value::String(text) => attributes.set(name, text)?,
            other => attributes.set(name, &other.to_string())?,
        }
    }
    attributes.finish(body(row)?)?.into_envelope()
}

fn body(row: &Row<'_>) -> Result<Bytes, Error> {
    match row.get_ref(7).map_err(unlike_the_schema)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(Bytes::copy_from_slice(bytes)),
        other => {
            Err(Error::new(Code::CORRUPT, format!("the data is {}, not a text or blob", other.data_type())))
        }
    }
}

/// A column of a row of ours. Fails where the tables were changed by hand.
pub(crate) fn column<T: FromSql>(row: &Row<'_>, place: usize) -> Result<T, Error> {
    row.get(place).map_err(unlike_the_schema)
}

fn unlike_the_schema(cause: rusqlite::Error) -> Error {
    error::of("a column is not as the schema says", cause)
}

/// A count that SQLite keeps as a signed number.
pub(crate) fn number(signed: i64) -> u64 {
    u64::try_from(signed).unwrap_or_default()
}

/// A count as SQLite keeps it. What is past its range is past every row.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The time of lapse as it is kept: a text that sorts as the times do.
pub(crate) fn lapse(time: Timestamp) -> String {
    format!("{time:.9}")
}

/// The time of record of a column, which counts microseconds, as other stores do.
pub(crate) fn timestamp(microseconds: i64) -> Result<Timestamp, Error> {
    Timestamp::from_microsecond(microseconds)
        .map_err(|cause| Error::new(Code::CORRUPT, "a time is out of range").with_source(cause))
}
