//! What a saga awaits: commands, local effects, events and time.
//!
//! Before the point of no return every step says how it is undone, or that there is nothing to undo: until it has, it
//! cannot be awaited, because [`Undecided`] steps are no futures.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::time::Duration;

use bytes::Bytes;
use ensue_core::event::to_json;
use ensue_core::outcome::handler_error;
use ensue_core::{BoxFuture, Code, Command, Error, Event, event};
use serde::Serialize;
use serde::de::DeserializeOwned;
use smol_str::SmolStr;

use super::journal::{CommandBody, StepOutcome, raw, text};
use super::script::{Effect, Request, Script, Terms};

/// A step that has not said yet how it is undone.
pub struct Undecided;
/// A step that has.
pub struct Decided;

type Undo = Box<dyn FnOnce(&[u8]) -> Result<Option<CommandBody>, Error> + Send>;

/// Why a step did not succeed. Returned from the saga with `?`, it starts the compensation.
#[derive(Clone, Debug)]
pub struct SagaError {
    error: Error,
    refusal: Option<Bytes>,
}

impl SagaError {
    /// What went wrong.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The typed failure with which a command was refused, if it was, and if it is of this type.
    pub fn refusal<F: DeserializeOwned>(&self) -> Option<F> {
        serde_json::from_slice(self.refusal.as_ref()?).ok()
    }

    /// Whether it was a time-out: the outcome of the step may be unknown.
    pub fn is_deadline(&self) -> bool {
        self.error.code() == Code::SAGA_DEADLINE
    }

    fn of(step: &str, outcome: StepOutcome) -> Self {
        match outcome {
            StepOutcome::Refused(body) => Self {
                error: Error::new(
                    Code::SAGA_STEP_FAILED,
                    format!("step `{step}` was refused: {}", reason_of(&body)),
                ),
                refusal: Some(body),
            },
            StepOutcome::Failed(code, reason) => Self {
                error: Error::new(code.parse().unwrap_or(Code::SAGA_STEP_FAILED), reason),
                refusal: None,
            },
            StepOutcome::Done(_) | StepOutcome::Received(..) => {
                unreachable!("a step that is done is no error")
            }
        }
    }
}

impl From<Error> for SagaError {
    fn from(error: Error) -> Self {
        Self { error, refusal: None }
    }
}

impl fmt::Display for SagaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for SagaError {}

/// A command to be sent. What it resolves to is journaled; the command is sent once, however often the saga is replayed.
#[must_use = "a step does nothing until it is awaited"]
pub struct SendStep<C: Command, U> {
    pub(super) script: Script,
    pub(super) name: String,
    pub(super) command: C,
    pub(super) terms: Terms,
    pub(super) undo: Option<Undo>,
    pub(super) decided: PhantomData<U>,
}

impl<C: Command, U> SendStep<C, U> {
    /// Sends the command again, with the same idempotency key, when no answer came within the time of
    /// [`within`](Self::within). A refusal is an answer and is not tried again.
    pub fn retry(mut self, retries: u32) -> Self {
        self.terms.retries = retries;
        self
    }

    /// How long one attempt may take; then it is a time-out, and its outcome unknown. An answer that comes later is still
    /// undone.
    pub fn within(mut self, within: Duration) -> Self {
        self.terms.within = Some(within);
        self
    }

    /// How to undo it, as a command made from the reply and journaled with it.
    pub fn undo<X: Command>(
        self,
        undo: impl FnOnce(&C::Reply) -> X + Send + 'static,
    ) -> SendStep<C, Decided> {
        let undo: Undo = Box::new(move |reply| command_body(&undo(&decode(reply)?)).map(Some));
        SendStep { undo: Some(undo), ..self.decide() }
    }

    /// There is nothing to undo.
    pub fn nothing_to_undo(self) -> SendStep<C, Decided> {
        self.decide()
    }

    /// The point of no return: once it has succeeded, the saga only goes forward.
    pub fn pivot(mut self) -> SendStep<C, Decided> {
        self.terms.pivot = true;
        self.decide()
    }

    /// Tried until it succeeds, refusals included; for steps after the pivot.
    pub fn until_done(mut self) -> SendStep<C, Decided> {
        self.terms.until_done = true;
        self.decide()
    }

    fn decide(self) -> SendStep<C, Decided> {
        let Self { script, name, command, terms, undo, .. } = self;
        SendStep { script, name, command, terms, undo, decided: PhantomData }
    }
}

impl<C: Command> IntoFuture for SendStep<C, Decided> {
    type Output = Result<C::Reply, SagaError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let request = Request::Command(command_body(&self.command)?);
            finish(&self.script, &self.name, request, self.terms, self.undo).await
        })
    }
}

/// An effect that the saga makes itself, inline.
#[must_use = "a step does nothing until it is awaited"]
pub struct LocalStep<T, U> {
    pub(super) script: Script,
    pub(super) name: String,
    pub(super) effect: Effect,
    pub(super) terms: Terms,
    pub(super) undo: Option<Undo>,
    pub(super) of: PhantomData<(fn() -> T, U)>,
}

