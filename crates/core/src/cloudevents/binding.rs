//! Binary content mode: attributes as headers of a protocol, data as its body.
//!
//! Each binding has a prefix, a rule for what a header may hold, and a place of its own for the content type.

use std::borrow::Cow;
use std::fmt::Write;

use bytes::Bytes;

use super::attributes::{Attributes, for_each_attribute, for_each_stream_attribute, percent_decoded};
use super::{Error, Parsed, invalid};
use crate::envelope::Envelope;
use crate::name::StreamName;

const CONTENT_TYPE: &str = "datacontenttype";

/// A protocol that carries attributes as headers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Binding {
    /// `ce-id`; values are percent-encoded; the content type is the header `content-type`.
    Http,
    /// `ce_id`; values are UTF-8; the content type is the header `content-type`.
    Kafka,
    /// `ce-id`; values are percent-encoded; the content type is the attribute `ce-datacontenttype`.
    Nats,
    /// `ce-id`; values are UTF-8; the content type is the attribute `content-type` of the message.
    Pubsub,
    /// `cloudEvents:id`, and `cloudEvents_id` is read too; values are text; the content type is a property of the message.
    Amqp,
}

impl Binding {
    /// What stands before the name of an attribute.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Http | Self::Nats | Self::Pubsub => "ce-",
            Self::Kafka => "ce_",
            Self::Amqp => "cloudEvents:",
        }
    }

    /// The attribute that a header holds, if it holds one. HTTP and NATS do not keep the case of names.
    pub fn attribute(self, header: &str) -> Option<Cow<'_, str>> {
        let (prefix, name) = header.split_at_checked(self.prefix().len())?;
        match self {
            Self::Http | Self::Nats if prefix.eq_ignore_ascii_case("ce-") => {
                let is_lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
                Some(if is_lower { Cow::Borrowed(name) } else { Cow::Owned(name.to_ascii_lowercase()) })
            }
            Self::Pubsub if prefix == "ce-" => Some(Cow::Borrowed(name)),
            Self::Kafka if prefix == "ce_" => Some(Cow::Borrowed(name)),
            Self::Amqp if matches!(prefix, "cloudEvents:" | "cloudEvents_") => Some(Cow::Borrowed(name)),
            _ => None,
        }
    }

    /// The text of an attribute as a header may hold it.
    pub fn encode(self, value: &str) -> Cow<'_, str> {
        match self {
            Self::Http | Self::Nats if !value.bytes().all(is_plain) => Cow::Owned(percent_encoded(value)),
            _ => Cow::Borrowed(value),
        }
    }

    /// The text behind a header's value.
    pub fn decode(self, value: &str) -> Result<Cow<'_, str>, String> {
        match self {
            Self::Http | Self::Nats if value.contains(['%', '"']) => {
                percent_decoded(&unquoted(value)).map(Cow::Owned)
            }
            _ => Ok(Cow::Borrowed(value)),
        }
    }

    /// Calls `header` with each header of the event; the content type is one of them for NATS only. Where the stream is
    /// known it is told.
    pub fn write(self, envelope: &Envelope, stream: Option<&StreamName>, mut header: impl FnMut(&str, &str)) {
        let mut name = String::from(self.prefix());
        let mut attribute = |attribute: &str, value: &str| {
            name.truncate(self.prefix().len());
            name.push_str(attribute);
            header(&name, &self.encode(value));
        };
        for_each_attribute(envelope, &mut attribute);
        if self == Self::Nats {
            attribute(CONTENT_TYPE, envelope.content_type.as_str());
        }
        if let Some(stream) = stream {
            for_each_stream_attribute(stream, &mut attribute);
        }
    }

    /// Reads an event from its headers, content type and body; headers without the prefix are passed over. A header with
    /// the content type counts only where `content_type` is absent, because there it has its own place.
    pub fn read<'a>(
        self,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        content_type: Option<&str>,
        data: Bytes,
    ) -> Result<Parsed, Error> {
        let mut attributes = Attributes::default();
        if let Some(content_type) = content_type {
            attributes.set(CONTENT_TYPE, content_type)?;
        }
        for (header, value) in headers {
            if let Some(name) = self.attribute(header)
                && !(name == CONTENT_TYPE && content_type.is_some())
            {
                let value = self.decode(value).map_err(|reason| invalid(&name, reason))?;
                attributes.set(&name, &value)?;
            }
        }
        attributes.finish(data)
    }
}

/// What the HTTP binding leaves as it is: visible ASCII but the quote and the percent sign.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'%')
}

fn percent_encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 8);
    for byte in value.bytes() {
        if is_plain(byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    text
}

/// The text inside a quoted string of HTTP: producers may quote, so readers must unquote before they decode.
fn unquoted(value: &str) -> Cow<'_, str> {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(value);
    };
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        text.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    Cow::Owned(text)
}
