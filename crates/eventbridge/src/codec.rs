//! Events as entries of `EventBridge`, and what a queue hands out as messages.
//!
//! An event of ours is the `detail` of its entry, structured, so that rules can look into it. Data that `EventBridge` would not give back
//! byte by byte goes in Base64, and rules cannot look into that.

use std::collections::HashMap;

use aws_sdk_sqs::types::MessageAttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use ensue_core::bus::{Message, Outgoing};
use ensue_core::cloudevents::{Binding, json};
use ensue_core::name::EventType;
use ensue_core::{Code, Envelope, Error, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;
use smol_str::{SmolStr, format_smolstr};

use crate::compact::{compact, survives};

/// The longest type that `EventBridge` takes; a longer one it is said to confirm and throw away.
const DETAIL_TYPE_CHARS_MAX: usize = 128;
const JSON: &str = "application/json";

/// What becomes an entry of a request.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) bus: String,
    pub(crate) source: String,
    pub(crate) detail_type: String,
    pub(crate) detail: String,
}

impl Entry {
    /// As Amazon counts.
    pub(crate) fn bytes(&self) -> usize {
        self.source.len() + self.detail_type.len() + self.detail.len()
    }
}

/// What came out of a queue.
pub(crate) struct Decoded {
    pub(crate) message: Message,
    pub(crate) key: Option<SmolStr>,
    /// The id that `EventBridge` gave it, which is the same in every queue and each time.
    pub(crate) id: Option<String>,
    /// When `EventBridge` got it.
    pub(crate) time: Option<Timestamp>,
}

/// The entry of an event. Both modes are structured, because an entry has no headers.
pub(crate) fn encode(outgoing: &Outgoing) -> Result<Entry, Error> {
    let Outgoing { to, stream, envelope, .. } = outgoing;
    let detail_type = envelope.event_type.as_str();
    if detail_type.chars().count() > DETAIL_TYPE_CHARS_MAX {
        let message = format!(
            "cannot publish to `{to}`: the type `{detail_type:.40}…` has more than {DETAIL_TYPE_CHARS_MAX} characters, which EventBridge does not take"
        );
        return Err(Error::new(Code::BUS_REFUSED, message).with_fix("give the event a shorter type"));
    }
    let mut detail = Vec::new();
    if goes_as_it_is(envelope) {
        json::write(envelope, Some(stream), &mut detail);
    } else {
        let head = Envelope { data: Bytes::new(), ..envelope.clone() };
        json::write(&head, Some(stream), &mut detail);
        detail.pop();
        detail.extend_from_slice(b",\"data_base64\":\"");
        detail.extend_from_slice(BASE64.encode(&envelope.data).as_bytes());
        detail.extend_from_slice(b"\"}");
    }
    let detail = String::from_utf8(detail).map_err(|cause| {
        Error::new(Code::INVALID_EVENT, format!("cannot publish to `{to}`: the event is no text"))
            .with_source(cause)
    })?;
    Ok(Entry {
        bus: to.to_string(),
        source: envelope.source.to_string(),
        detail_type: detail_type.to_owned(),
        detail,
    })
}

/// Whether the data may stand in the detail as JSON. What is no JSON is a string or Base64 there anyway.
fn goes_as_it_is(envelope: &Envelope) -> bool {
    envelope.data.is_empty()
        || !envelope.content_type.is_json()
        || std::str::from_utf8(&envelope.data).is_ok_and(survives)
}

/// The envelope that `EventBridge` puts around an event.
#[derive(Deserialize)]
struct Around<'a> {
    id: String,
    #[serde(rename = "detail-type")]
    detail_type: String,
    source: String,
    #[serde(default)]
    account: String,
    #[serde(default)]
    region: String,
    #[serde(default)]
    time: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(borrow)]
    detail: &'a RawValue,
}

/// What of a structured event is looked at here.
#[derive(Deserialize)]
struct Structured {
    #[serde(rename = "specversion")]
    _version: String,
    #[serde(default)]
    subject: Option<SmolStr>,
    #[serde(default)]
    partitionkey: Option<SmolStr>,
}

/// What a queue handed out: an event of ours or of somebody else that came over an event bus, or what was sent to the queue directly.
pub(crate) fn decode(
    body: &str,
    attributes: &HashMap<String, MessageAttributeValue>,
    group: Option<&str>,
) -> Decoded {
    let mut headers: Vec<(SmolStr, Bytes)> = attributes.iter().filter_map(header).collect();
    headers.sort();
    let Ok(around) = serde_json::from_str::<Around<'_>>(body) else {
        let content_type = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let content_type = content_type.and_then(|(_, value)| std::str::from_utf8(value).ok());
        let content_type = content_type.map(SmolStr::new);
        let message = Message { headers, content_type, body: Bytes::copy_from_slice(body.as_bytes()) };
        return Decoded { message, key: group.map(SmolStr::new), id: None, time: None };
    };
    headers.extend(around.headers());
    let raw = around.detail.get();
    let time = around.time.parse().ok();
    let id = Some(around.id.clone());
    match serde_json::from_str::<Structured>(raw) {
        Ok(event) => {
            let body = compact(raw).unwrap_or_else(|| raw.to_owned());
            let content_type = Some(json::MEDIA_TYPE.into());
            let message = Message { headers, content_type, body: Bytes::from(body) };
            Decoded { message, key: event.partitionkey.or(event.subject), id, time }
        }
        Err(_) => {
            headers.extend(around.event_headers());
            let body = Bytes::copy_from_slice(raw.as_bytes());
            let message = Message { headers, content_type: Some(JSON.into()), body };
            Decoded { message, key: None, id, time }
        }
    }
}

impl Around<'_> {
    /// What `EventBridge` says of the event, under the broker's name.
    fn headers(&self) -> Vec<(SmolStr, Bytes)> {
        let resources = self.resources.join(",");
        let all = [
            ("account", &self.account),
            ("detail-type", &self.detail_type),
            ("id", &self.id),
            ("region", &self.region),
            ("resources", &resources),
            ("source", &self.source),
            ("time", &self.time),
        ];
        let said = all.into_iter().filter(|(_, value)| !value.is_empty());
        said.map(|(name, value)| (format_smolstr!("eventbridge:{name}"), bytes(value))).collect()
    }

    /// The same as headers of an event, which somebody else's event then is without any configuration: where its type can be one.
    fn event_headers(&self) -> Vec<(SmolStr, Bytes)> {
        if EventType::new(&self.detail_type).is_err() {
            return Vec::new();
        }
        let all = [
            ("specversion", "1.0"),
            ("id", &self.id),
            ("source", &self.source),
            ("time", &self.time),
            ("type", &self.detail_type),
        ];
        let said = all.into_iter().filter(|(_, value)| !value.is_empty());
        said.map(|(name, value)| (format_smolstr!("ce-{name}"), bytes(&Binding::Http.encode(value))))
            .collect()
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// An attribute of a message in a queue.
fn header((name, value): (&String, &MessageAttributeValue)) -> Option<(SmolStr, Bytes)> {
    let binary = value.binary_value().map(|blob| Bytes::copy_from_slice(blob.as_ref()));
    let value = value.string_value().map(bytes).or(binary)?;
    Some((SmolStr::new(name), value))
}
