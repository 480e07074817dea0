//! Sending a command to its handler, and the answer.

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ensue_core::command::decode_command;
use ensue_core::event::to_json;
use ensue_core::{
    BoxFuture, Code, Command, CommitError, Committed, Draft, Due, Envelope, Error, EventId, Failure,
    Position, Read, RecordWrite, Recorded, StoreExt, StreamName, Timestamp, Version,
};

use super::{Answer, Answered, Route};
use crate::context::States;
use crate::door::{Claim, Earlier, Fingerprint, inbox_key};
use crate::effects::Effects;
use crate::message;
use crate::subscription::Shared;
use crate::timer::Delay;
use crate::transaction;

/// How often a decision is made anew because the aggregate changed underneath.
const CONFLICTS_MAX: u32 = 20;

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
    /// Gives the command an id. Dispatched again with the same id and body within the window of
    /// [`App::window`](crate::App::window), also at the same moment and in another process that shares the store, it is not
    /// done twice: the first answer is returned. Only if a process is killed or hangs on the way, another does it again, and
    /// one answer stands.
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

    fn draft(&self) -> Result<Draft, Error> {
        message::command_draft(C::TYPE, &self.command.key(), to_json(C::TYPE, &self.command)?)
    }

    fn due(self, due: Due) -> Delay {
        let draft = self.route.clone().and_then(|_| self.draft());
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
        let (stream, envelope) = self.shared.press.first(self.draft()?, self.id.clone());
        let fingerprint = Fingerprint::of_bytes(&envelope, &envelope.data);
        let recorded = in_hand(stream, envelope, self.shared.press.host.clock.now());
        let door = self.shared.door();
        // Of two at the same moment the second waits for the first, and then finds its answer.
        let place = inbox_key(&recorded.envelope.source, &recorded.envelope.id);
        let _turn = if self.id.is_some() { Some(self.shared.turns.take(place.clone()).await) } else { None };
        // A decision of an aggregate has no effect but its commit; what else a command does must not be done twice.
        let needs_claim = self.id.is_some() && self.shared.is_shared() && !route.is_aggregate;
        let mut claim = None;
        let timeout = self.within.unwrap_or(route.settings.timeout);
        let gate = self.shared.gate(&route.subscription(), &route.settings);
        let mut conflicts = 0;
        let mut document = None;
        loop {
            if self.id.is_some()
                && let Some(earlier) = door.earlier(&recorded.envelope, &fingerprint).await?
            {
                let position = last_caused(&*self.shared.store, &recorded, &route).await?;
                return receipt::<C>(&recorded, &answer_of(&earlier)?, position);
            }
            if needs_claim && claim.is_none() {
                claim = Claim::take(&self.shared, &place, timeout * 3).await?;
                if claim.is_none() {
                    self.shared.press.host.clock.sleep(self.shared.sharing.look).await;
                }
                // It may have been answered meanwhile.
                continue;
            }
            let permit = gate.admit_within(timeout, &recorded, &self.shared).await?;
            // A switch of an inline read model waits for what is in hand, and what comes waits for the switch.
            let pass = if route.is_aggregate { self.shared.inline.pass().await } else { None };
            let answered = route.answer(&self.shared, &self.states, &recorded, conflicts + 1, timeout).await;
            // Where the breaker opens meanwhile, it is an error for whoever asked all the same.
            let _wait = permit.end(&answered, &*self.shared.press.host.clock);
            gate.keep_record(&self.shared).await;
            let answered = answered.map_err(|failure| DispatchError::Failed(as_error(failure)))?;
            let Answered { answer, mut effects } = answered;
            if self.id.is_some() {
                effects.records.push(door.remember(&recorded.envelope, &fingerprint, Some(&answer)));
            }
            effects.records.extend(claim.as_ref().and_then(Claim::end));
            if effects.is_nothing() {
                return receipt::<C>(&recorded, &answer, Position::ZERO);
            }
            let error = match self.commit(effects).await {
                Ok(committed) => {
                    claim.into_iter().for_each(Claim::ended);
                    return receipt::<C>(&recorded, &answer, committed.position());
                }
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
            claim = None;
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

/// What those take turns for who change one record.
fn contested(write: &RecordWrite) -> Bytes {
    [write.space.as_str().as_bytes(), b"\0", &write.key].concat().into()
}

impl<C: Command> IntoFuture for Dispatch<C> {
    type Output = Result<Receipt<C::Reply>, DispatchError<C::Failure>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
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
