//! Events as messages of NATS, and messages as they came.

use async_nats::HeaderMap;
use bytes::Bytes;
use ensue_core::bus::{Message, Mode, Outgoing};
use ensue_core::cloudevents::{Binding, json};
use smol_str::SmolStr;

const MESSAGE_ID: &str = "Nats-Msg-Id";
const CONTENT_TYPE: &str = "content-type";
/// The attributes that name the key of a message, the better one first.
const KEYS: [&str; 2] = ["ce-partitionkey", "ce-subject"];

/// Headers and body of an event. The id by which the server knows duplicates is that of the event on this subject, because one stream
/// may keep several.
pub(crate) fn encode(outgoing: &Outgoing) -> (HeaderMap, Bytes) {
    let Outgoing { to, stream, envelope, mode } = outgoing;
    let mut headers = HeaderMap::new();
    let id = format!("{to} {} {}", envelope.source, envelope.id);
    headers.insert(MESSAGE_ID, Binding::Nats.encode(&id).as_ref());
    let body = match mode {
        Mode::Binary => {
            Binding::Nats.write(envelope, Some(stream), |name, value| headers.insert(name, value));
            envelope.data.clone()
        }
        Mode::Structured => {
            headers.insert(CONTENT_TYPE, json::MEDIA_TYPE);
            let mut body = Vec::new();
            json::write(envelope, Some(stream), &mut body);
            Bytes::from(body)
        }
    };
    (headers, body)
}

/// How many bytes the server counts.
pub(crate) fn size(headers: &HeaderMap, body: &Bytes) -> usize {
    let lines = headers.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    let header_bytes: usize = lines
        .map(|(name, value)| AsRef::<str>::as_ref(name).len() + value.as_str().len() + ": \r\n".len())
        .sum();
    "NATS/1.0\r\n\r\n".len() + header_bytes + body.len()
}

/// What came, and its key. The driver does not keep the order of headers, so they are sorted.
pub(crate) fn decode(message: &async_nats::Message) -> (Message, Option<SmolStr>) {
    let mut headers = Vec::new();
    for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
        let name = SmolStr::new(AsRef::<str>::as_ref(name));
        headers.extend(
            values.iter().map(|value| (name.clone(), Bytes::copy_from_slice(value.as_str().as_bytes()))),
        );
    }
    headers.sort();
    let text = |wanted: &str| {
        let (_, value) = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
        std::str::from_utf8(value).ok()
    };
    let key = KEYS.iter().find_map(|name| text(name));
    let key = key.and_then(|value| Binding::Nats.decode(value).ok()).map(SmolStr::new);
    let content_type = text(CONTENT_TYPE).map(SmolStr::new);
    (Message { headers, content_type, body: message.payload.clone() }, key)
}
