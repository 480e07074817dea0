//! How an event is printed: the CloudEvents object of `docs/cli.md`, or a row.

use ensue::core::{Envelope, Recorded, Timestamp, cloudevents};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::output::{Row, short};

/// Most characters of an event's data in a row.
const DATA_CHARS_MAX: usize = 72;

/// An event of the log as it is printed.
pub(crate) struct Shown<'a>(pub(crate) &'a Recorded);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        raw(self.0).serialize(serializer)
    }
}

impl Row for Shown<'_> {
    const HEADINGS: &'static [&'static str] = &["position", "time", "stream", "type", "data"];

    fn cells(&self) -> Vec<String> {
        let Recorded { position, stream, envelope, .. } = self.0;
        vec![
            position.to_string(),
            time(envelope.time),
            stream.to_string(),
            envelope.event_type.to_string(),
            data(envelope, DATA_CHARS_MAX),
        ]
    }
}

/// The event as a CloudEvents object on one line, its data verbatim.
fn raw(recorded: &Recorded) -> Box<RawValue> {
    let mut line = Vec::new();
    cloudevents::json::write_line(recorded, &mut line);
    let text = String::from_utf8(line).expect("JSON is UTF-8");
    RawValue::from_string(text.trim_end().to_owned()).expect("an event is written as JSON")
}

/// A time to the millisecond.
pub(crate) fn time(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// The data on one line, cut to a length.
pub(crate) fn data(envelope: &Envelope, chars_max: usize) -> String {
    match std::str::from_utf8(&envelope.data) {
        Ok(text) => short(text, chars_max),
        Err(_) => format!("({} bytes of {})", envelope.data.len(), envelope.content_type),
    }
}

/// Everything about one event, in lines of name and value.
pub(crate) fn page(recorded: &Recorded) -> String {
    let Recorded { position, stream, version, recorded_at, envelope } = recorded;
    let mut lines = vec![
        ("type", format!("{} v{}", envelope.event_type, envelope.schema_version)),
        ("id", envelope.id.to_string()),
        ("source", envelope.source.to_string()),
        ("stream", format!("{stream} at version {version}")),
        ("position", position.to_string()),
        ("time", time(envelope.time)),
        ("recorded", time(*recorded_at)),
        ("flow", envelope.flow().to_string()),
    ];
    lines.extend(envelope.causation.iter().map(|id| ("caused by", id.to_string())));
    lines.extend(envelope.trace.iter().map(|trace| ("trace", trace.traceparent.to_string())));
    lines.extend(envelope.tags.iter().map(|tag| ("tag", tag.to_string())));
    lines.extend(envelope.extensions.iter().map(|(name, value)| ("attribute", format!("{name}={value}"))));
    let mut page: Vec<String> =
        lines.iter().map(|(name, text)| format!("{name:<10} {}", short(text, 1_000))).collect();
    page.push(pretty(envelope));
    page.join("\n")
}

/// The data as a person reads it.
fn pretty(envelope: &Envelope) -> String {
    let value = serde_json::from_slice::<serde_json::Value>(&envelope.data);
    match value.ok().filter(|_| envelope.content_type.is_json()) {
        Some(value) => format!("{value:#}"),
        None => data(envelope, 10_000),
    }
}
