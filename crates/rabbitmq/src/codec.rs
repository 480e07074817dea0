//! Events as messages of AMQP, and messages as they came.

use bytes::Bytes;
use ensue_core::Error;
use ensue_core::bus::{Message, Mode, Outgoing};
use ensue_core::cloudevents::{Binding, json};
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::Value;
use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use crate::config::Route;
use crate::error;

/// The broker keeps it on disk. Quorum queues do so with everything; others may be bound to the same exchange.
const PERSISTENT: u8 = 2;
/// The attributes that name the key of a message, the better one first.
const KEYS: [&str; 4] =
    ["cloudEvents:partitionkey", "cloudEvents_partitionkey", "cloudEvents:subject", "cloudEvents_subject"];
/// Counts how often a quorum queue has taken a message back.
const DELIVERY_COUNT: &str = "x-delivery-count";
/// On a message that we have put off: how often it was delivered before, and where it was published.
const ATTEMPTS: &str = "x-ensue-attempts";
const EXCHANGE: &str = "x-ensue-exchange";
const ROUTING_KEY: &str = "x-ensue-routing-key";
const USER_ID: &str = "x-ensue-user-id";
/// On a dead letter: why.
const REASON: &str = "x-ensue-reason";
/// Headers that route a message further when it is published, and what they are called on one that we have put off.
const ROUTING: [(&str, &str); 2] = [("CC", "x-ensue-cc"), ("BCC", "x-ensue-bcc")];

/// A message and where it goes.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Letter {
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
}

impl Letter {
    /// About how many bytes the properties take in the one frame that holds them.
    pub(crate) fn header_bytes(&self) -> usize {
        const EACH: usize = 8;
        let properties = &self.properties;
        let texts = [
            properties.content_type(),
            properties.content_encoding(),
            properties.correlation_id(),
            properties.reply_to(),
            properties.expiration(),
            properties.message_id(),
            properties.kind(),
            properties.app_id(),
        ];
        let text_bytes: usize = texts.into_iter().flatten().map(|text| text.as_str().len() + EACH).sum();
        text_bytes + properties.headers().as_ref().map_or(0, table_bytes) + 8 * EACH
    }

    /// How many bytes the message has.
    pub(crate) fn bytes(&self) -> usize {
        self.header_bytes() + self.body.len()
    }
}

fn table_bytes(table: &FieldTable) -> usize {
    table.inner().iter().map(|(name, value)| name.as_str().len() + 2 + value_bytes(value)).sum::<usize>() + 4
}

fn value_bytes(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::LongString(text) => text.len() + 4,
        AMQPValue::ShortString(text) => text.as_str().len() + 1,
        AMQPValue::ByteArray(bytes) => bytes.len() + 4,
        AMQPValue::FieldTable(table) => table_bytes(table),
        AMQPValue::FieldArray(array) => {
            array.as_slice().iter().map(|value| value_bytes(value) + 1).sum::<usize>() + 4
        }
        _ => 8,
    }
}

/// The message of an event. What other libraries look for in the properties of AMQP is there as well as in the headers of `CloudEvents`,
/// where it is short enough to be there.
pub(crate) fn encode(outgoing: &Outgoing, route: &Route) -> Result<Letter, Error> {
    let Outgoing { to, stream, envelope, mode } = outgoing;
    let mut headers = FieldTable::default();
    let (content_type, body) = match mode {
        Mode::Binary => {
            let mut failure = None;
            Binding::Amqp.write(envelope, Some(stream), |name, value| match error::short("header", name) {
                Ok(name) => {
                    headers.insert(name, AMQPValue::LongString(value.into()));
                }
                Err(error) => failure = Some(error),
            });
            if let Some(error) = failure {
                return Err(error);
            }
            (envelope.content_type.as_str(), envelope.data.clone())
        }
        Mode::Structured => {
            let mut body = Vec::new();
            json::write(envelope, Some(stream), &mut body);
            (json::MEDIA_TYPE, Bytes::from(body))
        }
    };
    let event_type = envelope.event_type.as_str();
    let routing_key = match route {
        Route::TopicAndType => format_smolstr!("{}.{event_type}", stream.topic),
        Route::Type => event_type.to_smolstr(),
        Route::Key => stream.key.as_str().to_smolstr(),
        Route::Fixed(key) => key.to_smolstr(),
    };
    let mut properties = BasicProperties::default()
        .with_content_type(error::short("content type", content_type)?)
        .with_headers(headers)
        .with_delivery_mode(PERSISTENT);
    if let Ok(id) = ShortString::try_new(envelope.id.as_str()) {
        properties = properties.with_message_id(id);
    }
    if let Ok(event_type) = ShortString::try_new(event_type) {
        properties = properties.with_type(event_type);
    }
    if let Some(Ok(id)) = envelope.correlation.as_ref().map(|id| ShortString::try_new(id.as_str())) {
        properties = properties.with_correlation_id(id);
    }
    if let Ok(seconds) = u64::try_from(envelope.time.as_second()) {
        properties = properties.with_timestamp(seconds);
    }
    let exchange = error::short("name of the exchange", to.as_str())?;
    Ok(Letter { exchange, routing_key: error::short("routing key", &routing_key)?, properties, body })
}

