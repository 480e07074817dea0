//! Messages that cannot be read: kept as they came, as events that only Ensue writes, and read again by a subscription of the
//! intake. What it cannot read is a dead letter like any other: shown, redriven when the configuration has been mended,
//! discarded.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use ensue_core::bus::Message;
use ensue_core::{
    BoxFuture, Channel, Code, ContentType, Envelope, Error, EventId, EventType, Failure, Key, Recorded,
    Source, StreamName, Timestamp, Topic,
};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::batch::effects_of;
use super::came::Came;
use super::read::{Reader, content_id, identify};
use crate::door::Door;
use crate::message::{extension, set_extension};
use crate::subscription::{Handled, Handler, Shared};

/// The type of the events that hold such messages.
pub(super) const UNREADABLE: &str = "ensue.MessageUnreadable";
/// Extension attributes of these events: everything of a message but its body, which is the data.
const MESSAGE: &str = "message";
const REASON: &str = "reason";

/// The topic of an intake's unreadable messages.
pub(super) fn topic(intake: &str) -> Result<Topic, Error> {
    Topic::new(format!("ensue.{intake}"))
}

/// A longer id is not made a part of what is kept.
const ID_BYTES_MAX: usize = 256;

/// What is kept beside the body.
#[derive(Serialize, Deserialize)]
struct Kept {
    from: Channel,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<SmolStr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<SmolStr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    published_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<SmolStr>,
    headers: Vec<(SmolStr, Value)>,
}

/// The value of a header: text, or the bytes of what is no text in hexadecimal digits.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Value {
    Text(SmolStr),
    Hex(String),
}

impl Value {
    fn of(bytes: &Bytes) -> Self {
        std::str::from_utf8(bytes).map_or_else(|_| Self::Hex(hex(bytes)), |text| Self::Text(text.into()))
    }

    fn bytes(&self) -> Option<Bytes> {
        match self {
            Self::Text(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
            Self::Hex(digits) => unhex(digits),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

fn unhex(digits: &str) -> Option<Bytes> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect::<Option<Vec<u8>>>()
        .map(Bytes::from)
}

/// The event that keeps a message.
pub(super) fn keep(
    came: &Came,
    intake: &str,
    reason: &Error,
    now: Timestamp,
) -> Result<(StreamName, Envelope), Error> {
    let id = kept_id(came, reason)?;
    let key = came.key.as_deref().and_then(|key| Key::new(key).ok());
    let key = key.map_or_else(|| plain_key(id.as_str()), Ok)?;
    let is_json = serde_json::from_slice::<serde_json::Value>(&came.message.body).is_ok();
    let content_type =
        if is_json { ContentType::json() } else { ContentType::new("application/octet-stream")? };
    let mut envelope = Envelope {
        id,
        source: Source::new(format!("{intake}:{}", came.from))?,
        event_type: EventType::new(UNREADABLE)?,
        schema_version: 1,
        time: came.published_at.unwrap_or(now),
        correlation: None,
        causation: None,
        trace: None,
        tags: Vec::new(),
        extensions: Vec::new(),
        content_type,
        data: came.message.body.clone(),
    };
    let kept = Kept {
        from: came.from.clone(),
        key: came.key.clone(),
        place: came.place.clone(),
        published_at: came.published_at,
        content_type: came.message.content_type.clone(),
        headers: came.message.headers.iter().map(|(name, value)| (name.clone(), Value::of(value))).collect(),
    };
    let kept = serde_json::to_string(&kept).map_err(|cause| {
        Error::new(Code::UNREADABLE, format!("what came with the message cannot be kept: {cause}"))
    })?;
    set_extension(&mut envelope, MESSAGE, &kept);
    set_extension(&mut envelope, REASON, &one_line(reason));
    Ok((StreamName { topic: topic(intake)?, key }, envelope))
}

/// The id that its sender gave it, unless that is what is wrong: several messages may have come under one, or it may be longer than what
/// is remembered.
fn kept_id(came: &Came, reason: &Error) -> Result<EventId, Error> {
    let (id, _) = identify(came)?;
    let is_usable = reason.code() != Code::DUPLICATE_ID && id.as_str().len() <= ID_BYTES_MAX;
    Ok(if is_usable { id } else { content_id(came) })
}

/// Ids may hold what keys may not.
fn plain_key(id: &str) -> Result<Key, Error> {
    Key::new(id.replace('/', "_").chars().take(100).collect::<String>())
}

fn one_line(error: &Error) -> String {
    error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The message that an event keeps.
fn kept(envelope: &Envelope) -> Result<Came, Error> {
    let broken = |why: &str| {
        Error::new(Code::CORRUPT, format!("the message in {} cannot be read: {why}", envelope.id))
    };
    let text = extension(envelope, MESSAGE).ok_or_else(|| broken("it is not there"))?;
    let kept: Kept = serde_json::from_str(text).map_err(|cause| broken(&cause.to_string()))?;
    let headers = kept.headers.into_iter().map(|(name, value)| Some((name, value.bytes()?)));
    let headers =
        headers.collect::<Option<Vec<_>>>().ok_or_else(|| broken("a header is no hexadecimal text"))?;
    let message = Message { headers, content_type: kept.content_type, body: envelope.data.clone() };
    Ok(Came::new(kept.from, kept.key, kept.place, kept.published_at, message))
}

/// Reads again what could not be read.
pub(super) struct Rereading {
    pub(super) reader: Reader,
    pub(super) topic: Topic,
    pub(super) event_type: EventType,
    pub(super) door: Door,
    pub(super) shared: Arc<Shared>,
}

impl Rereading {
    async fn handle(&self, recorded: &Recorded) -> Result<crate::effects::Effects, Failure> {
        let came = kept(&recorded.envelope).map_err(Failure::Rejected)?;
        let now = recorded.envelope.time;
        let read = self.reader.read(&came, &self.shared.registry, now);
        let (stream, mut envelope) = read.map_err(Failure::Rejected)?;
        if self.shared.links.log.get().is_some_and(|log| !self.reader.takes.is_for(log, &envelope)) {
            return Ok(crate::effects::Effects::default());
        }
        self.shared.inline.refuse(envelope.event_type.as_str()).map_err(Failure::Rejected)?;
        envelope.causation.get_or_insert_with(|| recorded.envelope.id.clone());
        effects_of(&self.door, stream, envelope).await.map_err(|error| {
            if error.is_retryable() { Failure::Failed(error) } else { Failure::Rejected(error) }
        })
    }
}

impl Handler for Rereading {
    fn types(&self) -> Vec<EventType> {
        vec![self.event_type.clone()]
    }

    fn topic(&self) -> Option<&Topic> {
        Some(&self.topic)
    }

    fn prepare(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { super::log_id::LogId::of(&self.shared).await.map(drop) })
    }

    fn work<'a>(&'a self, batch: &'a [Recorded], _attempt: u32) -> BoxFuture<'a, Handled> {
        Box::pin(async move {
            let mut done = Handled::default();
            // One at a time: two of a batch may be one message.
            let Some(recorded) = batch.first() else { return done };
            match self.handle(recorded).await {
                Ok(effects) => (done.effects, done.count) = (effects, 1),
                Err(failure) => done.failure = Some(failure),
            }
            done
        })
    }
}
