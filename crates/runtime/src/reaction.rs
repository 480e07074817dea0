//! Reactions: event in, events out.

use std::any::Any;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use ensue_core::{
    BoxFuture, Code, Draft, Error, Event, EventInfo, EventType, Failure, Host, IntoOutcome, Recorded, event,
};
use futures_util::FutureExt;

use crate::context::{Context, FromContext, States};
use crate::door::Registry;
use crate::effects::Effects;
use crate::message::{Origin, Press};
use crate::mounting::Mounting;
use crate::policy::{OnFailure, Retry, Settings, StartFrom};
use crate::pressure::{Breaker, Gate, Rate};
use crate::subscription::{Handled, Handler, Shared};
use crate::timer::delayed;
use crate::transaction;

/// An async function that takes extractors and then one event, and returns what it causes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a reaction",
    note = "a reaction is an async function; its arguments are extractors, then one event",
    note = "its result is an event, `()`, `Option`, `Vec`, a tuple, a `#[derive(Emits)]` enum, `Outcome`, or a `Result` of these"
)]
pub trait Reaction<Args>: Send + Sync + Sized + 'static {
    /// The event it takes.
    fn consumes() -> EventInfo;

    /// The events that can come out.
    fn causes() -> Vec<EventInfo>;

    /// Whether it works in the transaction that settles its delivery.
    #[doc(hidden)]
    fn joins() -> bool;

    #[doc(hidden)]
    fn register(registry: Registry) -> Registry;

    #[doc(hidden)]
    fn call(&self, context: Context) -> BoxFuture<'static, Result<Vec<Draft>, Failure>>;

    #[doc(hidden)]
    fn adjust(&self, mounting: Mounting) -> Mounting {
        mounting
    }

    /// So many attempts, or a whole [`Retry`] policy.
    fn retry(self, retry: impl Into<Retry>) -> Mounted<Self, Args> {
        let retry = retry.into();
        Mounted::new(self, move |mounting| mounting.retry(retry))
    }

    /// How many keys are worked on at the same time, at most.
    fn lanes(self, lanes: u16) -> Mounted<Self, Args> {
        Mounted::new(self, move |mounting| mounting.lanes(lanes))
    }

    /// Most deliveries that share one commit. After a crash as many may be repeated, with the same idempotency keys.
    fn batch(self, deliveries: usize) -> Mounted<Self, Args> {
        Mounted::new(self, move |mounting| mounting.batch(deliveries))
    }

    /// How long one attempt may take.
    fn timeout(self, timeout: Duration) -> Mounted<Self, Args> {
        Mounted::new(self, move |mounting| mounting.timeout(timeout))
    }

    /// When retries have run out: park the key (the default), stop the lane, or skip the event.
    fn on_failure(self, policy: OnFailure) -> Mounted<Self, Args> {
        Mounted::new(self, move |mounting| mounting.on_failure(policy))
    }

    /// Most parked events; then the lane stops instead.
    fn dead_max(self, events: usize) -> Mounted<Self, Args> {
        Mounted::new(self, move |mounting| mounting.dead_max(events))
    }

    /// Who looks after it, and so whom its dead letters are for; in place of [`App::owner`](crate::App::owner).
    fn owner(self, owner: &'static str) -> Mounted<Self, Args> {
        Mounted::new(self, move |mounting| mounting.owner(owner))
    }

    /// Calls nothing while the dependency is down; see [`Breaker`].
    fn breaker(self, breaker: Breaker) -> Mounted<Self, Args> {
        Mounted::new(self, move |mounting| mounting.breaker(breaker))
    }

    /// How often it may be called, over all lanes. Deliveries wait for their turn in their lane; see [`Rate`].
    fn rate(self, rate: Rate) -> Mounted<Self, Args> {
        Mounted::new(self, move |mounting| mounting.rate(rate))
    }

    /// How often it may be called for each value of this tag; events without it count as one value. A delivery that waits
    /// for its turn holds up what is behind it in its lane, also of other values, unless its lanes are [fair](Self::fair_by).
    fn quota(self, tag: &'static str, rate: Rate) -> Mounted<Self, Args> {
        Mounted::new(self, move |mounting| mounting.quota(tag, rate))
    }

    /// Takes turns between the values of this tag, so that one tenant's flood does not hold up the others: each lane works
    /// on one batch of one value, then on one of the next that waits; events without the tag are one value. An event of a
    /// value for which nothing waits is so handled after at most one batch of each value that does, up to 64 in a lane;
    /// a smaller [`batch`](Self::batch) makes turns shorter. A value over its [`quota`](Self::quota) lets the others go on.
    ///
    /// Order holds for the deliveries of a key that carry the same value: choose a tag that a key does not change.
    fn fair_by(self, tag: &'static str) -> Mounted<Self, Args> {
        Mounted::new(self, move |mounting| mounting.fair_by(tag))
    }

    /// Where to begin when the handler has never run before.
    fn from(self, start: StartFrom) -> Mounted<Self, Args> {
        Mounted::new(self, move |mounting| mounting.from(start))
    }
}

