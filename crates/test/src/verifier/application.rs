//! A program as an application of the runtime.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ensue_core::{Code, Draft, Error, EventInfo, EventSet, Failure, Host, IntoOutcome};
use ensue_runtime::reaction::Reaction as _;
use ensue_runtime::{App, Attempt, Cause, OnFailure, Saga, SagaError};

use super::program::{Class, ENDED, Fate, How, Lasts, OnError, Program, Reaction, Skips, Step, UNIT, When};
use super::words::{Account, AnySignal, Do, No, Order, Seen, Signal, Signals, Undo, instance, of_kind};
use super::world::{Verdict, World};

/// Mounts everything that a program is made of.
pub(super) fn mount(program: &Arc<Program>, world: &Arc<World>, host: &Host, app: App) -> App {
    let app = (0..super::program::KINDS).fold(app, |app, kind| of_kind!(kind, external(app)));
    let orders = (Arc::clone(program), Arc::clone(world));
    let app = app.aggregate::<Account>().project(Seen);
    let app = app.handle(order::<false>(orders.clone())).handle(order::<true>(orders));
    let app = program.reactions.iter().enumerate().fold(app, |app, (number, reaction)| {
        of_kind!(reaction.consumes, react(app, number, reaction, world))
    });
    program.sagas.iter().enumerate().fold(app, |app, (number, plan)| {
        let run =
            SagaRun { program: Arc::clone(program), number, world: Arc::clone(world), host: host.clone() };
        of_kind!(plan.starts, saga(app, run))
    })
}

fn external<const KIND: usize>(app: App) -> App {
    app.external::<Signal<KIND>>()
}

/// What a reaction comes to.
struct Answer(Result<Vec<Draft>, Failure>);

impl IntoOutcome for Answer {
    fn types() -> Vec<EventInfo> {
        AnySignal::types()
    }

    fn into_outcome(self) -> Result<Vec<Draft>, Failure> {
        self.0
    }
}

fn react<const KIND: usize>(app: App, number: usize, plan: &Reaction, world: &Arc<World>) -> App {
    let (name, world, plan) = (format!("r{number}"), Arc::clone(world), Arc::new(plan.clone()));
    let lanes = 1 + (plan.lanes + world.restarts.load(Ordering::Relaxed)) % 4;
    let on_failure = match plan.skips {
        Skips::Never => OnFailure::Park,
        Skips::WhenItGivesUp => OnFailure::Skip,
    };
    let (attempts, batch, handler) = (plan.attempts, plan.batch, name.clone());
    let reaction = move |cause: Cause, Attempt(attempt): Attempt, signal: Signal<KIND>| {
        let (world, plan, handler) = (Arc::clone(&world), Arc::clone(&plan), handler.clone());
        async move { Answer(handle(&world, &plan, &handler, &cause, attempt, &signal)) }
    };
    app.react(&name, reaction.retry(attempts).lanes(lanes).batch(batch).on_failure(on_failure))
}

fn handle<const KIND: usize>(
    world: &World,
    plan: &Reaction,
    handler: &str,
    cause: &Cause,
    attempt: u32,
    signal: &Signal<KIND>,
) -> Result<Vec<Draft>, Failure> {
    world.called(handler, &signal.key);
    let mood = plan.moods.iter().find(|(key, _)| key_name(**key) == signal.key).map(|(_, mood)| *mood);
    let failing = mood.filter(|mood| match mood.lasts {
        Lasts::Attempts(failures) => attempt <= failures,
        Lasts::UntilMended => !world.is_mended(),
    });
    if failing.is_none_or(|mood| mood.when == When::AfterEffect) {
        world.act(&cause.idempotency_key(), handler, &signal.key, &signal.path);
    }
    match failing.map(|mood| mood.how) {
        None => Ok(()),
        Some(How::Error) => Err(Failure::Failed(Error::new(Code::HANDLER_FAILED, "not in the mood"))),
        Some(How::Refusal) => Err(Failure::Rejected(Error::new(Code::REJECTED, "not for me"))),
        // Without the hook that would print it: there are thousands.
        Some(How::Panic) => std::panic::resume_unwind(Box::new("in a panic")),
    }?;
    let drafts = plan.emits.iter().enumerate().map(|(index, emission)| {
        let key = emission.key.map_or_else(|| signal.key.clone(), key_name);
        AnySignal { kind: emission.kind, key, path: format!("{}>{handler}.{index}", signal.path) }.of_draft()
    });
    drafts.collect::<Result<_, _>>().map_err(Failure::Rejected)
}

/// A key of signals.
pub(super) fn key_name(key: u64) -> String {
    format!("k{key}")
}