impl<T: Serialize + DeserializeOwned + Send + 'static> LocalStep<T, Undecided> {
    pub(super) fn new<F, Fut, E>(script: Script, name: &str, effect: F) -> Self
    where
        F: FnOnce(String) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let effect: Effect = Box::new(move |key| {
            let running = effect(key);
            Box::pin(async move { to_json("the result of a step", &running.await.map_err(handler_error)?) })
        });
        Self { script, name: name.to_owned(), effect, terms: Terms::default(), undo: None, of: PhantomData }
    }
}

impl<T: Serialize + DeserializeOwned + Send + 'static, U> LocalStep<T, U> {
    /// Attempts beyond the first, with growing pauses, when the effect fails.
    pub fn retry(mut self, retries: u32) -> Self {
        self.terms.retries = retries;
        self
    }

    /// How to undo it, as a command made from the result and journaled with it.
    pub fn undo<X: Command>(self, undo: impl FnOnce(&T) -> X + Send + 'static) -> LocalStep<T, Decided> {
        let undo: Undo = Box::new(move |result| command_body(&undo(&decode(result)?)).map(Some));
        LocalStep { undo: Some(undo), ..self.decide() }
    }

    /// There is nothing to undo.
    pub fn nothing_to_undo(self) -> LocalStep<T, Decided> {
        self.decide()
    }

    /// The point of no return: once it has succeeded, the saga only goes forward.
    pub fn pivot(mut self) -> LocalStep<T, Decided> {
        self.terms.pivot = true;
        self.decide()
    }

    /// Tried until it succeeds; for steps after the pivot.
    pub fn until_done(mut self) -> LocalStep<T, Decided> {
        self.terms.until_done = true;
        self.decide()
    }

    fn decide(self) -> LocalStep<T, Decided> {
        let Self { script, name, effect, terms, undo, .. } = self;
        LocalStep { script, name, effect, terms, undo, of: PhantomData }
    }
}

impl<T: Serialize + DeserializeOwned + Send + 'static> IntoFuture for LocalStep<T, Decided> {
    type Output = Result<T, SagaError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            finish(&self.script, &self.name, Request::Local(self.effect), self.terms, self.undo).await
        })
    }
}

/// An event that the saga waits for.
#[must_use = "a wait does nothing until it is awaited"]
pub struct Wait<E> {
    pub(super) script: Script,
    pub(super) name: String,
    pub(super) key: String,
    pub(super) terms: Terms,
    pub(super) of: PhantomData<fn() -> E>,
}

impl<E: Event> Wait<E> {
    /// How long to wait; then it is a time-out.
    pub fn within(mut self, within: Duration) -> Self {
        self.terms.within = Some(within);
        self
    }
}

impl<E: Event> IntoFuture for Wait<E> {
    type Output = Result<E, SagaError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (event_type, topic) = (E::INFO.event_type.to_owned(), E::INFO.topic.to_owned());
            let request = Request::Wait { event_type, topic, key: self.key };
            match outcome(&self.script, &self.name, request, self.terms, None).await? {
                (_, StepOutcome::Received(version, body)) => Ok(event::decode_version(version, &body)?),
                (step, failed) => Err(SagaError::of(&step, failed)),
            }
        })
    }
}

/// A pause of the saga.
#[must_use = "a sleep does nothing until it is awaited"]
pub struct Sleep {
    pub(super) script: Script,
    pub(super) name: String,
    pub(super) duration: Duration,
}

impl IntoFuture for Sleep {
    type Output = Result<(), SagaError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            finish(&self.script, &self.name, Request::Sleep(self.duration), Terms::default(), None).await
        })
    }
}

/// Asks for the operation and decodes its result.
async fn finish<T: DeserializeOwned>(
    script: &Script,
    name: &str,
    request: Request,
    terms: Terms,
    undo: Option<Undo>,
) -> Result<T, SagaError> {
    match outcome(script, name, request, terms, undo).await? {
        (_, StepOutcome::Done(body)) => Ok(decode(&body)?),
        (step, failed) => Err(SagaError::of(&step, failed)),
    }
}

/// Asks for the operation; goes on only when the journal has its outcome.
async fn outcome(
    script: &Script,
    name: &str,
    request: Request,
    terms: Terms,
    undo: Option<Undo>,
) -> Result<(SmolStr, StepOutcome), SagaError> {
    let (step, outcome) = script.ask(name, request, terms);
    let Some(outcome) = outcome else { return std::future::pending().await };
    script.succeeded(&step, terms, |reply| undo.map_or(Ok(None), |undo| undo(reply)))?;
    Ok((step, outcome))
}

/// A refusal for people: its `reason`, where it has one, or all of it.
fn reason_of(refusal: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Reasoned {
        reason: String,
    }
    serde_json::from_slice::<Reasoned>(refusal).map_or_else(|_| text(refusal), |reasoned| reasoned.reason)
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|cause| {
        Error::new(Code::INVALID_BODY, format!("the journaled result does not decode: {cause}"))
    })
}

fn command_body<C: Command>(command: &C) -> Result<CommandBody, Error> {
    let body = raw(&to_json(C::TYPE, command)?)?;
    Ok(CommandBody { command_type: C::TYPE.to_owned(), key: command.key(), body })
}
