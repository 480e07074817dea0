//! What a handler can ask for besides its event: extractors.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ensue_core::{Code, Envelope, Error, EventId, Host, Position, Recorded, StreamName, Timestamp, Version};

use crate::message;

/// Shared values by type, as given to [`App::state`](crate::App::state).
pub(crate) type States = HashMap<TypeId, Box<dyn Any + Send + Sync>>;

/// One delivery, as extractors see it.
pub struct Context {
    pub(crate) states: Arc<States>,
    pub(crate) recorded: Recorded,
    pub(crate) handler: String,
    pub(crate) attempt: u32,
    pub(crate) deadline: Timestamp,
    pub(crate) host: Host,
    /// What `Tx` gives the handler, where it asks for it.
    pub(crate) session: Option<Box<dyn Any + Send + Sync>>,
}

/// A value that a handler takes as an argument before its event.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler",
    note = "arguments are extractors (`State<T>`, `Meta`, `Cause`, `Flow`, `Attempt`, `Deadline`, `Tx<T>`), then one event or command"
)]
pub trait FromContext: Sized + Send {
    /// Whether it needs the transaction in which the delivery is settled.
    #[doc(hidden)]
    const JOINS: bool = false;

    /// Takes the value out of the delivery. An error counts as a failed attempt.
    fn from_context(context: &Context) -> Result<Self, Error>;
}

/// A shared value given to [`App::state`](crate::App::state), looked up by its type.
pub struct State<T>(pub T);

impl<T: Clone + Send + Sync + 'static> FromContext for State<T> {
    fn from_context(context: &Context) -> Result<Self, Error> {
        lookup::<T>(&context.states).map(State)
    }
}

pub(crate) fn lookup<T: Clone + Send + Sync + 'static>(states: &States) -> Result<T, Error> {
    let found = states.get(&TypeId::of::<T>()).and_then(|value| value.downcast_ref::<T>());
    found.cloned().ok_or_else(|| {
        Error::new(
            Code::NO_STATE,
            format!("no state of type {} was given to the application", type_name::<T>()),
        )
        .with_fix("add `.state(value)` with a value of this type where the application is built")
    })
}

/// Everything about the event but its body.
#[derive(Clone, Debug)]
pub struct Meta {
    /// Its place in the log.
    pub position: Position,
    /// Its stream.
    pub stream: StreamName,
    /// Its place in the stream.
    pub version: Version,
    /// When the store took it.
    pub recorded_at: Timestamp,
    /// The attributes.
    pub envelope: Envelope,
}

impl From<&Recorded> for Meta {
    fn from(recorded: &Recorded) -> Self {
        Self {
            position: recorded.position,
            stream: recorded.stream.clone(),
            version: recorded.version,
            recorded_at: recorded.recorded_at,
            envelope: recorded.envelope.clone(),
        }
    }
}

impl From<Recorded> for Meta {
    fn from(recorded: Recorded) -> Self {
        let Recorded { position, stream, version, recorded_at, envelope } = recorded;
        Self { position, stream, version, recorded_at, envelope }
    }
}

impl FromContext for Meta {
    fn from_context(context: &Context) -> Result<Self, Error> {
        Ok(Self::from(&context.recorded))
    }
}

/// What this delivery answers to; gives the key under which effects outside the store are made once.
#[derive(Clone, Debug)]
pub struct Cause {
    event: EventId,
    key: String,
}

impl Cause {
    /// The id of the event or command being handled.
    pub fn id(&self) -> &EventId {
        &self.event
    }

    /// The same text each time this delivery is repeated: pass it to whatever you call, so that it takes effect once.
    pub fn idempotency_key(&self) -> String {
        self.key.clone()
    }
}

impl FromContext for Cause {
    fn from_context(context: &Context) -> Result<Self, Error> {
        let envelope = &context.recorded.envelope;
        let key = match message::extension(envelope, message::IDEMPOTENCY_KEY) {
            Some(key) => key.to_owned(),
            None => format!("{}/{}", context.handler, envelope.id),
        };
        Ok(Self { event: envelope.id.clone(), key })
    }
}

/// The flow this delivery belongs to.
#[derive(Clone, Debug)]
pub struct Flow(pub EventId);

impl FromContext for Flow {
    fn from_context(context: &Context) -> Result<Self, Error> {
        Ok(Self(context.recorded.envelope.flow().clone()))
    }
}

/// Which attempt at this delivery it is, from 1.
#[derive(Clone, Copy, Debug)]
pub struct Attempt(pub u32);

impl FromContext for Attempt {
    fn from_context(context: &Context) -> Result<Self, Error> {
        Ok(Self(context.attempt))
    }
}

/// How long this attempt may still take before it is cancelled.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub Duration);

impl FromContext for Deadline {
    fn from_context(context: &Context) -> Result<Self, Error> {
        let left = context.deadline.duration_since(context.host.clock.now());
        Ok(Self(Duration::try_from(left).unwrap_or_default()))
    }
}
