//! Sagas: durable workflows over journaled, named steps, undone in reverse order when one fails.
//!
//! A saga is an async function. An instance that waits is not in memory: its journal is replayed when a reply, an event
//! or a timer arrives, and replay answers every step that is on record without doing it again. One lane runs an
//! instance at a time, and everything a turn changes is one commit.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ensue_core::{
    BoxFuture, Command, Draft, Emits, Envelope, Error, Event, EventInfo, Recorded, StreamName, Timestamp,
    event,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use smol_str::SmolStr;

use crate::command::Answer;
use crate::context::{Context, FromContext};
use crate::timer::Timer;

mod check;
mod child;
mod handler;
pub mod head;
mod journal;
mod local;
mod operations;
mod script;
mod step;
mod together;
mod turn;

pub(crate) use check::Replayer;
pub use check::{Histories, Misfit, SagaCheck};
pub use child::ChildStep;
pub(crate) use handler::SagaHandler;
pub use head::{Difference, Requested, SagaHead, SagaStatus};
pub(crate) use local::Sagas;
pub use operations::{Operations, Request};
pub use step::{Decided, LocalStep, SagaError, SendStep, Sleep, Undecided, Wait};

pub use together::Together;

use journal::Entry;
use script::{Script, Terms};
use step::OnTimeOut;

/// What a saga works with: the event that started it, and its operations.
pub struct Saga<I> {
    input: Arc<I>,
    key: Arc<str>,
    script: Script,
    /// When this turn is worked out.
    now: Timestamp,
}

impl<I> Clone for Saga<I> {
    fn clone(&self) -> Self {
        let (input, key, script) = (Arc::clone(&self.input), Arc::clone(&self.key), self.script.clone());
        Self { input, key, script, now: self.now }
    }
}

impl<I> Saga<I> {
    /// The event that started this instance.
    pub fn input(&self) -> Arc<I> {
        Arc::clone(&self.input)
    }

    /// The instance's key: that of the event that started it.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Sends a command to its handler and gives the reply.
    pub fn send<C: Command>(&self, name: &str, command: C) -> SendStep<C, Undecided> {
        SendStep {
            script: self.script.clone(),
            name: name.to_owned(),
            command,
            terms: Terms::default(),
            undo: None,
            if_unknown: OnTimeOut::UndoLate,
            decided: PhantomData,
        }
    }

    /// Takes steps together: all are begun in one commit, and all are waited for. If some fail, the error is that of the first,
    /// with the [others](SagaError::others); those that succeeded are undone like every step. A branch of more than one step
    /// is a saga of its own: see [`Saga::child`].
    pub async fn all<S: Together>(&self, steps: S) -> Result<S::Output, SagaError> {
        steps.together().await
    }

    /// Starts an instance of another saga, with the event that starts it, and waits for its end. The event is handed to that
    /// saga alone; nobody else sees it. When this saga goes back, the other one does too.
    pub fn child<E: Event>(&self, name: &str, saga: &str, event: &E) -> ChildStep<serde::de::IgnoredAny> {
        ChildStep::new(self.script.clone(), name, saga, event)
    }

