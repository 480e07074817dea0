//! Commands: mounted handlers, and sending one to its handler with an answer.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ensue_core::command::decode_command;
use ensue_core::event::to_json;
use ensue_core::outcome::handler_error;
use ensue_core::{
    BoxFuture, Code, Command, CommandInfo, CommitError, Committed, Due, Envelope, Error, EventId, EventType,
    Failure, Position, Read, RecordWrite, Recorded, StoreExt, StreamName, Timestamp, Version,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::context::{Context, FromContext, States};
use crate::door::{Earlier, inbox_key};
use crate::effects::Effects;
use crate::message::{self, Origin, appends};
use crate::policy::Settings;
use crate::pressure::Gate;
use crate::reaction::{attempt, context, one_by_one};
use crate::subscription::{Handled, Handler, Shared};
use crate::timer::Delay;
use crate::transaction;

mod aggregate;
pub(crate) use aggregate::aggregate_routes;

/// How often a decision is made anew because the aggregate changed underneath.
const CONFLICTS_MAX: u32 = 20;

/// The body of an answer: the reply, or the typed failure, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) ok: bool,
    pub(crate) body: Box<RawValue>,
}

impl Answer {
    fn of<R: Serialize, F: Serialize>(what: &str, answer: &Result<R, F>) -> Result<Self, Error> {
        let body = match answer {
            Ok(reply) => to_json(what, reply)?,
            Err(failure) => to_json(what, failure)?,
        };
        let text = String::from_utf8(body.to_vec()).expect("serde_json writes UTF-8");
        Ok(Self { ok: answer.is_ok(), body: RawValue::from_string(text).expect("serde_json writes JSON") })
    }
}

/// What handling a command comes to: the answer, and what is committed with it.
pub(crate) struct Answered {
    pub(crate) answer: Answer,
    pub(crate) effects: Effects,
}

/// A command handler, generics erased.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) info: CommandInfo,
    /// Whether answering reads what an earlier command of the same key stored.
    pub(crate) is_aggregate: bool,
    /// Whether the handler works in the transaction that stores its answer.
    pub(crate) joins: bool,
    pub(crate) causes: Vec<ensue_core::EventInfo>,
    pub(crate) settings: Settings,
    pub(crate) run: Arc<dyn Fn(Call) -> BoxFuture<'static, Result<Answered, Failure>> + Send + Sync>,
}

/// A command on its way to its handler.
pub(crate) struct Call {
    context: Context,
    shared: Arc<Shared>,
    origin: Origin,
}

/// An async function that takes extractors and then one command, and answers it.
///
/// The answer is `Result<Reply, Failure>`: a failure is an answer, not a fault. A handler that can also break down returns
/// `Result<Result<Reply, Failure>, E>`; the outer error is retried and then parked.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle a command",
    note = "a command handler is an async function; its arguments are extractors, then one command",
    note = "its result is `Result<Reply, Failure>` of that command, or `Result<Result<Reply, Failure>, E>` if it can break down"
)]
pub trait CommandHandler<Args>: Send + Sync + Sized + 'static {
    #[doc(hidden)]
    fn route(self) -> RouteOf;
}

/// A mounted handler; opaque.
pub struct RouteOf(pub(crate) Route);

/// What a command handler may return. `M` tells the two shapes apart.
pub trait IntoAnswer<C: Command, M>: Send + 'static {
    #[doc(hidden)]
    fn into_answer(self) -> Result<Result<C::Reply, C::Failure>, Failure>;
}

/// Marks handlers that only answer.
pub struct Answers;
/// Marks handlers that answer or break down.
pub struct Breaks;

impl<C: Command> IntoAnswer<C, Answers> for Result<C::Reply, C::Failure> {
    fn into_answer(self) -> Result<Self, Failure> {
        Ok(self)
    }
}

impl<C: Command, E> IntoAnswer<C, Breaks> for Result<Result<C::Reply, C::Failure>, E>
where
    E: std::error::Error + Send + Sync + 'static,
{
    fn into_answer(self) -> Result<Result<C::Reply, C::Failure>, Failure> {
        self.map_err(|error| Failure::Failed(handler_error(error)))
    }
}

