//! The plain shapes, as people write them in articles: `{event_type, event_id, timestamp, data}` and
//! `{command_type, command_id, data}`.
//!
//! Type and data are required, the rest is filled in by the receiver. A member of another name is refused, because it
//! would be lost.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::attributes::Attributes;
use super::document::{Object, attribute_text};
use super::{Code, Error, Parsed, ParsedCommand, invalid};
use crate::name::{EventId, EventType};

/// Reads the plain shape of an event.
pub(super) fn event(object: Object<'_>) -> Result<Parsed, Error> {
    let mut attributes = Attributes::default();
    let mut data = None;
    for (member, value) in object.0 {
        let attribute = match member.as_ref() {
            "event_type" => "type",
            "event_id" => "id",
            "timestamp" => "time",
            "data" => {
                data = Some(verbatim(value));
                continue;
            }
            other => return Err(unknown(other, "`event_type`, `event_id`, `timestamp` and `data`")),
        };
        if let Some(text) = member_text(&member, value)? {
            attributes.set(attribute, &text).map_err(|error| renamed(&error, attribute, &member))?;
        }
    }
    attributes
        .finish_plain(data.ok_or_else(|| missing("data"))?)
        .map_err(|error| renamed(&error, "type", "event_type"))
}

/// Reads the plain shape of a command.
pub(super) fn command(object: Object<'_>) -> Result<ParsedCommand, Error> {
    let (mut command_type, mut id, mut data) = (None, None, None);
    for (member, value) in object.0 {
        match member.as_ref() {
            "command_type" => command_type = member_text(&member, value)?.map(EventType::new),
            "command_id" => id = member_text(&member, value)?.map(EventId::new),
            "data" => data = Some(verbatim(value)),
            other => return Err(unknown(other, "`command_type`, `command_id` and `data`")),
        }
    }
    let command_type = command_type.ok_or_else(|| missing("command_type"))?;
    Ok(ParsedCommand {
        id: id.transpose().map_err(|error| of_member("command_id", &error))?,
        command_type: command_type.map_err(|error| of_member("command_type", &error))?,
        data: data.ok_or_else(|| missing("data"))?,
    })
}

fn verbatim(value: &RawValue) -> Bytes {
    Bytes::copy_from_slice(value.get().as_bytes())
}

/// The members of the plain shapes are text, never numbers.
fn member_text<'a>(member: &str, value: &'a RawValue) -> Result<Option<std::borrow::Cow<'a, str>>, Error> {
    if value.get().starts_with('"') || value.get() == "null" {
        return attribute_text(member, value);
    }
    Err(invalid(
        member,
        format_args!("it is not text, but {}", value.get().chars().take(40).collect::<String>()),
    ))
}

fn missing(member: &str) -> Error {
    invalid(member, "it is missing")
}

fn of_member(member: &str, error: &Error) -> Error {
    invalid(member, error.message()).with_fix(error.fix())
}

/// The same error under the name that the document uses.
fn renamed(error: &Error, attribute: &str, member: &str) -> Error {
    let message =
        error.message().replacen(&format!("attribute `{attribute}`"), &format!("attribute `{member}`"), 1);
    Error::new(error.code(), message).with_fix(error.fix())
}

fn unknown(member: &str, known: &str) -> Error {
    let shown = member.escape_debug();
    Error::new(Code::INVALID_EVENT, format!("the member `{shown}` is not part of the plain shape"))
        .with_fix(format!("the plain shape has {known}; write CloudEvents JSON to carry more"))
}