    /// Makes an effect inline. The function gets the step's idempotency key, the same each time the step is repeated. A
    /// crash inside it means "maybe done": it is called again with the same key.
    pub fn step<F, Fut, T, E>(&self, name: &str, effect: F) -> LocalStep<T, Undecided>
    where
        F: FnOnce(String) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        LocalStep::new(self.script.clone(), name, effect)
    }

    /// Waits for an event with this key, recorded after the event that started the saga. Each event satisfies one wait.
    pub fn wait_for<E: Event>(&self, key: &str) -> Wait<E> {
        let name = format!("wait-{}", E::INFO.event_type);
        Wait {
            script: self.script.clone(),
            name,
            key: key.to_owned(),
            terms: Terms::default(),
            of: PhantomData,
        }
    }

    /// Which branch of a change this instance takes. Code that is changed while instances are running asks here: an instance that
    /// had gone past this place before gets zero, the old branch; one that comes here for the first time gets `newest`, and
    /// keeps it, whatever `newest` is later. Call it where the branches part, before the first operation that differs.
    ///
    /// ```text
    /// if saga.version("check-fraud", 1) >= 1 {
    ///     saga.send("check", CheckFraud::of(&order)).nothing_to_undo().await?;
    /// }
    /// ```
    pub fn version(&self, change: &str, newest: u32) -> u32 {
        self.script.version(change, newest)
    }

    /// The time that the whole instance may take up to its point of no return, from the first time it comes here; then it
    /// fails with `E0603` and everything is undone. Past that point it only goes forward, and the deadline does not hold.
    pub fn deadline(&self, within: Duration) {
        self.script.deadline(self.now + within);
    }

    /// Waits for time to pass.
    pub fn sleep(&self, name: &str, duration: Duration) -> Sleep {
        Sleep { script: self.script.clone(), name: name.to_owned(), duration }
    }
}

/// The code of a saga while it is replayed.
pub(crate) type Code = BoxFuture<'static, Result<Vec<Draft>, SagaError>>;

/// A saga function, generics erased: from the journal's script, the event that started it, and the delivery that woke
/// it.
pub(crate) type Run = Arc<dyn Fn(Script, &Envelope, &str, &Context) -> Result<Code, Error> + Send + Sync>;

/// An async function that takes a [`Saga`], then extractors, and returns the events it ends with.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a saga",
    note = "a saga is an async function; its arguments are `Saga<E>` of the event that starts it, then extractors",
    note = "its result is `Result<T, SagaError>`, where `T` is an event, `()`, `Option`, `Vec`, a tuple or a `#[derive(Emits)]` enum"
)]
pub trait SagaFn<Args>: Send + Sync + Sized + 'static {
    /// The event that starts an instance.
    fn starts() -> EventInfo;

    /// The events that can come out at the end.
    fn causes() -> Vec<EventInfo>;

    #[doc(hidden)]
    fn begin(&self, begin: Begin<'_>) -> Result<BoxFuture<'static, Result<Vec<Draft>, SagaError>>, Error>;
}

/// What a saga is begun with; opaque.
pub struct Begin<'a> {
    script: Script,
    start: &'a Envelope,
    key: &'a str,
    context: &'a Context,
}