macro_rules! command_handler {
    ($($extractor:ident $value:ident)*) => {
        impl<F, Fut, C, M, $($extractor),*> CommandHandler<(M, $($extractor,)* C,)> for F
        where
            F: Fn($($extractor,)* C) -> Fut + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            Fut::Output: IntoAnswer<C, M>,
            C: Command,
            $($extractor: FromContext + 'static,)*
        {
            fn route(self) -> RouteOf {
                let handler = Arc::new(self);
                let run = move |call: Call| -> BoxFuture<'static, Result<Answered, Failure>> {
                    let handler = Arc::clone(&handler);
                    Box::pin(async move {
                        let context = &call.context;
                        $(let $value = $extractor::from_context(context).map_err(Failure::Rejected)?;)*
                        let command: C = decode_command(C::TYPE, &context.recorded.envelope.data).map_err(Failure::Rejected)?;
                        let answer = handler($($value,)* command).await.into_answer()?;
                        published::<C>(&call, &answer).map_err(Failure::Rejected)
                    })
                };
                RouteOf(Route {
                    info: C::info(),
                    is_aggregate: false,
                    joins: [$($extractor::JOINS),*].contains(&true),
                    causes: C::publishes(),
                    settings: Settings::HANDLER,
                    run: Arc::new(run),
                })
            }
        }
    };
}

command_handler!();
command_handler!(A a);
command_handler!(A a B b);
command_handler!(A a B b D d);
command_handler!(A a B b D d G g);

fn published<C: Command>(call: &Call, answer: &Result<C::Reply, C::Failure>) -> Result<Answered, Error> {
    let drafts = C::published(answer)?;
    let press = &call.shared.press;
    let events =
        drafts.into_iter().enumerate().map(|(index, draft)| press.caused(draft, &call.origin, index));
    let effects = Effects { appends: appends(events), ..Effects::default() };
    Ok(Answered { answer: Answer::of(C::TYPE, answer)?, effects })
}

impl Route {
    /// The name that its checkpoints and dead letters go by.
    pub(crate) fn subscription(&self) -> String {
        format!("handle.{}", self.info.command_type)
    }

    async fn answer(
        &self,
        shared: &Arc<Shared>,
        states: &Arc<States>,
        recorded: &Recorded,
        attempt_number: u32,
        timeout: Duration,
    ) -> Result<Answered, Failure> {
        let name = self.subscription();
        let mut context =
            context(Arc::clone(states), recorded, &name, attempt_number, timeout, &shared.press);
        let transaction =
            if self.joins { Some(transaction::begin(&*shared.store, &mut context).await?) } else { None };
        let call =
            Call { context, shared: Arc::clone(shared), origin: Origin::of(&recorded.envelope, &name) };
        let run = Arc::clone(&self.run);
        let mut answered =
            attempt(&shared.press.host, timeout, Box::pin(async move { run(call).await })).await?;
        answered.effects.transaction = transaction;
        Ok(answered)
    }
}

/// The route of a command type.
pub(crate) fn route_of<C: Command>(routes: &[Route]) -> Result<Route, Error> {
    let found = routes.iter().find(|route| route.info.command_type == C::TYPE);
    found.cloned().ok_or_else(|| Error::new(Code::COMMAND_UNHANDLED, format!("nothing handles {}", C::TYPE)))
}

/// Commands that arrive through the log, from sagas: handled by lanes and answered to where they came from.
pub(crate) struct RouteHandler {
    pub(crate) route: Route,
    pub(crate) shared: Arc<Shared>,
    pub(crate) states: Arc<States>,
    pub(crate) gate: Gate,
}

impl RouteHandler {
    async fn handle(&self, recorded: &Recorded, attempt: u32) -> Result<Effects, Failure> {
        let timeout = self.route.settings.timeout;
        let Answered { answer, mut effects } =
            self.route.answer(&self.shared, &self.states, recorded, attempt, timeout).await?;
        if let Some((stream, reply)) = self.reply(recorded, &answer).map_err(Failure::Rejected)? {
            effects.absorb(self.shared.sagas.deliver(stream, reply).await);
        }
        Ok(effects)
    }

    /// The answer, on its way to the saga that waits for it.
    fn reply(&self, recorded: &Recorded, answer: &Answer) -> Result<Option<(StreamName, Envelope)>, Error> {
        let Some(reply_to) = message::extension(&recorded.envelope, message::REPLY_TO) else {
            return Ok(None);
        };
        let step = message::extension(&recorded.envelope, message::STEP).unwrap_or_default();
        let draft = crate::saga::reply_draft(reply_to.parse()?, step, answer)?;
        let origin = Origin::of(&recorded.envelope, &format!("{}.reply", self.route.subscription()));
        Ok(Some(self.shared.press.caused(draft, &origin, 0)))
    }
}

impl Handler for RouteHandler {
    fn types(&self) -> Vec<EventType> {
        EventType::new(self.route.info.command_type).into_iter().collect()
    }

