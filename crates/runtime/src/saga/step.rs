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

use super::journal::{CommandBody, StepOutcome, raw, reason_of};
use super::script::{Effect, IfUnknown, Order, Request, Script, Terms};

/// A step that has not said yet how it is undone.
pub struct Undecided;
/// A step that has.
pub struct Decided;

pub(super) type Undo = Box<dyn FnOnce(&[u8]) -> Result<Option<CommandBody>, Error> + Send>;

/// Why a step did not succeed. Returned from the saga with `?`, it starts the compensation.
#[derive(Clone, Debug)]
pub struct SagaError {
    error: Error,
    refusal: Option<Bytes>,
    step: Option<SmolStr>,
    others: Vec<SagaError>,
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

    /// The step that failed, if it was one.
    pub fn step(&self) -> Option<&str> {
        self.step.as_deref()
    }

    /// What else went wrong, where steps were taken together.
    pub fn others(&self) -> &[SagaError] {
        &self.others
    }

    /// Several failures as one: the first, which says all of it, with the others.
    pub(super) fn together(mut failures: Vec<Self>) -> Option<Self> {
        if failures.len() < 2 {
            return failures.pop();
        }
        let said: Vec<&str> = failures.iter().map(|failure| failure.error.message()).collect();
        let said = said.join("; ");
        let others = failures.split_off(1);
        let first = failures.pop()?;
        Some(Self { error: Error::new(first.error.code(), said), others, ..first })
    }

    fn of(step: &str, outcome: StepOutcome) -> Self {
        let name = Some(SmolStr::from(step));
        match outcome {
            StepOutcome::Refused(body) => Self {
                error: Error::new(
                    Code::SAGA_STEP_FAILED,
                    format!("step `{step}` was refused: {}", reason_of(&body)),
                ),
                refusal: Some(body),
                step: name,
                others: Vec::new(),
            },
            StepOutcome::Failed(code, reason) => Self {
                error: Error::new(code.parse().unwrap_or(Code::SAGA_STEP_FAILED), reason),
                refusal: None,
                step: name,
                others: Vec::new(),
            },
            StepOutcome::Done(_) | StepOutcome::Received(..) => {
                unreachable!("a step that is done is no error")
            }
        }
    }
}

impl From<Error> for SagaError {
    fn from(error: Error) -> Self {
        Self { error, refusal: None, step: None, others: Vec::new() }
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
    pub(super) if_unknown: OnTimeOut<C>,
    pub(super) decided: PhantomData<U>,
}

/// From the command itself, the one that undoes it.
type UndoOf<C> = Box<dyn FnOnce(&C) -> Result<CommandBody, Error> + Send>;

/// What becomes of a command whose outcome is unknown.
pub(super) enum OnTimeOut<C> {
    UndoLate,
    Ask,
    Undo(UndoOf<C>),
}

impl<C> OnTimeOut<C> {
    fn of(self, command: &C) -> Result<IfUnknown, Error> {
        Ok(match self {
            Self::UndoLate => IfUnknown::UndoLate,
            Self::Ask => IfUnknown::Ask,
            Self::Undo(undo) => IfUnknown::Undo(undo(command)?),
        })
    }
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

    /// When no answer came in time, the outcome is unknown: let a person say what became of it. The instance stops with
    /// `E0607` and goes on by itself if the answer comes after all.
    pub fn ask_if_unknown(mut self) -> Self {
        self.if_unknown = OnTimeOut::Ask;
        self
    }

    /// When no answer came in time, the outcome is unknown: undo it at once as if it were done, with a command made from the
    /// step's own. If it succeeds after that, it is undone once more, under another idempotency key.
    pub fn undo_if_unknown<X: Command>(mut self, undo: impl FnOnce(&C) -> X + Send + 'static) -> Self {
        self.if_unknown = OnTimeOut::Undo(Box::new(move |command| command_body(&undo(command))));
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
        let Self { script, name, command, terms, undo, if_unknown, .. } = self;
        SendStep { script, name, command, terms, undo, if_unknown, decided: PhantomData }
    }
}

impl<C: Command> IntoFuture for SendStep<C, Decided> {
    type Output = Result<C::Reply, SagaError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let if_unknown = self.if_unknown.of(&self.command)?;
            let request = Request::Command(Order { command: command_body(&self.command)?, if_unknown });
            finish(&self.script, &self.name, request, self.terms, self.undo, result).await
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
            finish(&self.script, &self.name, Request::Local(self.effect), self.terms, self.undo, result).await
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
            finish(&self.script, &self.name, request, self.terms, None, received).await
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
            finish(&self.script, &self.name, Request::Sleep(self.duration), Terms::default(), None, result)
                .await
        })
    }
}

/// Asks for the operation; goes on only when the journal has its outcome.
pub(super) async fn finish<T>(
    script: &Script,
    name: &str,
    request: Request,
    terms: Terms,
    undo: Option<Undo>,
    read: fn(&StepOutcome) -> Result<Option<T>, Error>,
) -> Result<T, SagaError> {
    let (step, outcome) = script.ask(name, request, terms);
    let Some(outcome) = outcome else { return std::future::pending().await };
    let undone_by = |reply: &[u8]| undo.map_or(Ok(None), |undo| undo(reply));
    let result = read(&outcome);
    match result.and_then(|result| script.succeeded(&step, terms, undone_by).map(|()| result)) {
        Ok(Some(result)) => Ok(result),
        Ok(None) => Err(SagaError::of(&step, outcome)),
        Err(error) => {
            // The step has succeeded, so this is no failure to undo: the instance stops here, for a person.
            script.does_not_decode(&step, &error);
            std::future::pending().await
        }
    }
}

/// The result of a step that was done; `None` for one that was not.
pub(super) fn result<T: DeserializeOwned>(outcome: &StepOutcome) -> Result<Option<T>, Error> {
    match outcome {
        StepOutcome::Done(body) => decode(body).map(Some),
        _ => Ok(None),
    }
}

/// The event of a wait. One that was given by hand is of the newest version.
fn received<E: Event>(outcome: &StepOutcome) -> Result<Option<E>, Error> {
    match outcome {
        StepOutcome::Received(version, body) => event::decode_version(*version, body).map(Some),
        StepOutcome::Done(body) => event::decode_version(E::INFO.version, body).map(Some),
        _ => Ok(None),
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|cause| {
        Error::new(Code::INVALID_BODY, format!("the journaled result does not decode: {cause}"))
    })
}

fn command_body<C: Command>(command: &C) -> Result<CommandBody, Error> {
    let body = raw(&to_json(C::TYPE, command)?)?;
    Ok(CommandBody { command_type: C::TYPE.into(), key: command.key().into(), body })
}
