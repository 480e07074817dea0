//! Events as records of Kafka, and records as they came.

use bytes::Bytes;
use ensue_core::bus::{Message, Mode, Outgoing};
use ensue_core::cloudevents::{Binding, json};
use krafka::{ConsumerRecord, Record};
use smol_str::SmolStr;

const CONTENT_TYPE: &str = "content-type";

/// The record of an event. Its key is that of the stream, hashed as the Java client does.
pub(crate) fn encode(outgoing: &Outgoing, topic: &str) -> Record {
    let Outgoing { stream, envelope, mode, .. } = outgoing;
    let mut headers: Vec<(String, Bytes)> = Vec::new();
    let mut header = |name: &str, value: &str| {
        headers.push((name.to_owned(), Bytes::copy_from_slice(value.as_bytes())));
    };
    let body = match mode {
        Mode::Binary => {
            header(CONTENT_TYPE, envelope.content_type.as_str());
            Binding::Kafka.write(envelope, Some(stream), &mut header);
            envelope.data.clone()
        }
        Mode::Structured => {
            header(CONTENT_TYPE, json::MEDIA_TYPE);
            let mut body = Vec::new();
            json::write(envelope, Some(stream), &mut body);
            Bytes::from(body)
        }
    };
    let record = Record::new(topic, body).key(Bytes::copy_from_slice(stream.key.as_str().as_bytes()));
    headers.into_iter().fold(record, |record, (name, value)| record.header(name, value))
}

/// What came, and its key where that is text. A record without a value has an empty body.
pub(crate) fn decode(record: &ConsumerRecord) -> (Message, Option<SmolStr>) {
    let headers: Vec<(SmolStr, Bytes)> = record
        .headers
        .iter()
        .map(|(name, value)| (SmolStr::new(name), value.clone().unwrap_or_default()))
        .collect();
    let content_type = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE));
    let content_type = content_type.and_then(|(_, value)| std::str::from_utf8(value).ok()).map(SmolStr::new);
    let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()).map(SmolStr::new);
    (Message { headers, content_type, body: record.value.clone().unwrap_or_default() }, key)
}