    /// A saga's commands travel in its own stream; what orders them is their own key all the same.
    fn key<'a>(&self, recorded: &'a Recorded) -> &'a str {
        message::extension(&recorded.envelope, message::COMMAND_KEY).unwrap_or(recorded.stream.key.as_str())
    }

    fn reads_own_writes(&self) -> bool {
        self.route.is_aggregate
    }

    fn work<'a>(&'a self, batch: &'a [Recorded], attempt: u32) -> BoxFuture<'a, Handled> {
        Box::pin(one_by_one(&self.shared, &self.gate, batch, move |recorded| self.handle(recorded, attempt)))
    }
}

/// A command on its way; await it for the answer. Dropping it before leaves the outcome open, unless it has an id to
/// repeat it with.
#[must_use = "a dispatch does nothing until it is awaited"]
pub struct Dispatch<C: Command> {
    pub(crate) command: C,
    pub(crate) route: Result<Route, Error>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) states: Arc<States>,
    pub(crate) id: Option<EventId>,
    pub(crate) within: Option<Duration>,
}

/// What became of a command that was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt<R> {
    /// Of the last event it caused; zero if it caused none. Pass it to [`Running::wait`](crate::Running::wait) to read your writes.
    pub position: Position,
    /// The flow it began.
    pub flow: EventId,
    /// The answer.
    pub output: R,
}

/// Why a command was not done.
#[derive(Clone, Debug)]
pub enum DispatchError<F> {
    /// Its handler said no; nothing was stored but what the refusal itself publishes.
    Refused(F),
    /// It could not be handled, or the outcome is unknown ([`Kind::Timeout`](ensue_core::Kind::Timeout)).
    Failed(Error),
}

