//! `CloudEvents` 1.0.2 for our [`Envelope`](crate::Envelope): JSON, and the attributes as headers of a protocol.
//!
//! What comes in is a [`Parsed`]: checked, but not yet complete, because its stream, and where it is absent its id and
//! time, are for the caller to fill in. What goes out is always complete.
//!
//! Not here: sending and receiving, and what a type or key means to an application.
//!
//! Invariants: what is written reads back equal; data is carried verbatim; an attribute that is not known travels as an
//! extension; nothing is guessed, a document that breaks a rule is refused with the name of the attribute.

mod attributes;
mod binding;
mod document;
pub mod json;
mod parsed;
mod plain;
mod time;

pub use attributes::{Attributes, for_each_attribute, for_each_stream_attribute, has_own_place};
pub use binding::Binding;
pub use parsed::Parsed;

use bytes::Bytes;

use crate::error::{Code, Error};
use crate::name::{EventId, EventType};
use document::Object;

/// One document that came in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Incoming {
    /// A `CloudEvents` object, or the plain shape `{event_type, event_id, timestamp, data}`.
    Event(Box<Parsed>),
    /// The plain shape `{command_type, command_id, data}`.
    Command(ParsedCommand),
}

/// A command that came in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParsedCommand {
    /// `command_id`; the caller makes one where it is absent.
    pub id: Option<EventId>,
    /// `command_type`.
    pub command_type: EventType,
    /// `data`, verbatim.
    pub data: Bytes,
}

/// Reads one document of any known shape, or an array of them.
///
/// Fails with `E0102` where the text is not JSON, with `E0103` where it is JSON and breaks a rule; in an array the error
/// says which element, counted from 1.
pub fn parse(bytes: &[u8]) -> Result<Vec<Incoming>, Error> {
    let document = document::read(bytes)?;
    if !document.is_array {
        return document.objects.into_iter().map(recognise).collect();
    }
    let numbered = document.objects.into_iter().enumerate();
    numbered.map(|(index, object)| recognise(object).map_err(|error| of_element(&error, index))).collect()
}

/// The member that only this shape has decides which shape it is.
fn recognise(object: Object<'_>) -> Result<Incoming, Error> {
    let has = |name: &str| object.contains(name);
    match (has("specversion"), has("event_type"), has("command_type")) {
        (true, false, false) => json::from_object(object).map(|event| Incoming::Event(Box::new(event))),
        (false, true, false) => plain::event(object).map(|event| Incoming::Event(Box::new(event))),
        (false, false, true) => plain::command(object).map(Incoming::Command),
        (false, false, false) => Err(Error::new(
            Code::INVALID_EVENT,
            "the document has none of `specversion`, `event_type` and `command_type`, so its shape is unknown",
        )
        .with_fix("write CloudEvents JSON with `\"specversion\":\"1.0\"`, or the plain shape with `event_type` and `data`")),
        _ => Err(Error::new(
            Code::INVALID_EVENT,
            "the document has more than one of `specversion`, `event_type` and `command_type`",
        )
        .with_fix("keep the one of the shape that is meant")),
    }
}

fn of_element(error: &Error, index: usize) -> Error {
    Error::new(error.code(), format!("element {} of the array: {}", index + 1, error.message()))
        .with_fix(error.fix())
}

/// The error of an attribute or member that breaks its rule.
fn invalid(name: &str, reason: impl std::fmt::Display) -> Error {
    Error::new(Code::INVALID_EVENT, format!("attribute `{name}`: {reason}"))
}
