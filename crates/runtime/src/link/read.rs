//! Reading: what came, as an event with its stream.
//!
//! Asked in this order: what the configuration says, what the event says of itself, what the application knows of its type,
//! what the broker knows. Nothing is guessed: what has no type, topic or key is refused (`E0448`) and kept.

use bytes::Bytes;
use ensue_core::cloudevents::{self, Binding, Incoming, Parsed, json};
use ensue_core::{
    Code, ContentType, Envelope, Error, EventId, EventType, Source, StreamName, Timestamp, Topic,
};
use smol_str::SmolStr;

use super::came::Came;
use super::pick::Pick;
use super::request::{self, Inbound};
use super::{LINK, foreign};
use crate::door::Registry;
use crate::message::set_extension;

/// Extension attribute: the id of the schema, of a body in the wire format of Confluent's serializers.
const SCHEMA_ID: &str = "schemaid";
/// For how long a broker of AMQP keeps a message. It takes it away when it moves the message.
const EXPIRATION: &str = "amqp:expiration";
/// Extension attribute: what the id of an event was made of that brought none.
pub(super) const ID_FROM: &str = "idfrom";

/// How the messages of one intake become events.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    /// The link they come in over.
    pub(super) link: SmolStr,
    pub(super) takes: Inbound,
    /// The broker, which is the source of what does not say where it is from.
    pub(super) backend: &'static str,
    /// The binding of the broker, which is tried before the others.
    pub(super) binding: Binding,
    pub(super) topic: Option<Topic>,
    pub(super) event_type: Option<Pick>,
    pub(super) key: Option<Pick>,
    pub(super) id: Option<Pick>,
    pub(super) source: Option<Source>,
}

impl Reader {
    /// The event, and where it belongs.
    pub(super) fn read(
        &self,
        came: &Came,
        registry: &Registry,
        now: Timestamp,
    ) -> Result<(StreamName, Envelope), Error> {
        match &self.takes {
            Inbound::Events => self.event(came, registry, now),
            Inbound::Commands(taken) => {
                let (envelope, own_key) = self.envelope(self.parse(came)?, came, now)?;
                request::command(taken, envelope, &self.key_of(came, own_key, None)?)
            }
            Inbound::Answers => request::answer(self.envelope(self.parse(came)?, came, now)?.0),
        }
    }

    fn event(
        &self,
        came: &Came,
        registry: &Registry,
        now: Timestamp,
    ) -> Result<(StreamName, Envelope), Error> {
        let mut parsed = self.parse(came)?;
        let known = registry.get(parsed.event_type.as_str());
        let own_topic = parsed.topic.take();
        if parsed.schema_version.is_none() {
            parsed.schema_version = known.map(|known| known.info.version);
        }
        let (mut envelope, own_key) = self.envelope(parsed, came, now)?;
        let place = known.map(|known| known.check(&envelope)).transpose()?;
        let of_type = place.as_ref().map(|place| &place.stream);
        let topic = match (&self.topic, own_topic, of_type) {
            (Some(topic), _, _) => topic.clone(),
            (None, Some(own), _) => Topic::new(own)?,
            (None, None, Some(stream)) => stream.topic.clone(),
            (None, None, None) => return Err(unreadable("topic", "`topic = \"…\"`")),
        };
        let key = self.key_of(came, own_key, of_type)?;
        let stream = StreamName::new(topic, key)?;
        if stream.topic.is_reserved() {
            let message = format!("topic `{}` is written by Ensue alone", stream.topic);
            return Err(Error::new(Code::RESERVED, message));
        }
        for tag in place.map(|place| place.tags).unwrap_or_default() {
            if !envelope.tags.contains(&tag) {
                envelope.tags.push(tag);
            }
        }
        Ok((stream, envelope))
    }

    /// The envelope, and the key that the event says of itself.
    fn envelope(
        &self,
        mut parsed: Parsed,
        came: &Came,
        now: Timestamp,
    ) -> Result<(Envelope, Option<SmolStr>), Error> {
        let own_key = parsed.key_hint().map(SmolStr::new);
        self.complete(&mut parsed, came, now)?;
        let mut envelope = parsed.into_envelope()?;
        set_extension(&mut envelope, LINK, &self.link);
        Ok((envelope, own_key))
    }

    /// Where a place was said and nothing is there, only the event itself may say another key.
    fn key_of(
        &self,
        came: &Came,
        own: Option<SmolStr>,
        of_type: Option<&StreamName>,
    ) -> Result<SmolStr, Error> {
        let picked = self.key.as_ref().and_then(|pick| pick.of(came)).map(SmolStr::new);
        match (picked.or(own), &self.key) {
            (Some(key), _) => Ok(key),
            (None, Some(pick)) => {
                Err(Error::new(Code::UNREADABLE, format!("it has no key: {}", pick.absence(came))))
            }
            (None, None) => {
                let known = of_type.map(|stream| stream.key.as_str().into()).or_else(|| came.key.clone());
                known.ok_or_else(|| {
                    unreadable("key", "`key = \"field:…\"`, or have the sender give its message a key")
                })
            }
        }
    }

