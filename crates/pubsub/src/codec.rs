//! Events as messages of Pub/Sub, and messages as they came.

use bytes::Bytes;
use ensue_core::bus::{Message, Mode, Outgoing};
use ensue_core::cloudevents::{Binding, json};
use ensue_core::{Error, Timestamp};
use smol_str::SmolStr;

use crate::error;
use crate::wire::{self, PubsubMessage};

const CONTENT_TYPE: &str = "content-type";
/// The attributes that name the key of a message, the better one first, where the publisher has asked for no order.
const KEYS: [&str; 2] = ["ce-partitionkey", "ce-subject"];
/// On a dead letter of ours: why, and where it was. The service's own dead letters say the latter with this name.
const REASON: &str = "x-ensue-reason";
const REFUSED_BY: &str = "CloudPubSubDeadLetterSourceSubscription";

/// Limits of the service.
const ATTRIBUTES_MAX: usize = 100;
const NAME_BYTES_MAX: usize = 256;
const VALUE_BYTES_MAX: usize = 1024;
const KEY_BYTES_MAX: usize = 1024;

/// The message of an event, if the service would take it.
pub(crate) fn encode(outgoing: &Outgoing, bytes_max: usize) -> Result<PubsubMessage, Error> {
    let Outgoing { to, stream, envelope, mode } = outgoing;
    let mut message =
        PubsubMessage { ordering_key: stream.key.as_str().to_owned(), ..PubsubMessage::default() };
    let mut attribute = |name: &str, value: &str| {
        message.attributes.insert(name.to_owned(), value.to_owned());
    };
    message.data = match mode {
        Mode::Binary => {
            attribute(CONTENT_TYPE, envelope.content_type.as_str());
            Binding::Pubsub.write(envelope, Some(stream), attribute);
            envelope.data.clone()
        }
        Mode::Structured => {
            attribute(CONTENT_TYPE, json::MEDIA_TYPE);
            let mut body = Vec::new();
            json::write(envelope, Some(stream), &mut body);
            Bytes::from(body)
        }
    };
    match broken_limit(&message, bytes_max) {
        Some((reason, fix)) => Err(error::too_large(to.as_str(), &reason).with_fix(fix)),
        None => Ok(message),
    }
}

fn broken_limit(message: &PubsubMessage, bytes_max: usize) -> Option<(String, &'static str)> {
    const SHORTER: &str = "use a shorter key";
    const STRUCTURED: &str =
        "publish it as structured CloudEvents, where attributes are in the body, or make them shorter";
    let key_bytes = message.ordering_key.len();
    if key_bytes > KEY_BYTES_MAX {
        return Some((
            format!("its key has {key_bytes} bytes, at most {KEY_BYTES_MAX} are allowed"),
            SHORTER,
        ));
    }
    let count = message.attributes.len();
    if count > ATTRIBUTES_MAX {
        return Some((
            format!("it has {count} attributes, at most {ATTRIBUTES_MAX} are allowed"),
            STRUCTURED,
        ));
    }
    for (name, value) in &message.attributes {
        if name.len() > NAME_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            let reason = format!(
                "the attribute `{name:.60}` has {} bytes, at most {VALUE_BYTES_MAX} are allowed, and {NAME_BYTES_MAX} for its name",
                value.len()
            );
            return Some((reason, STRUCTURED));
        }
    }
    let bytes = bytes(message);
    (bytes > bytes_max).then(|| {
        let reason = format!("it has {bytes} bytes, at most {bytes_max} are allowed");
        (reason, "keep the data elsewhere and publish its place; the service itself takes 10 MB at most")
    })
}

/// How many bytes a message takes.
pub(crate) fn bytes(message: &PubsubMessage) -> usize {
    const EACH: usize = 8;
    let attributes: usize =
        message.attributes.iter().map(|(name, value)| name.len() + value.len() + EACH).sum();
    message.data.len() + attributes + message.ordering_key.len() + 4 * EACH
}

/// The same message as a dead letter.
pub(crate) fn dead(message: &PubsubMessage, subscription: &str, reason: &str) -> PubsubMessage {
    let mut attributes = message.attributes.clone();
    let end = (0..=VALUE_BYTES_MAX).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
    attributes.insert(REASON.to_owned(), reason.get(..end).unwrap_or(reason).to_owned());
    let id = subscription.rsplit('/').next().unwrap_or(subscription);
    attributes.insert(REFUSED_BY.to_owned(), id.to_owned());
    PubsubMessage {
        data: message.data.clone(),
        attributes,
        ordering_key: message.ordering_key.clone(),
        ..PubsubMessage::default()
    }
}

/// What came, and its key.
pub(crate) fn decode(came: &PubsubMessage) -> (Message, Option<SmolStr>) {
    let attribute = |name: &&str| came.attributes.get(*name);
    let key = Some(&came.ordering_key).filter(|key| !key.is_empty());
    let key = key.or_else(|| KEYS.iter().find_map(attribute)).map(SmolStr::new);
    let headers = came.attributes.iter();
    let headers = headers.map(|(name, value)| (SmolStr::new(name), Bytes::copy_from_slice(value.as_bytes())));
    let content_type = attribute(&CONTENT_TYPE).map(SmolStr::new);
    (Message { headers: headers.collect(), content_type, body: came.data.clone() }, key)
}

/// The service's time.
pub(crate) fn time(time: wire::Timestamp) -> Option<Timestamp> {
    Timestamp::new(time.seconds, time.nanos).ok()
}