macro_rules! saga_fn {
    ($($extractor:ident $value:ident)*) => {
        impl<F, Fut, I, O, $($extractor),*> SagaFn<(I, $($extractor,)*)> for F
        where
            F: Fn(Saga<I> $(, $extractor)*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<O, SagaError>> + Send + 'static,
            I: Event,
            O: Emits,
            $($extractor: FromContext,)*
        {
            fn starts() -> EventInfo {
                I::INFO
            }

            fn causes() -> Vec<EventInfo> {
                O::types()
            }

            fn begin(&self, begin: Begin<'_>) -> Result<BoxFuture<'static, Result<Vec<Draft>, SagaError>>, Error> {
                $(let $value = $extractor::from_context(begin.context)?;)*
                let input: I = event::decode_event(begin.start)?;
                let now = begin.context.host.clock.now();
                let saga = Saga { input: Arc::new(input), key: begin.key.into(), script: begin.script, now };
                let code = self(saga $(, $value)*);
                Ok(Box::pin(async move {
                    let mut drafts = Vec::new();
                    code.await?.emit(&mut drafts)?;
                    Ok(drafts)
                }))
            }
        }
    };
}

saga_fn!();
saga_fn!(A a);
saga_fn!(A a B b);
saga_fn!(A a B b C c);

pub(crate) fn erase<Args: 'static, S: SagaFn<Args>>(saga: S) -> Run {
    Arc::new(move |script, start, key, context| saga.begin(Begin { script, start, key, context }))
}

/// The step and the result, if this event of a journal is the end of a local step.
pub(crate) fn local_result(recorded: &Recorded) -> Option<(SmolStr, Bytes)> {
    let entry: Entry = event::decode_body(&recorded.envelope).ok()?;
    let Entry::StepDone { step, result: Some(result), .. } = entry else { return None };
    Some((step, Bytes::copy_from_slice(result.get().as_bytes())))
}

/// The stream of an instance.
pub(crate) fn stream_of(saga: &str, key: &str) -> Result<StreamName, Error> {
    StreamName::new(format!("saga.{saga}"), key)
}

/// The answer to a command, as it goes into the stream of the saga that waits for it.
pub(crate) fn reply_draft(stream: StreamName, step: &str, answer: &Answer) -> Result<Draft, Error> {
    Entry::ReplyReceived { step: step.into(), ok: answer.ok, body: answer.body.clone() }.draft(stream)
}

/// A timer that is over, as it goes into the stream of its owner.
pub(crate) fn timer_draft(timer: &Timer) -> Result<Draft, Error> {
    Entry::TimerFired { name: timer.name.clone() }.draft(timer.owner.parse()?)
}

/// Whether this is the journal of an instance.
pub(crate) fn is_journal(stream: &StreamName) -> bool {
    stream.topic.as_str().starts_with("saga.")
}

/// Whether this is a command that an instance has sent.
pub(crate) fn is_command(recorded: &Recorded) -> bool {
    is_journal(&recorded.stream) && !recorded.envelope.event_type.as_str().starts_with("saga.")
}

/// Whether an event stands in the journal of this instance.
pub(crate) fn is_of(recorded: &Recorded, head: &SagaHead) -> bool {
    recorded.stream.key.as_str() == head.key
        && recorded.stream.topic.as_str().strip_prefix("saga.") == Some(head.saga.as_str())
}

/// Whether an operator asked for something with an entry of this type. What follows from it are entries of their own.
pub(crate) fn is_request(event_type: &str) -> bool {
    journal::REQUESTS.contains(&event_type)
}

/// Whether an instance does not wait for the answer to this command any more: it is over or on its way back, or an operator
/// has given the outcome. `events` are those of the flow.
pub(crate) fn is_moot(command: &Recorded, head: &SagaHead, events: &[Recorded]) -> bool {
    let Some(label) = crate::message::extension(&command.envelope, crate::message::STEP) else {
        return false;
    };
    let undone = label.strip_prefix(journal::UNDO_PREFIX);
    let goes_back = head.status == SagaStatus::Compensating || head.requested.is_some();
    let later = events.iter().filter(|event| event.position > command.position && is_of(event, head));
    head.status.is_over()
        || (goes_back && undone.is_none())
        || later.filter_map(journal::Entry::resolved_step).any(|step| step == label)
}

/// Whether an instance begins with an entry of this type.
pub(crate) fn is_start(event_type: &str) -> bool {
    event_type == "saga.Started"
}

/// Whether an instance ends with an entry of this type.
pub(crate) fn is_end(event_type: &str) -> bool {
    matches!(event_type, "saga.Completed" | "saga.Compensated" | "saga.Terminated")
}

/// Whether an operator has ended an instance with an entry of this type.
pub(crate) fn is_terminated(event_type: &str) -> bool {
    event_type == "saga.Terminated"
}

/// Whether an instance has undone everything with an entry of this type.
pub(crate) fn is_undone(event_type: &str) -> bool {
    event_type == "saga.Compensated"
}

/// Whether an instance cannot go on without a decision after an entry of this type.
pub(crate) fn needs_decision(event_type: &str) -> bool {
    event_type == "saga.NeedsAttention"
}

/// Whether an entry of this type wakes the instance it is delivered to.
pub(crate) fn is_waking(event_type: &str) -> bool {
    journal::WAKING.contains(&event_type)
}
