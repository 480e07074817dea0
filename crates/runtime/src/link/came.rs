//! A message that came, with what its broker says of it: what mappings look into, and what is kept of a message that cannot
//! be read.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;

use bytes::Bytes;
use ensue_core::bus::{Delivery, Message};
use ensue_core::{BusCapabilities, Channel, Timestamp};
use serde_json::Value;
use serde_json::value::RawValue;
use smol_str::{SmolStr, format_smolstr};

/// Bytes in front of the data in the wire format of Confluent's serializers: a zero, and four of the schema's id.
const WIRE_BYTES: usize = 5;

/// What places begin with that were given here.
const DELIVERY: &str = "delivery:";

/// A message and its circumstances. Redelivered, it is equal, but for a place that was given here.
pub(super) struct Came {
    pub(super) from: Channel,
    pub(super) key: Option<SmolStr>,
    /// Where the broker keeps it, if that is the same each time; or the place of its first delivery.
    pub(super) place: Option<SmolStr>,
    pub(super) published_at: Option<Timestamp>,
    pub(super) message: Message,
    json: OnceCell<Option<Value>>,
}

impl Came {
    pub(super) fn new(
        from: Channel,
        key: Option<SmolStr>,
        place: Option<SmolStr>,
        published_at: Option<Timestamp>,
        message: Message,
    ) -> Self {
        Self { from, key, place, published_at, message, json: OnceCell::new() }
    }

    /// Where the broker has no places but says what it delivers for the first time, that is given a place here, so that it is told from an
    /// equal one.
    pub(super) fn of(delivery: Delivery, capabilities: &BusCapabilities, now: Timestamp) -> Self {
        let Delivery { token, from, key, place, attempt, published_at, message } = delivery;
        let given = || format_smolstr!("{DELIVERY}{from}/{}-{token}", now.as_nanosecond());
        let is_first = capabilities.can_count_attempts && attempt == 1;
        let place = place.or_else(|| is_first.then(given));
        Self::new(from, key, place, published_at, message)
    }

    /// Whether it is known by its delivery alone. Delivered again, nothing but its content tells that it is the same.
    pub(super) fn is_known_by_delivery(&self) -> bool {
        self.place.as_ref().is_some_and(|place| place.starts_with(DELIVERY))
    }

    /// The text of a header; one that is no text has none.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let headers = || self.message.headers.iter();
        let exact = headers().find(|(known, _)| known == name);
        let found = exact.or_else(|| headers().find(|(known, _)| known.eq_ignore_ascii_case(name)));
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// The headers that are text.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        let headers = self.message.headers.iter();
        headers.filter_map(|(name, value)| Some((name.as_str(), std::str::from_utf8(value).ok()?)))
    }

    /// The type of the content, as a property of the message or a header says it.
    pub(super) fn content_type(&self) -> Option<&str> {
        self.message.content_type.as_deref().or_else(|| self.header("content-type"))
    }

    /// The id of the schema, where the body has the wire format of Confluent's serializers.
    pub(super) fn schema_id(&self) -> Option<u32> {
        match self.message.body.get(..WIRE_BYTES)? {
            [0, id @ ..] => id.try_into().ok().map(u32::from_be_bytes),
            _ => None,
        }
    }

    /// What is in the body behind the schema's id.
    fn content(&self) -> Bytes {
        match self.schema_id() {
            Some(_) => self.message.body.slice(WIRE_BYTES..),
            None => self.message.body.clone(),
        }
    }

    /// The body, where it is JSON.
    pub(super) fn json(&self) -> Option<&Value> {
        self.json.get_or_init(|| serde_json::from_slice(&self.content()).ok()).as_ref()
    }

    /// The text at a path of names in the body, such as `order.id`: that of a string, a number or a boolean.
    pub(super) fn text_at(&self, path: &str) -> Option<Cow<'_, str>> {
        match path.split('.').try_fold(self.json()?, |value, name| value.get(name))? {
            Value::String(text) => Some(Cow::Borrowed(text)),
            // One that is no integer of the machine would be rounded, and two of twenty digits would be one.
            Value::Number(number) if number.is_f64() => literal(&self.content(), path).map(Cow::Owned),
            Value::Number(number) => Some(Cow::Owned(number.to_string())),
            Value::Bool(yes) => Some(Cow::Borrowed(if *yes { "true" } else { "false" })),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

/// What is at a path, as it is written.
fn literal(body: &[u8], path: &str) -> Option<String> {
    let mut at: &RawValue = serde_json::from_slice(body).ok()?;
    for name in path.split('.') {
        let mut members: HashMap<String, &RawValue> = serde_json::from_str(at.get()).ok()?;
        at = members.remove(name)?;
    }
    Some(at.get().to_owned())
}
