//! Commands: mounted handlers. Sending one to its handler is in `dispatch`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ensue_core::command::decode_command;
use ensue_core::event::to_json;
use ensue_core::outcome::handler_error;
use ensue_core::{
    BoxFuture, Code, Command, CommandInfo, Envelope, Error, EventType, Failure, Recorded, StreamName,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::context::{Context, FromContext, States};
use crate::effects::Effects;
use crate::link::request;
use crate::message::{self, Origin, appends};
use crate::policy::Settings;
use crate::pressure::Gate;
use crate::reaction::{attempt, context, one_by_one};
use crate::subscription::{Handled, Handler, Shared};
use crate::transaction;

mod aggregate;
mod dispatch;
pub(crate) use aggregate::aggregate_routes;
pub use dispatch::{Dispatch, DispatchError, Receipt};

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
        let origin = Origin::of(&recorded.envelope, &format!("{}.reply", self.route.subscription()));
        if let Some(draft) = request::answer_draft(recorded, answer)? {
            let (stream, mut envelope) = self.shared.press.caused(draft, &origin, 0);
            request::return_to(&recorded.envelope, &mut envelope);
            return Ok(Some((stream, envelope)));
        }
        let Some(reply_to) = message::extension(&recorded.envelope, message::REPLY_TO) else {
            return Ok(None);
        };
        let journal: StreamName = reply_to.parse()?;
        if !crate::saga::is_journal(&journal) {
            return Ok(None);
        }
        let step = message::extension(&recorded.envelope, message::STEP).unwrap_or_default();
        let draft = crate::saga::reply_draft(journal, step, answer)?;
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