impl<F: fmt::Debug> fmt::Display for DispatchError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(failure) => write!(f, "{}: refused: {failure:?}", Code::COMMAND_FAILED),
            Self::Failed(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl<F: fmt::Debug> std::error::Error for DispatchError<F> {}

impl<F> From<Error> for DispatchError<F> {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl<C: Command> Dispatch<C> {
    /// Gives the command an id. Dispatched again with the same id and body within the window of [`App::window`](crate::App::window), also at the same moment, it is not done twice:
    /// the first answer is returned.
    pub fn id(mut self, id: EventId) -> Self {
        self.id = Some(id);
        self
    }

    /// How long the answer may take. What happens after that is open: the error is a time-out.
    pub fn within(mut self, within: Duration) -> Self {
        self.within = Some(within);
        self
    }

    /// Sends it so much later: until then it is a timer, then it travels through the log to its handler.
    pub fn after(self, delay: Duration) -> Delay {
        self.due(Due::After(delay))
    }

    /// Sends it at this time, or at once if that has passed: until then it is a timer, then it travels through the log
    /// to its handler.
    pub fn at(self, time: Timestamp) -> Delay {
        self.due(Due::At(time))
    }

    fn due(self, due: Due) -> Delay {
        let draft = self.route.and_then(|_| {
            message::command_draft(C::TYPE, &self.command.key(), to_json(C::TYPE, &self.command)?)
        });
        Delay::new(self.shared, draft, due, self.id)
    }

    async fn run(self) -> Result<Receipt<C::Reply>, DispatchError<C::Failure>> {
        let host = self.shared.press.host.clone();
        match self.within {
            None => self.work().await,
            Some(within) => tokio::select! {
                biased;
                result = self.work() => result,
                () = host.clock.sleep(within) => Err(DispatchError::Failed(
                    Error::new(Code::HANDLER_TIMED_OUT, format!("no answer to {} within {within:?}", C::TYPE))
                        .with_fix("the outcome is unknown: dispatch it again with the same id to learn it"),
                )),
            },
        }
    }

    async fn work(self) -> Result<Receipt<C::Reply>, DispatchError<C::Failure>> {
        let route = self.route.clone()?;
        let data = to_json(C::TYPE, &self.command)?;
        let draft = message::command_draft(C::TYPE, &self.command.key(), data.clone())?;
        let (stream, envelope) = self.shared.press.first(draft, self.id.clone());
        let recorded = in_hand(stream, envelope, self.shared.press.host.clock.now());
        let door = self.shared.door();
        // Of two at the same moment the second waits for the first, and then finds its answer.
        let place = inbox_key(&recorded.envelope.source, &recorded.envelope.id);
        let _turn = if self.id.is_some() { Some(self.shared.turns.take(place).await) } else { None };
        let timeout = self.within.unwrap_or(route.settings.timeout);
        let gate = self.shared.gate(&route.subscription(), &route.settings);
        let mut conflicts = 0;
        let mut document = None;
        loop {
            // A switch of an inline read model waits for what is in hand, and what comes waits for the switch.
            let pass = if route.is_aggregate { self.shared.inline.pass().await } else { None };
            if self.id.is_some()
                && let Some(earlier) = door.earlier(&recorded.envelope, &data).await?
            {
                let position = last_caused(&*self.shared.store, &recorded, &route).await?;
                return receipt::<C>(&recorded, &answer_of(&earlier)?, position);
            }
            let permit = gate.admit_within(timeout, &recorded, &self.shared).await?;
            let answered = route.answer(&self.shared, &self.states, &recorded, conflicts + 1, timeout).await;
            // Where the breaker opens meanwhile, it is an error for whoever asked all the same.
            let _wait = permit.end(&answered, &*self.shared.press.host.clock);
            gate.keep_record(&self.shared).await;
            let answered = answered.map_err(|failure| DispatchError::Failed(as_error(failure)))?;
            let Answered { answer, mut effects } = answered;
            if self.id.is_some() {
                effects.records.push(door.remember(&recorded.envelope, &data, Some(&answer)));
            }
            if effects.appends.is_empty() && effects.records.is_empty() && effects.transaction.is_none() {
                return receipt::<C>(&recorded, &answer, Position::ZERO);
            }
            let error = match self.commit(effects).await {
                Ok(committed) => return receipt::<C>(&recorded, &answer, committed.position()),
                Err(error) => error,
            };
            drop(pass);
            match error {
                _ if conflicts >= CONFLICTS_MAX => return Err(DispatchError::Failed(error.into())),
                CommitError::Conflict { .. } | CommitError::ConditionFailed { .. } => {}
                CommitError::RecordConflict { write, .. } => {
                    // Whoever wants to change the same document takes turns from here on, so that nobody starves.
                    drop(document.take());
                    document = Some(self.shared.turns.take(contested(&write)).await);
                }
                error => return Err(DispatchError::Failed(error.into())),
            }
            conflicts += 1;
        }
    }

    async fn commit(&self, effects: Effects) -> Result<Committed, CommitError> {
        let Shared { store, inline, .. } = &*self.shared;
        let (commit, transaction, after) = effects.into_commit();
        let is_fenced = commit.condition.is_some();
        let committed = transaction::commit(&**store, transaction, commit).await.inspect_err(|error| {
            if matches!(error, CommitError::ConditionFailed { .. }) {
                inline.forget();
            }
        })?;
        if is_fenced {
            inline.confirm(committed.position());
        }
        after.into_iter().for_each(|hook| hook());
        Ok(committed)
    }
}

impl<C: Command> IntoFuture for Dispatch<C> {
    type Output = Result<Receipt<C::Reply>, DispatchError<C::Failure>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// What those take turns for who change one record.
fn contested(write: &RecordWrite) -> Bytes {
    [write.space.as_str().as_bytes(), b"\0", &write.key].concat().into()
}

/// The last event that a command caused when it was done; zero if it caused none.
async fn last_caused(
    store: &dyn ensue_core::Store,
    command: &Recorded,
    route: &Route,
) -> Result<Position, Error> {
    let (handler, id) = (route.subscription(), Some(&command.envelope.id));
    let flow = store.collect(Read::flow(command.envelope.flow().clone())).await?;
    let is_ours = |event: &&Recorded| {
        event.envelope.causation.as_ref() == id
            && message::extension(&event.envelope, message::HANDLER) == Some(handler.as_str())
    };
    Ok(flow.iter().filter(is_ours).map(|event| event.position).max().unwrap_or_default())
}

/// A command that goes to its handler without passing through the log.
fn in_hand(stream: StreamName, envelope: Envelope, now: Timestamp) -> Recorded {
    Recorded { position: Position::ZERO, stream, version: Version::ZERO, recorded_at: now, envelope }
}

fn as_error(failure: Failure) -> Error {
    match failure {
        Failure::Failed(error) | Failure::Rejected(error) => error,
        Failure::Later(pause) => {
            Error::new(Code::HANDLER_FAILED, format!("the handler asks to try again in {pause:?}"))
        }
        Failure::Deferred(until) => {
            Error::new(Code::HANDLER_FAILED, format!("the handler asks to try again at {until}"))
        }
    }
}

fn answer_of(earlier: &Earlier) -> Result<Answer, Error> {
    earlier.answer.clone().ok_or_else(|| {
        Error::new(Code::DUPLICATE_ID, "the id was used for an event, so there is no answer to repeat")
    })
}

fn receipt<C: Command>(
    recorded: &Recorded,
    answer: &Answer,
    position: Position,
) -> Result<Receipt<C::Reply>, DispatchError<C::Failure>> {
    let body = Bytes::copy_from_slice(answer.body.get().as_bytes());
    if answer.ok {
        let output = decode_command(C::TYPE, &body)?;
        Ok(Receipt { position, flow: recorded.envelope.flow().clone(), output })
    } else {
        Err(DispatchError::Refused(decode_command(C::TYPE, &body)?))
    }
}