/// The same message once more, for a queue by its name.
pub(crate) fn again(delivery: &Delivery, queue: &ShortString) -> Letter {
    let mut kept = FieldTable::default();
    for (name, value) in headers(delivery) {
        let renamed = ROUTING.iter().find(|(routing, _)| *routing == name.as_str());
        kept.insert(renamed.map_or(name.as_str(), |(_, renamed)| *renamed).into(), value.clone());
    }
    let (exchange, routing_key) = published(delivery);
    kept.insert(ATTEMPTS.into(), AMQPValue::LongLongInt(i64::from(attempt(delivery))));
    kept.insert(EXCHANGE.into(), AMQPValue::LongString(exchange.as_str().into()));
    kept.insert(ROUTING_KEY.into(), AMQPValue::LongString(routing_key.as_str().into()));
    if let Some(user) = delivery.properties.user_id() {
        // The broker refuses a message that names another user than the one who publishes it.
        kept.insert(USER_ID.into(), AMQPValue::LongString(user.as_str().into()));
    }
    let properties = without_user(&delivery.properties).with_headers(kept).with_delivery_mode(PERSISTENT);
    let body = Bytes::copy_from_slice(&delivery.data);
    Letter { exchange: "".into(), routing_key: queue.clone(), properties, body }
}

/// The same message as a dead letter.
pub(crate) fn dead(delivery: &Delivery, queue: &ShortString, reason: &str) -> Letter {
    let mut letter = again(delivery, queue);
    let mut headers = letter.properties.headers().clone().unwrap_or_default();
    headers.insert(REASON.into(), AMQPValue::LongString(reason.into()));
    letter.properties = letter.properties.with_headers(headers);
    letter
}

/// All properties but the user and the time to live, which was over when the message arrived.
fn without_user(all: &BasicProperties) -> BasicProperties {
    type With = fn(BasicProperties, ShortString) -> BasicProperties;
    let mut some = BasicProperties::default();
    let texts: [(&Option<ShortString>, With); 8] = [
        (all.content_type(), BasicProperties::with_content_type),
        (all.content_encoding(), BasicProperties::with_content_encoding),
        (all.correlation_id(), BasicProperties::with_correlation_id),
        (all.reply_to(), BasicProperties::with_reply_to),
        (all.message_id(), BasicProperties::with_message_id),
        (all.kind(), BasicProperties::with_type),
        (all.app_id(), BasicProperties::with_app_id),
        (all.cluster_id(), BasicProperties::with_cluster_id),
    ];
    for (text, with) in texts {
        if let Some(text) = text {
            some = with(some, text.clone());
        }
    }
    if let Some(time) = all.timestamp() {
        some = some.with_timestamp(*time);
    }
    if let Some(priority) = all.priority() {
        some = some.with_priority(*priority);
    }
    some
}

/// What came, and its key.
pub(crate) fn decode(delivery: &Delivery) -> (Message, Option<SmolStr>) {
    let mut list: Vec<(SmolStr, Bytes)> = Vec::new();
    for (name, value) in headers(delivery) {
        let renamed = ROUTING.iter().find(|(_, renamed)| *renamed == name.as_str());
        list.push((renamed.map_or(name.as_str(), |(name, _)| *name).into(), bytes(value)));
    }
    let key = KEYS.iter().find_map(|wanted| list.iter().find(|(name, _)| name == wanted));
    let key = key.and_then(|(_, value)| std::str::from_utf8(value).ok()).map(SmolStr::new);
    list.extend(properties(delivery));
    let content_type = delivery.properties.content_type().as_ref().map(|text| text.as_str().to_smolstr());
    (Message { headers: list, content_type, body: Bytes::copy_from_slice(&delivery.data) }, key)
}

/// How often the message was delivered, this time included.
pub(crate) fn attempt(delivery: &Delivery) -> u32 {
    let count = |name| number(header(delivery, name)?);
    let before = count(ATTEMPTS).unwrap_or(0);
    // A count need not have in it what was taken back because a member was lost.
    let taken_back = count(DELIVERY_COUNT).unwrap_or(0).max(u32::from(delivery.redelivered));
    before.saturating_add(taken_back).saturating_add(1)
}

