//! Envelopes as rows: the attributes as one JSON object of texts, named as `CloudEvents` names them; the body verbatim.
//!
//! The event type has a column of its own and the content type is left out where it is JSON.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use ensue_core::cloudevents::{Attributes, for_each_attribute};
use ensue_core::{
    Code, ContentType, Envelope, Error, EventType, Position, Recorded, StreamName, Tag, Timestamp, Version,
};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio_postgres::Row;

/// Attributes that are not in the metadata: one never changes, the other is a column.
const ELSEWHERE: [&str; 2] = ["specversion", "type"];

/// The attributes of an event as a JSON text.
pub(crate) fn metadata(envelope: &Envelope) -> String {
    attributes(envelope).to_string()
}

/// The attributes of an event as a JSON object.
pub(crate) fn attributes(envelope: &Envelope) -> Value {
    let mut attributes = Map::new();
    for_each_attribute(envelope, |name, text| {
        if !ELSEWHERE.contains(&name) {
            attributes.insert(name.to_owned(), Value::from(text));
        }
    });
    if envelope.content_type != ContentType::json() {
        attributes.insert("datacontenttype".to_owned(), Value::from(envelope.content_type.as_str()));
    }
    Value::Object(attributes)
}

/// A tag as it stands in the table of tags: percent sign and comma are encoded, as in the attribute `tags`.
pub(crate) fn tag(tag: &Tag) -> String {
    format!("{}:{}", tag.name(), tag.value().replace('%', "%25").replace(',', "%2C"))
}

/// The columns that [`recorded`] reads, of the table `events` under the name `e`.
pub(crate) const COLUMNS: &str =
    "e.position, e.topic, e.key, e.version, e.event_type, e.recorded_at, e.metadata::text, e.data";

/// The event of a row of [`COLUMNS`].
pub(crate) fn recorded(row: &Row) -> Result<Recorded, Error> {
    let position = Position(number(column(row, 0)?));
    let stream = StreamName::new(column::<&str>(row, 1)?, column::<&str>(row, 2)?);
    let envelope = envelope(column(row, 4)?, column(row, 6)?, Bytes::copy_from_slice(column(row, 7)?));
    let unreadable = |cause: Error| {
        let message = format!("the row of the event at position {position} does not hold an event");
        Error::new(Code::CORRUPT, message).with_source(cause)
    };
    Ok(Recorded {
        position,
        stream: stream.map_err(unreadable)?,
        version: Version(number(column(row, 3)?)),
        recorded_at: timestamp(column(row, 5)?)?,
        envelope: envelope.map_err(unreadable)?,
    })
}

fn envelope(event_type: &str, metadata: &str, data: Bytes) -> Result<Envelope, Error> {
    let metadata: BTreeMap<String, &RawValue> = serde_json::from_str(metadata)
        .map_err(|cause| Error::new(Code::CORRUPT, "the metadata is no JSON object").with_source(cause))?;
    let mut attributes = Attributes::default();
    attributes.set("specversion", "1.0")?;
    attributes.set("type", EventType::new(event_type)?.as_str())?;
    for (name, value) in &metadata {
        match serde_json::from_str::<String>(value.get()) {
            Ok(text) => attributes.set(name, &text)?,
            // A number or a truth value, verbatim: a number may have more digits than any type of ours.
            Err(_) => attributes.set(name, value.get())?,
        }
    }
    attributes.finish(data)?.into_envelope()
}

/// A column of a row of ours. Fails where the schema was changed by hand.
pub(crate) fn column<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    place: usize,
) -> Result<T, Error> {
    row.try_get(place).map_err(|cause| {
        let message = format!("column {place} of a row is not as the schema says: {cause}");
        Error::new(Code::CORRUPT, message).with_source(cause)
    })
}

/// A count that the server keeps as a signed number.
pub(crate) fn number(signed: i64) -> u64 {
    u64::try_from(signed).unwrap_or_default()
}

/// A count as the server keeps it. What is past its range is past every row.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A time as the driver wants it.
pub(crate) fn system_time(time: Timestamp) -> SystemTime {
    SystemTime::try_from(time).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A time of the server, which counts microseconds.
pub(crate) fn timestamp(time: SystemTime) -> Result<Timestamp, Error> {
    Timestamp::try_from(time)
        .map_err(|cause| Error::new(Code::CORRUPT, "a time is out of range").with_source(cause))
}