/// A reaction with settings.
pub struct Mounted<R, Args> {
    inner: R,
    setting: Arc<dyn Fn(Mounting) -> Mounting + Send + Sync>,
    args: PhantomData<fn(Args)>,
}

impl<R, Args> Mounted<R, Args> {
    fn new(inner: R, setting: impl Fn(Mounting) -> Mounting + Send + Sync + 'static) -> Self {
        Self { inner, setting: Arc::new(setting), args: PhantomData }
    }
}

/// Marks a [`Mounted`] among the shapes of reactions.
pub struct WithSettings;

impl<R: Reaction<Args>, Args: 'static> Reaction<(WithSettings, Args)> for Mounted<R, Args> {
    fn consumes() -> EventInfo {
        R::consumes()
    }

    fn causes() -> Vec<EventInfo> {
        R::causes()
    }

    fn joins() -> bool {
        R::joins()
    }

    fn register(registry: Registry) -> Registry {
        R::register(registry)
    }

    fn call(&self, context: Context) -> BoxFuture<'static, Result<Vec<Draft>, Failure>> {
        self.inner.call(context)
    }

    fn adjust(&self, mounting: Mounting) -> Mounting {
        (self.setting)(self.inner.adjust(mounting))
    }
}

macro_rules! reaction {
    ($($extractor:ident $value:ident)*) => {
        impl<F, Fut, E, R, $($extractor),*> Reaction<($($extractor,)* E,)> for F
        where
            F: Fn($($extractor,)* E) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = R> + Send + 'static,
            E: Event,
            R: IntoOutcome,
            $($extractor: FromContext,)*
        {
            fn consumes() -> EventInfo {
                E::INFO
            }

            fn causes() -> Vec<EventInfo> {
                R::types()
            }

            fn joins() -> bool {
                [$($extractor::JOINS),*].contains(&true)
            }

            fn register(registry: Registry) -> Registry {
                registry.event::<E>()
            }

            fn call(&self, context: Context) -> BoxFuture<'static, Result<Vec<Draft>, Failure>> {
                let arguments = (|| {
                    $(let $value = $extractor::from_context(&context)?;)*
                    let event: E = event::decode_event(&context.recorded.envelope)?;
                    Ok::<_, Error>(($($value,)* event,))
                })();
                match arguments {
                    // What cannot be decoded now will not decode on the next attempt either.
                    Err(error) => Box::pin(std::future::ready(Err(Failure::Rejected(error)))),
                    Ok(($($value,)* event,)) => {
                        let future = self($($value,)* event);
                        Box::pin(async move { future.await.into_outcome() })
                    }
                }
            }
        }
    };
}

reaction!();
reaction!(A a);
reaction!(A a B b);
reaction!(A a B b C c);
reaction!(A a B b C c D d);
reaction!(A a B b C c D d G g);

/// A handler of one delivery, generics erased.
pub(crate) type Call = Arc<dyn Fn(Context) -> BoxFuture<'static, Result<Vec<Draft>, Failure>> + Send + Sync>;