    fn parse(&self, came: &Came) -> Result<Parsed, Error> {
        let mut parsed = self.parse_shape(came)?;
        if let Some(said) = self.event_type.as_ref().and_then(|pick| pick.of(came)) {
            parsed.event_type = EventType::new(said)?;
        }
        Ok(parsed)
    }

    /// Recognises the shape by what only that shape has.
    fn parse_shape(&self, came: &Came) -> Result<Parsed, Error> {
        let media = came.content_type().map(|text| text.split(';').next().unwrap_or_default().trim());
        if media.is_some_and(|media| media.eq_ignore_ascii_case(json::MEDIA_TYPE)) {
            return json::parse(&came.message.body);
        }
        if media.is_some_and(|media| media.eq_ignore_ascii_case(json::BATCH_MEDIA_TYPE)) {
            let message = "the message is a batch of events, and a message is settled as one";
            return Err(
                Error::new(Code::UNREADABLE, message).with_fix("have the sender send one event a message")
            );
        }
        if let Some(binding) = self.binding_of(came) {
            return binary(binding, came);
        }
        if self.event_type.is_some() {
            return self.mapped(came);
        }
        match cloudevents::parse(&came.message.body).map(|mut all| (all.pop(), all.is_empty())) {
            Ok((Some(Incoming::Event(event)), true)) => Ok(*event),
            Ok(_) => Err(unreadable("event of its own", "`type = \"…\"`")),
            Err(error) => Err(Error::new(Code::UNREADABLE, format!("it is no event: {}", error.message()))
                .with_fix("say where its type is found: `type = \"header:…\"`, `field:…` or `const:…`")),
        }
    }

    /// The binding that the headers are written in, where they hold an event.
    fn binding_of(&self, came: &Came) -> Option<Binding> {
        let bindings = [self.binding, Binding::Kafka, Binding::Nats, Binding::Amqp];
        bindings.into_iter().find(|binding| {
            let mut names = came.texts().filter_map(|(name, _)| binding.attribute(name));
            names.any(|name| name == "specversion")
        })
    }

    /// A message of somebody who has never heard of `CloudEvents`.
    fn mapped(&self, came: &Came) -> Result<Parsed, Error> {
        let Some(pick) = &self.event_type else { return Err(unreadable("type", "`type = \"…\"`")) };
        let said = pick
            .of(came)
            .ok_or_else(|| Error::new(Code::UNREADABLE, format!("it has no type: {}", pick.absence(came))))?;
        Ok(bare(EventType::new(said)?, content_type(came)?, came.message.body.clone()))
    }

    /// Fills in what the message does not say.
    fn complete(&self, parsed: &mut Parsed, came: &Came, now: Timestamp) -> Result<(), Error> {
        if let Some(schema) = came.schema_id() {
            put(&mut parsed.extensions, SCHEMA_ID, &schema.to_string());
        }
        parsed.content_type = honest(&parsed.content_type, &parsed.data)?;
        parsed.correlation = parsed.correlation.take().or_else(|| foreign::flow(came));
        parsed.causation = parsed.causation.take().or_else(|| foreign::cause(came));
        parsed.time.get_or_insert(came.published_at.unwrap_or(now));
        if parsed.source.is_none() {
            let made = || Source::new(format!("{}:{}", self.backend, came.from));
            parsed.source = Some(self.source.clone().map_or_else(made, Ok)?);
        }
        if let Some(said) = self.id.as_ref().and_then(|pick| pick.of(came)) {
            parsed.id = Some(EventId::new(said)?);
        }
        if parsed.id.is_none() {
            let (id, from) = identify(came)?;
            put(&mut parsed.extensions, ID_FROM, from);
            parsed.id = Some(id);
        }
        Ok(())
    }
}

/// What an id is made of that the next delivery of the same message will not have.
pub(super) const DELIVERY: &str = "delivery";

/// An id that is the same when the message is delivered again, and what it is made of: the id that its sender gave it, or else
/// the place where the broker keeps it, or its first delivery; or else all of it, by which two equal messages are one.
pub(super) fn identify(came: &Came) -> Result<(EventId, &'static str), Error> {
    if let Some(id) = foreign::id(came) {
        return Ok((id, "message"));
    }
    if let Some(place) = &came.place {
        // A place is given out again where the broker's store was deleted and made anew.
        let at = came.published_at.map(|at| format!("@{at}")).unwrap_or_default();
        let made_of = if came.is_known_by_delivery() { DELIVERY } else { "place" };
        return Ok((EventId::new(format!("{place}{at}"))?, made_of));
    }
    Ok((content_id(came), "content"))
}

