//! Sagas that sagas start. To its parent a child is a command, `saga.run.NAME`, which the child's end answers; it is undone
//! by another one, `saga.undo.NAME`, which sends the child back. So time limits, late ends and compensation are those of
//! every step, and cancelling a parent goes down to its children.

use std::future::IntoFuture;
use std::marker::PhantomData;
use std::time::Duration;

use ensue_core::event::to_json;
use ensue_core::{BoxFuture, Draft, Envelope, Error, Event, StreamName};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use smol_str::SmolStr;

use super::journal::{CommandBody, Journal, raw};
use super::script::{IfUnknown, Order, Request, Script, Terms};
use super::step::{SagaError, Undo, finish, result};
use crate::command::Answer;
use crate::message;

const RUN: &str = "saga.run.";
const UNDO: &str = "saga.undo.";

/// The command that starts a child.
pub(super) fn run_type(saga: &str) -> String {
    format!("{RUN}{saga}")
}

/// The command that sends a child back.
pub(super) fn undo_type(saga: &str) -> String {
    format!("{UNDO}{saga}")
}

/// The saga that a command starts, if it is that.
pub(super) fn started_by(command_type: &str) -> Option<&str> {
    command_type.strip_prefix(RUN)
}

/// The command that sends back what this one starts, if it starts a child.
pub(super) fn undo_of(command: &CommandBody) -> Option<CommandBody> {
    let saga = started_by(&command.command_type)?;
    let body = RawValue::from_string("null".to_owned()).expect("it is JSON");
    Some(CommandBody { command_type: undo_type(saga).into(), key: command.key.clone(), body })
}

/// Who waits for an instance: the stream of its parent, and which step the instance is there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Parent {
    pub(crate) stream: String,
    pub(crate) step: SmolStr,
}

impl Parent {
    /// Whom a command wants to be answered.
    pub(super) fn of(envelope: &Envelope) -> Option<Self> {
        let stream = message::extension(envelope, message::REPLY_TO)?.to_owned();
        let step = message::extension(envelope, message::STEP)?.into();
        Some(Self { stream, step })
    }

    /// The answer, as it goes into the parent's stream.
    pub(super) fn answer(&self, end: &End) -> Result<Draft, Error> {
        let (ok, body) = match end {
            End::Well(body) => (true, body.clone()),
            End::Badly(reason) => (false, raw(&to_json("the end of a saga", &Reasoned { reason })?)?),
        };
        let stream: StreamName = self.stream.parse()?;
        super::reply_draft(stream, &self.step, &Answer { ok, body })
    }
}

#[derive(Serialize)]
struct Reasoned<'a> {
    reason: &'a str,
}

/// How a child has ended, as its parent is told.
pub(super) enum End {
    /// With the event it ended with, or `null`.
    Well(Box<RawValue>),
    Badly(String),
}

impl End {
    /// Well, with nothing to tell.
    pub(super) fn empty() -> Self {
        Self::Well(RawValue::from_string("null".to_owned()).expect("it is JSON"))
    }
}

/// Everybody who waits for an instance that is over without having ended well, and what each is told.
pub(super) fn tell_of_bad_end(journal: &Journal, reason: &str) -> Result<Vec<Draft>, Error> {
    let waiting = [&journal.parent, &journal.undo_for].into_iter().flatten();
    waiting.map(|parent| parent.answer(&End::Badly(reason.to_owned()))).collect()
}

/// What a child is started with.
#[derive(Serialize, Deserialize)]
pub(super) struct Birth {
    pub(super) event_type: String,
    pub(super) schema_version: u32,
    pub(super) event: Box<RawValue>,
}

/// A saga that is started as a step. Its end is the end of the step: well when it completes, badly when it is compensated
/// or terminated. It is sent back when the parent goes back, also while it is under way.
#[must_use = "a step does nothing until it is awaited"]
pub struct ChildStep<T> {
    script: Script,
    name: String,
    command: Result<CommandBody, Error>,
    terms: Terms,
    of: PhantomData<fn() -> T>,
}

impl ChildStep<IgnoredAny> {
    pub(super) fn new<E: Event>(script: Script, name: &str, saga: &str, event: &E) -> Self {
        let command = birth(event).map(|body| CommandBody {
            command_type: run_type(saga).into(),
            key: event.key().into(),
            body,
        });
        Self { script, name: name.to_owned(), command, terms: Terms::default(), of: PhantomData }
    }
}

fn birth<E: Event>(event: &E) -> Result<Box<RawValue>, Error> {
    let info = E::INFO;
    let event = raw(&to_json(info.event_type, event)?)?;
    let birth = Birth { event_type: info.event_type.to_owned(), schema_version: info.version, event };
    raw(&to_json("the start of a saga", &birth)?)
}

impl<T> ChildStep<T> {
    /// Gives the first event that the child ends with.
    pub fn returning<R: DeserializeOwned>(self) -> ChildStep<R> {
        let Self { script, name, command, terms, .. } = self;
        ChildStep { script, name, command, terms, of: PhantomData }
    }

    /// How long the child may take; then it is sent back, and the step has failed with `E0603`.
    pub fn within(mut self, within: Duration) -> Self {
        self.terms.within = Some(within);
        self
    }
}

impl<T: DeserializeOwned + Send + 'static> IntoFuture for ChildStep<T> {
    type Output = Result<T, SagaError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let command = self.command?;
            let undo = undo_of(&command);
            let if_unknown = undo.clone().map_or(IfUnknown::UndoLate, IfUnknown::Undo);
            let request = Request::Command(Order { command, if_unknown });
            let undo: Undo = Box::new(move |_| Ok(undo));
            finish(&self.script, &self.name, request, self.terms, Some(undo), result).await
        })
    }
}