/// The properties outside of the headers, and where the message was published.
fn properties(delivery: &Delivery) -> Vec<(SmolStr, Bytes)> {
    let all = &delivery.properties;
    let (exchange, routing_key) = published(delivery);
    let text = |text: &Option<ShortString>| text.as_ref().map(|text| text.as_str().to_smolstr());
    let user = text(all.user_id()).or_else(|| header_text(delivery, USER_ID));
    let found = [
        ("amqp:exchange", Some(exchange)),
        ("amqp:routing-key", Some(routing_key)),
        ("amqp:content-encoding", text(all.content_encoding())),
        ("amqp:priority", all.priority().map(|number| number.to_smolstr())),
        ("amqp:correlation-id", text(all.correlation_id())),
        ("amqp:reply-to", text(all.reply_to())),
        ("amqp:expiration", text(all.expiration())),
        ("amqp:message-id", text(all.message_id())),
        ("amqp:timestamp", all.timestamp().map(|seconds| seconds.to_smolstr())),
        ("amqp:type", text(all.kind())),
        ("amqp:user-id", user),
        ("amqp:app-id", text(all.app_id())),
        ("amqp:cluster-id", text(all.cluster_id())),
    ];
    let found = found.into_iter().filter_map(|(name, value)| Some((SmolStr::new_static(name), value?)));
    found.map(|(name, value)| (name, Bytes::copy_from_slice(value.as_bytes()))).collect()
}

/// The exchange and the routing key that the publisher chose.
fn published(delivery: &Delivery) -> (SmolStr, SmolStr) {
    let exchange = header_text(delivery, EXCHANGE).unwrap_or_else(|| delivery.exchange.as_str().into());
    let routing_key =
        header_text(delivery, ROUTING_KEY).unwrap_or_else(|| delivery.routing_key.as_str().into());
    (exchange, routing_key)
}

/// The headers of the publisher: without ours, and without what the broker has noted about the times that we put it off.
fn headers(delivery: &Delivery) -> impl Iterator<Item = (&ShortString, &AMQPValue)> {
    let was_put_off = header(delivery, ATTEMPTS).is_some();
    let table = delivery.properties.headers().as_ref();
    table.into_iter().flat_map(|table| table.inner().iter()).filter(move |(name, _)| {
        let name = name.as_str();
        let is_ours = [ATTEMPTS, EXCHANGE, ROUTING_KEY, USER_ID, DELIVERY_COUNT].contains(&name);
        let is_note =
            name == "x-death" || name.starts_with("x-first-death-") || name.starts_with("x-last-death-");
        !(is_ours || is_note && was_put_off)
    })
}

fn header<'a>(delivery: &'a Delivery, name: &str) -> Option<&'a AMQPValue> {
    delivery.properties.headers().as_ref()?.inner().get(name)
}

fn header_text(delivery: &Delivery, name: &str) -> Option<SmolStr> {
    std::str::from_utf8(&bytes(header(delivery, name)?)).ok().map(SmolStr::new)
}

fn number(value: &AMQPValue) -> Option<u32> {
    std::str::from_utf8(&bytes(value)).ok()?.parse().ok()
}

/// A header as bytes: text and bytes as they are, everything else as JSON writes it.
fn bytes(value: &AMQPValue) -> Bytes {
    match value {
        AMQPValue::LongString(text) => Bytes::copy_from_slice(text.as_bytes()),
        AMQPValue::ShortString(text) => Bytes::copy_from_slice(text.as_str().as_bytes()),
        AMQPValue::ByteArray(bytes) => Bytes::copy_from_slice(bytes.as_slice()),
        AMQPValue::Void => Bytes::new(),
        other => Bytes::from(document(other).to_string()),
    }
}

fn document(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(value) => Value::from(*value),
        AMQPValue::ShortShortInt(value) => Value::from(*value),
        AMQPValue::ShortShortUInt(value) => Value::from(*value),
        AMQPValue::ShortInt(value) => Value::from(*value),
        AMQPValue::ShortUInt(value) => Value::from(*value),
        AMQPValue::LongInt(value) => Value::from(*value),
        AMQPValue::LongUInt(value) => Value::from(*value),
        AMQPValue::LongLongInt(value) => Value::from(*value),
        AMQPValue::Timestamp(value) => Value::from(*value),
        AMQPValue::Float(value) => Value::from(*value),
        AMQPValue::Double(value) => Value::from(*value),
        AMQPValue::DecimalValue(decimal) => Value::from(format!("{}e-{}", decimal.value, decimal.scale)),
        AMQPValue::FieldArray(array) => array.as_slice().iter().map(document).collect(),
        AMQPValue::FieldTable(table) => {
            table.inner().iter().map(|(name, value)| (name.as_str().to_owned(), document(value))).collect()
        }
        text => Value::from(String::from_utf8_lossy(&bytes(text)).into_owned()),
    }
}