/// An id made of all that a message is but what may be otherwise at the next delivery: headers with `x-`, which belong to the transport,
/// and for how long the broker keeps it.
pub(super) fn content_id(came: &Came) -> EventId {
    let mut content = came.from.as_str().as_bytes().to_vec();
    let mut add = |part: &[u8]| {
        content.push(0);
        content.extend_from_slice(part);
    };
    add(came.key.as_deref().unwrap_or_default().as_bytes());
    add(came.message.content_type.as_deref().unwrap_or_default().as_bytes());
    let mut headers: Vec<_> = came.message.headers.iter().collect();
    headers.sort();
    let is_of_transport = |name: &str| name.to_ascii_lowercase().starts_with("x-") || name == EXPIRATION;
    for (name, value) in headers.into_iter().filter(|(name, _)| !is_of_transport(name)) {
        add(name.as_bytes());
        add(value);
    }
    add(&came.message.body);
    EventId::from_uuid(uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, &content))
}

fn binary(binding: Binding, came: &Came) -> Result<Parsed, Error> {
    let content_type = match binding {
        Binding::Nats => None,
        _ => came.content_type(),
    };
    let parsed = binding.read(came.texts(), content_type, came.message.body.clone())?;
    let is_named = content_type.is_some()
        || came.texts().any(|(name, _)| binding.attribute(name).as_deref() == Some("datacontenttype"));
    if is_named || came.schema_id().is_none() {
        return Ok(parsed);
    }
    Ok(Parsed { content_type: ContentType::new(OCTETS)?, ..parsed })
}

const OCTETS: &str = "application/octet-stream";

/// What the body of a foreign message is. Where nobody says it, it is JSON if it reads as JSON.
fn content_type(came: &Came) -> Result<ContentType, Error> {
    match came.content_type() {
        Some(said) => ContentType::new(said),
        None if came.schema_id().is_none() && came.json().is_some() => Ok(ContentType::json()),
        None => ContentType::new(OCTETS),
    }
}

/// What is called JSON must be JSON, because whoever reads the log relies on it; the one exception is the wire format of
/// Confluent's serializers, whose content is JSON and whose bytes are not.
fn honest(content_type: &ContentType, data: &Bytes) -> Result<ContentType, Error> {
    if !content_type.is_json() || data.is_empty() {
        return Ok(content_type.clone());
    }
    if data.first() == Some(&0) {
        return ContentType::new(OCTETS);
    }
    json::check(data).map(|()| content_type.clone())
}

fn bare(event_type: EventType, content_type: ContentType, data: Bytes) -> Parsed {
    Parsed {
        id: None,
        source: None,
        event_type,
        schema_version: None,
        time: None,
        correlation: None,
        causation: None,
        trace: None,
        tags: Vec::new(),
        extensions: Vec::new(),
        content_type,
        data,
        subject: None,
        partition_key: None,
        topic: None,
        position: None,
        stream_version: None,
        recorded_at: None,
    }
}

fn put(extensions: &mut Vec<(SmolStr, SmolStr)>, name: &str, value: &str) {
    extensions.retain(|(known, _)| known != name);
    let at = extensions.partition_point(|(known, _)| known.as_str() < name);
    extensions.insert(at, (name.into(), value.into()));
}

fn unreadable(what: &str, fix: &str) -> Error {
    Error::new(Code::UNREADABLE, format!("it has no {what}, and the link does not say one"))
        .with_fix(format!("configure the intake with {fix}"))
}

#[cfg(test)]
mod tests {
    use ensue_core::Channel;
    use ensue_core::bus::Message;

    use super::*;

    fn id(headers: &[(&str, &str)], body: &str) -> EventId {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), Bytes::from((*value).to_owned())));
        let message =
            Message { headers: headers.collect(), content_type: None, body: Bytes::from(body.to_owned()) };
        let from = Channel::new("orders").expect("a valid name");
        let (id, made_of) = identify(&Came::new(from, None, None, None, message)).expect("an id");
        assert_eq!(made_of, "content");
        id
    }

    #[test]
    fn messages_that_differ_in_a_header_are_not_the_same_message() {
        let placed = id(&[("amqp:expiration", "60000"), ("event_type", "placed"), ("till", "4")], "{}");
        assert_ne!(placed, id(&[("event_type", "cancelled"), ("till", "4")], "{}"));
        assert_ne!(placed, id(&[("event_type", "placed"), ("till", "4")], "[]"));
        let again = [("till", "4"), ("x-delivery-count", "2"), ("event_type", "placed")];
        assert_eq!(placed, id(&again, "{}"), "delivered again, it is the same");
    }
}