/// Runs one attempt: in time, and without letting a panic out.
pub(crate) async fn attempt<T>(
    host: &Host,
    timeout: Duration,
    work: BoxFuture<'static, Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut work = AssertUnwindSafe(work).catch_unwind().boxed();
    // Most handlers are done at the first poll; only the others need a timer.
    let finished = match (&mut work).now_or_never() {
        Some(finished) => finished,
        None => tokio::select! {
            biased;
            finished = &mut work => finished,
            () = host.clock.sleep(timeout) => {
                let error = Error::new(Code::HANDLER_TIMED_OUT, format!("no result after {timeout:?}"));
                return Err(Failure::Failed(error));
            }
        },
    };
    finished.unwrap_or_else(|panic| Err(Failure::Failed(panicked(&*panic))))
}

/// A panic as an error that says what the panic said.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    Error::new(Code::HANDLER_PANICKED, format!("the handler panicked: {text}"))
}

/// A reaction as the lanes run it.
pub(crate) struct ReactionHandler {
    pub(crate) name: String,
    pub(crate) event_type: EventType,
    pub(crate) call: Call,
    /// Whether each delivery is worked on in the transaction that settles it.
    pub(crate) joins: bool,
    pub(crate) states: Arc<States>,
    pub(crate) settings: Settings,
    pub(crate) gate: Gate,
    pub(crate) shared: Arc<Shared>,
}

impl ReactionHandler {
    async fn handle(&self, recorded: &Recorded, attempt_number: u32) -> Result<Effects, Failure> {
        let mut context = context(
            self.states.clone(),
            recorded,
            &self.name,
            attempt_number,
            self.settings.timeout,
            &self.shared.press,
        );
        let transaction = if self.joins {
            Some(transaction::begin(&*self.shared.store, &mut context).await?)
        } else {
            None
        };
        let call = Arc::clone(&self.call);
        // The call itself happens inside the future, so that a panic in it is caught too.
        let work = Box::pin(async move { call(context).await });
        let drafts = attempt(&self.shared.press.host, self.settings.timeout, work).await?;
        let origin = Origin::of(&recorded.envelope, &self.name);
        Ok(Effects { transaction, ..delayed::caused(&self.shared, drafts, &origin) })
    }
}

pub(crate) fn context(
    states: Arc<States>,
    recorded: &Recorded,
    handler: &str,
    attempt: u32,
    timeout: Duration,
    press: &Press,
) -> Context {
    Context {
        states,
        recorded: recorded.clone(),
        handler: handler.to_owned(),
        attempt,
        deadline: press.host.clock.now() + timeout,
        host: press.host.clone(),
        session: None,
    }
}

/// How long a batch may grow before what is done is settled, so that slow handlers do not hold back what they have caused.
pub(crate) const SETTLE_AFTER: Duration = Duration::from_millis(1);

impl Handler for ReactionHandler {
    fn types(&self) -> Vec<EventType> {
        vec![self.event_type.clone()]
    }

    fn work<'a>(&'a self, batch: &'a [Recorded], attempt: u32) -> BoxFuture<'a, Handled> {
        Box::pin(one_by_one(&self.shared, &self.gate, batch, move |recorded| self.handle(recorded, attempt)))
    }
}

/// Handles deliveries one after the other until one fails or finds no room, time is up, or the batch is heavy.
pub(crate) async fn one_by_one<'a, F, Fut>(
    shared: &Shared,
    gate: &Gate,
    batch: &'a [Recorded],
    handle: F,
) -> Handled
where
    F: Fn(&'a Recorded) -> Fut,
    Fut: Future<Output = Result<Effects, Failure>>,
{
    let clock = &shared.press.host.clock;
    let started = clock.monotonic();
    let mut done = Handled::default();
    for recorded in batch {
        let permit = match gate.admit(recorded, shared) {
            Ok(permit) => permit,
            Err(no_room) => {
                done.wait = Some(no_room.wait());
                break;
            }
        };
        let result = handle(recorded).await;
        let wait = permit.end(&result, &**clock);
        gate.keep_record(shared).await;
        match result {
            // It is handled again when what it has not seen is stored.
            Ok(effects) if done.effects.is_unseen_by(&effects) => break,
            Ok(effects) => done.effects.absorb(effects),
            Err(failure) => {
                (done.failure, done.wait) = (Some(failure).filter(|_| wait.is_none()), wait);
                break;
            }
        }
        done.count += 1;
        if done.effects.is_heavy() || clock.monotonic().saturating_sub(started) > SETTLE_AFTER {
            break;
        }
    }
    done
}