/// The handler of the commands of sagas.
fn order<const UNDO: bool>(
    (program, world): (Arc<Program>, Arc<World>),
) -> impl Fn(Cause, Order<UNDO>) -> std::future::Ready<Result<Result<(), No>, Error>> + Send + Sync + 'static
{
    move |cause, order| {
        let fate = program
            .sagas
            .get(order.saga)
            .and_then(|saga| saga.steps.get(order.step))
            .map(|step| if UNDO { step.undo_fate().unwrap_or(Fate::Done) } else { step.fate() });
        let what = format!("{} {}", if UNDO { "undo" } else { "do" }, order.step);
        let of = instance(order.saga, &order.key);
        let verdict = world.judge(fate.unwrap_or(Fate::Done), &format!("{of} {what}"), cause.id().as_ref());
        std::future::ready(match verdict {
            Verdict::Refused => Ok(Err(No)),
            Verdict::BreaksDown => Err(Error::new(Code::HANDLER_FAILED, "it broke down")),
            Verdict::Done => {
                world.act(&cause.idempotency_key(), "saga", &of, &what);
                Ok(Ok(()))
            }
        })
    }
}

/// What the code of a saga works with.
#[derive(Clone)]
struct SagaRun {
    program: Arc<Program>,
    number: usize,
    world: Arc<World>,
    host: Host,
}

fn saga<const KIND: usize>(app: App, run: SagaRun) -> App {
    let name = format!("saga{}", run.number);
    app.saga(&name, move |saga: Saga<Signal<KIND>>| {
        let run = run.clone();
        async move { run.go(saga).await }
    })
}

impl SagaRun {
    async fn go<const KIND: usize>(self, saga: Saga<Signal<KIND>>) -> Result<Signals, SagaError> {
        let steps = self.program.sagas.get(self.number).map(|plan| plan.steps.clone()).unwrap_or_default();
        for (index, step) in steps.iter().enumerate() {
            match self.step(&saga, index, step).await {
                Err(error) if step.on_error() == OnError::Fails => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        let path = instance(self.number, saga.key());
        Ok(Signals(vec![AnySignal { kind: ENDED, key: saga.key().to_owned(), path }]))
    }

    async fn step<const KIND: usize>(
        &self,
        saga: &Saga<Signal<KIND>>,
        index: usize,
        step: &Step,
    ) -> Result<(), SagaError> {
        let name = format!("step{index}");
        match step {
            Step::Sleep { units } => saga.sleep(&name, Duration::from_secs(units * UNIT)).await,
            Step::Wait { within, .. } => {
                let wait = saga.wait_for::<Signal<{ super::program::ANSWERED }>>(saga.key());
                match within {
                    Some(units) => wait.within(Duration::from_secs(units * UNIT)).await.map(|_| ()),
                    None => wait.await.map(|_| ()),
                }
            }
            Step::Local { class, retries, .. } => self.local(saga, index, &name, *class, *retries).await,
            Step::Send { class, retries, within, .. } => {
                let order = Do { saga: self.number, key: saga.key().to_owned(), step: index };
                let undo = Undo { saga: order.saga, key: order.key.clone(), step: order.step };
                let mut send = saga.send(&name, order).retry(*retries);
                if let Some(units) = within {
                    send = send.within(Duration::from_secs(units * UNIT));
                }
                match class {
                    Class::NothingToUndo => send.nothing_to_undo().await,
                    Class::Undo(_) => send.undo(move |()| undo).await,
                    Class::Pivot => send.pivot().await,
                    Class::Forward => send.until_done().await,
                }
            }
        }
    }

    async fn local<const KIND: usize>(
        &self,
        saga: &Saga<Signal<KIND>>,
        index: usize,
        name: &str,
        class: Class,
        retries: u32,
    ) -> Result<(), SagaError> {
        let (run, of) = (self.clone(), instance(self.number, saga.key()));
        let undo = Undo { saga: self.number, key: saga.key().to_owned(), step: index };
        let step = saga.step(name, async move |key| run.effect(&key, &of, index)).retry(retries);
        match class {
            Class::NothingToUndo => step.nothing_to_undo().await,
            Class::Undo(_) => step.undo(move |()| undo).await,
            Class::Pivot => step.pivot().await,
            Class::Forward => step.until_done().await,
        }
    }

    /// A local effect. It fails for a time, not for a number of calls, so that a call more or less changes nothing.
    fn effect(&self, key: &str, of: &str, index: usize) -> Result<(), Error> {
        let step = self.program.sagas.get(self.number).and_then(|plan| plan.steps.get(index));
        let lasts = match step.and_then(Step::local_failures) {
            Some(failures) => Duration::from_secs(2u64.pow(failures) - 1),
            None => Duration::MAX,
        };
        if self.world.since_first_tried(key, self.host.clock.monotonic()) < lasts {
            return Err(Error::new(Code::HANDLER_FAILED, "not yet"));
        }
        self.world.act(key, "saga", of, &format!("do {index}"));
        Ok(())
    }
}
