//! A message that came, with what its broker says of it: what mappings look into, and what is kept of a message that cannot
//! be read.

use std::cell::OnceCell;

use bytes::Bytes;
use ensue_core::bus::{Delivery, Message};
use ensue_core::{Channel, Timestamp};
use serde_json::Value;
use smol_str::SmolStr;

/// Bytes in front of the data in the wire format of Confluent's serializers: a zero, and four of the schema's id.
const WIRE_BYTES: usize = 5;

/// A message and its circumstances. Redelivered, it is equal.
pub(super) struct Came {
    pub(super) from: Channel,
    pub(super) key: Option<SmolStr>,
    /// Where the broker keeps it, if that is the same each time.
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

    pub(super) fn of(delivery: Delivery) -> Self {
        let Delivery { from, key, place, published_at, message, .. } = delivery;
        Self::new(from, key, place, published_at, message)
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
}
