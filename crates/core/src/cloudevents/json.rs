//! The JSON format of `CloudEvents`, structured and in batches.
//!
//! JSON data is written as it is, text as a string, everything else as `data_base64`. White space around JSON data is
//! not part of its value and is dropped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::value::RawValue;

use super::attributes::{Attributes, for_each_attribute, for_each_stream_attribute};
use super::document::{Document, Object, attribute_text, read, string};
use super::time::Short;
use super::{Error, Parsed, invalid, of_element};
use crate::envelope::{Envelope, Recorded};
use crate::error::Code;
use crate::name::{ContentType, StreamName};

/// The media type of one event.
pub const MEDIA_TYPE: &str = "application/cloudevents+json";
/// The media type of a batch.
pub const BATCH_MEDIA_TYPE: &str = "application/cloudevents-batch+json";

/// Reads one event.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Error> {
    let Document { objects, is_array } = read(bytes)?;
    match (objects.into_iter().next(), is_array) {
        (Some(object), false) => from_object(object),
        _ => Err(Error::new(Code::INVALID_EVENT, "the document is an array, where one event is expected")),
    }
}

/// Reads a batch: an array of events, which may be empty. An error says which element, counted from 1.
pub fn parse_batch(bytes: &[u8]) -> Result<Vec<Parsed>, Error> {
    let Document { objects, is_array } = read(bytes)?;
    if !is_array {
        return Err(Error::new(
            Code::INVALID_EVENT,
            "the document is one object, where an array of events is expected",
        ));
    }
    let numbered = objects.into_iter().enumerate();
    numbered.map(|(index, object)| from_object(object).map_err(|error| of_element(&error, index))).collect()
}

/// Refuses what is not JSON (`E0102`) or repeats a member in an object (`E0103`), with line and column.
pub fn check(bytes: &[u8]) -> Result<(), Error> {
    super::document::check(bytes)
}

/// Adds the event as a JSON object to `out`; where the stream is known it is told.
pub fn write(envelope: &Envelope, stream: Option<&StreamName>, out: &mut Vec<u8>) {
    begin(envelope, stream, out);
    end(envelope, out);
}

/// Adds the recorded event as a JSON object to `out`, with `position`, `streamversion`, `topic` and `recordedat`, so
/// that [`Parsed::into_recorded`] reads it back.
pub fn write_recorded(recorded: &Recorded, out: &mut Vec<u8>) {
    begin(&recorded.envelope, Some(&recorded.stream), out);
    number("position", recorded.position.0, out);
    number("streamversion", recorded.version.0, out);
    member("recordedat", Short::of(recorded.recorded_at).as_str(), out);
    end(&recorded.envelope, out);
}

/// Adds the recorded event to `out` as one line. JSON data with line breaks in it gets spaces in their place, which
/// changes no value: inside JSON strings a line break is always escaped.
pub fn write_line(recorded: &Recorded, out: &mut Vec<u8>) {
    let start = out.len();
    write_recorded(recorded, out);
    for byte in out.iter_mut().skip(start).filter(|byte| matches!(**byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    out.push(b'\n');
}

/// Adds a batch to `out`: an array, with `each` adding one event.
pub fn write_batch<T>(events: &[T], out: &mut Vec<u8>, mut each: impl FnMut(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (index, event) in events.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        each(event, out);
    }
    out.push(b']');
}

/// Reads the members of one object.
pub(super) fn from_object(object: Object<'_>) -> Result<Parsed, Error> {
    let mut attributes = Attributes::default();
    let (mut data, mut binary) = (None, None);
    for (member, value) in object.0 {
        match member.as_ref() {
            "data" => data = Some(value),
            "data_base64" => binary = Some(value).filter(|value| value.get() != "null"),
            name => {
                if let Some(text) = attribute_text(name, value)? {
                    attributes.set(name, &text)?;
                }
            }
        }
    }
    let data = match (data, binary) {
        (Some(_), Some(_)) => return Err(invalid("data", "`data` and `data_base64` exclude each other")),
        (Some(value), None) => read_data(value, attributes.content_type())?,
        (None, Some(value)) => read_binary(value)?,
        (None, None) => Bytes::new(),
    };
    attributes.finish(data)
}

fn read_data(value: &RawValue, content_type: Option<&ContentType>) -> Result<Bytes, Error> {
    let raw = value.get();
    match content_type {
        Some(other) if !other.is_json() => {
            if !raw.starts_with('"') {
                return Err(invalid(
                    "data",
                    format_args!("the content type is {other}, so it must be a string"),
                )
                .with_fix("write text as a JSON string and other bytes as `data_base64`"));
            }
            Ok(Bytes::from(string(raw)?.into_owned()))
        }
        _ => Ok(Bytes::copy_from_slice(raw.as_bytes())),
    }
}

fn read_binary(value: &RawValue) -> Result<Bytes, Error> {
    if !value.get().starts_with('"') {
        return Err(invalid("data_base64", "it is not a string"));
    }
    let decoded = BASE64.decode(string(value.get())?.as_bytes());
    decoded
        .map(Bytes::from)
        .map_err(|cause| invalid("data_base64", format_args!("it is not Base64: {cause}")))
}

fn begin(envelope: &Envelope, stream: Option<&StreamName>, out: &mut Vec<u8>) {
    out.reserve(envelope.size() + 256);
    out.push(b'{');
    for_each_attribute(envelope, |name, value| match name {
        "schemaversion" => number(name, envelope.schema_version, out),
        _ => member(name, value, out),
    });
    if let Some(stream) = stream {
        for_each_stream_attribute(stream, |name, value| member(name, value, out));
    }
    member("datacontenttype", envelope.content_type.as_str(), out);
}

fn end(envelope: &Envelope, out: &mut Vec<u8>) {
    if !envelope.data.is_empty() {
        write_data(envelope, out);
    }
    out.push(b'}');
}

fn write_data(envelope: &Envelope, out: &mut Vec<u8>) {
    if envelope.content_type.is_json() {
        if let Ok(value) = serde_json::from_slice::<&RawValue>(&envelope.data) {
            begin_member("data", out);
            out.extend_from_slice(value.get().as_bytes());
            return;
        }
    } else if is_text(&envelope.content_type)
        && let Ok(text) = std::str::from_utf8(&envelope.data)
    {
        return member("data", text, out);
    }
    member("data_base64", &BASE64.encode(&envelope.data), out);
}

/// Whether data of this type is shown as text where its bytes are UTF-8.
fn is_text(content_type: &ContentType) -> bool {
    let essence = content_type.as_str().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.starts_with("text/") || essence == "application/xml" || essence.ends_with("+xml")
}

fn begin_member(name: &str, out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    quoted(name, out);
    out.push(b':');
}

fn member(name: &str, text: &str, out: &mut Vec<u8>) {
    begin_member(name, out);
    quoted(text, out);
}

fn number(name: &str, value: impl std::fmt::Display, out: &mut Vec<u8>) {
    begin_member(name, out);
    out.extend_from_slice(Short::of(value).as_str().as_bytes());
}

fn quoted(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("text always encodes, and a vector takes every byte");
}
