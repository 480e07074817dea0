//! What others call the id, the flow and the cause of a message.
//!
//! `NServiceBus` and raw `MassTransit` say them in headers, the envelope of `MassTransit` in the body, AMQP in properties. The
//! conversation is the flow, because that is what stays the same from the first message to the last; where there is none the
//! correlation id is.

use ensue_core::EventId;

use super::came::Came;

/// Names of headers, the better one first.
const IDS: [&str; 5] =
    ["NServiceBus.MessageId", "MT-MessageId", "MessageId", "amqp:message-id", "Nats-Msg-Id"];
const FLOWS: [&str; 7] = [
    "NServiceBus.ConversationId",
    "MT-ConversationId",
    "ConversationId",
    "NServiceBus.CorrelationId",
    "MT-CorrelationId",
    "CorrelationId",
    "amqp:correlation-id",
];
const CAUSES: [&str; 3] = ["NServiceBus.RelatedTo", "MT-InitiatorId", "InitiatorId"];

/// The media type of a body that is `MassTransit`'s envelope around the message.
const MASS_TRANSIT: &str = "application/vnd.masstransit+json";

/// The id that whoever sent the message gave it.
pub(super) fn id(came: &Came) -> Option<EventId> {
    header(came, &IDS).or_else(|| enveloped(came, &["messageId"])).or_else(|| plain(came))
}

/// The flow that the message belongs to.
pub(super) fn flow(came: &Came) -> Option<EventId> {
    header(came, &FLOWS).or_else(|| enveloped(came, &["conversationId", "correlationId"]))
}

/// The message that caused this one.
pub(super) fn cause(came: &Came) -> Option<EventId> {
    header(came, &CAUSES).or_else(|| enveloped(came, &["initiatorId"]))
}

fn header(came: &Came, names: &[&str]) -> Option<EventId> {
    names.iter().filter_map(|name| came.header(name)).find_map(|text| EventId::new(text).ok())
}

fn enveloped(came: &Came, names: &[&str]) -> Option<EventId> {
    let is_envelope =
        came.content_type().is_some_and(|text| text.trim().to_ascii_lowercase().starts_with(MASS_TRANSIT));
    let mut texts = names.iter().filter(|_| is_envelope).filter_map(|name| came.text_at(name));
    texts.find_map(|text| EventId::new(text).ok())
}

/// The id of the plain shape `{event_type, event_id, data}`.
fn plain(came: &Came) -> Option<EventId> {
    came.json()?.get("event_type")?;
    EventId::new(came.text_at("event_id")?).ok()
}
