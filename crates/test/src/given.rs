//! Decisions as sentences: given what happened, when this is asked, then that is caused.
//!
//! ```
//! # use ensue_core::{Event, EventInfo};
//! # #[derive(serde::Serialize, serde::Deserialize)]
//! # struct Reserved { seat: u32 }
//! # impl Event for Reserved {
//! #     const INFO: EventInfo =
//! #         EventInfo { event_type: "Reserved", version: 1, topic: "Show", key_field: "" };
//! #     fn key(&self) -> String { "tonight".to_owned() }
//! # }
//! # fn count(taken: &mut u32, _: &Reserved) { *taken += 1; }
//! # fn reserve(taken: &u32, seats: u32) -> Result<Vec<Reserved>, String> {
//! #     if *taken < seats { Ok(vec![Reserved { seat: *taken + 1 }]) } else { Err("sold out".to_owned()) }
//! # }
//! use ensue_test::given_folded;
//!
//! given_folded(count, [Reserved { seat: 1 }])
//!     .decide(|taken| reserve(taken, 2))
//!     .then([Reserved { seat: 2 }])
//!     .decide(|taken| reserve(taken, 2))
//!     .then_error("sold out");
//! ```
//!
//! For an [`Aggregate`] it is `given::<Account>(events).when(command).then(events)`.
//!
//! Every event, given or decided, travels through its stored form and back on the way, so a type that does not
//! survive storage fails here. Nothing is awaited and nothing is stored.

use std::fmt::{Display, Write};

use bytes::Bytes;
use ensue_core::{Aggregate, ContentType, Draft, Envelope, EventId, EventSet, Source, Timestamp};
use serde::Serialize;

use crate::diff;

/// What happened so far to an aggregate.
///
/// # Panics
/// If an event does not survive being stored and read.
#[must_use = "a past alone asserts nothing"]
#[track_caller]
pub fn given<A: Aggregate>(events: impl IntoIterator<Item = A::Event>) -> Given<A, A::Event> {
    given_folded(A::evolve, events)
}

/// What happened so far, for a decision that is not an aggregate's: state is folded from events by a function.
///
/// # Panics
/// If an event does not survive being stored and read.
#[must_use = "a past alone asserts nothing"]
#[track_caller]
pub fn given_folded<S: Default, E: EventSet>(
    evolve: fn(&mut S, &E),
    events: impl IntoIterator<Item = E>,
) -> Given<S, E> {
    Given { state: S::default(), evolve, history: Vec::new() }.and(events)
}

/// The past of a decision.
pub struct Given<S, E> {
    state: S,
    evolve: fn(&mut S, &E),
    history: Vec<String>,
}

impl<S, E: EventSet> Given<S, E> {
    /// And then this happened.
    ///
    /// # Panics
    /// If an event does not survive being stored and read.
    #[must_use = "a past alone asserts nothing"]
    #[track_caller]
    pub fn and(mut self, events: impl IntoIterator<Item = E>) -> Self {
        for event in events {
            let draft = draft_of(&event);
            (self.evolve)(&mut self.state, &through_storage(&draft));
            self.history.push(headline(&draft));
        }
        self
    }

    /// Decides with a function of the state.
    pub fn decide<F>(self, decision: impl FnOnce(&S) -> Result<Vec<E>, F>) -> Decided<S, E, F> {
        let outcome = decision(&self.state);
        Decided { given: self, outcome }
    }

    /// Looks at the state, which the closure asserts something about.
    #[expect(clippy::return_self_not_must_use, reason = "the closure has asserted; the chain may end here")]
    #[track_caller]
    pub fn expect_state(self, look: impl FnOnce(&S)) -> Self {
        look(&self.state);
        self
    }

    /// The state.
    pub fn into_state(self) -> S {
        self.state
    }
}

impl<A: Aggregate> Given<A, A::Event> {
    /// Asks this of the aggregate.
    pub fn when(self, command: impl Into<A::Command>) -> Decided<A, A::Event, A::Error> {
        let command = command.into();
        self.decide(|state| state.decide(command))
    }
}

/// What was decided.
#[must_use = "a decision alone asserts nothing"]
pub struct Decided<S, E, F> {
    given: Given<S, E>,
    outcome: Result<Vec<E>, F>,
}

impl<S, E: EventSet, F: Display + Serialize> Decided<S, E, F> {
    /// Exactly these events are caused, in this order; none at all: `then([])`. What follows is asked of the state
    /// after them.
    ///
    /// # Panics
    /// If it was decided otherwise; the message shows the difference line by line.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = E>) -> Given<S, E> {
        let expected: Vec<String> = expected.into_iter().map(|event| shown(&draft_of(&event))).collect();
        self.assert_same(&join(&expected));
        let events = self.outcome.ok().unwrap_or_default();
        self.given.and(events)
    }

    /// It is refused with this error. Errors are compared by what they serialise to.
    ///
    /// # Panics
    /// If it was decided otherwise; the message shows the difference line by line.
    #[track_caller]
    pub fn then_error(self, expected: impl Into<F>) -> Given<S, E> {
        self.assert_same(&shown_error(&expected.into()));
        self.given
    }

    #[track_caller]
    fn assert_same(&self, expected: &str) {
        let actual = match &self.outcome {
            Ok(events) => join(&events.iter().map(|event| shown(&draft_of(event))).collect::<Vec<_>>()),
            Err(error) => shown_error(error),
        };
        let history =
            if self.given.history.is_empty() { "nothing".to_owned() } else { self.given.history.join(", ") };
        assert!(
            expected == actual,
            "given {history}, it was decided otherwise (- expected, + decided):\n{}",
            diff::lines(expected, &actual)
        );
    }
}

#[track_caller]
fn draft_of<E: EventSet>(event: &E) -> Draft {
    event.draft().unwrap_or_else(|error| panic!("the event cannot be stored: {error}"))
}

/// The event as a reader of the log would get it.
#[track_caller]
fn through_storage<E: EventSet>(draft: &Draft) -> E {
    let read =
        E::decode(&stored(draft)).unwrap_or_else(|error| panic!("the event cannot be read back: {error}"));
    let again = draft_of(&read);
    assert!(
        again == *draft,
        "the event changes when it is stored and read (- stored, + read back):\n{}",
        diff::lines(&shown(draft), &shown(&again))
    );
    read
}

/// The envelope of a draft, with placeholders for what the runtime fills in.
fn stored(draft: &Draft) -> Envelope {
    Envelope {
        id: EventId::new("given").expect("a valid id"),
        source: Source::new("ensue-test").expect("a valid source"),
        event_type: draft.event_type.clone(),
        schema_version: draft.schema_version,
        time: Timestamp::UNIX_EPOCH,
        correlation: None,
        causation: None,
        trace: None,
        tags: draft.tags.clone(),
        extensions: Vec::new(),
        content_type: ContentType::json(),
        data: draft.data.clone(),
    }
}

fn headline(draft: &Draft) -> String {
    format!("{} in {}", draft.event_type, draft.stream)
}

fn shown(draft: &Draft) -> String {
    let mut text = format!("{} v{}", headline(draft), draft.schema_version);
    for tag in &draft.tags {
        write!(text, " [{tag}]").expect("a String takes everything");
    }
    text.push('\n');
    text.push_str(&pretty(&draft.data));
    text
}

fn shown_error<F: Display + Serialize>(error: &F) -> String {
    let body =
        serde_json::to_vec(error).unwrap_or_else(|cause| panic!("the error cannot be stored: {cause}"));
    format!("refused: {error}\n{}", pretty(&Bytes::from(body)))
}

fn pretty(json: &Bytes) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(json).ok();
    let text = value.and_then(|value| serde_json::to_string_pretty(&value).ok());
    text.unwrap_or_else(|| json.escape_ascii().to_string())
}

fn join(events: &[String]) -> String {
    if events.is_empty() { "no events".to_owned() } else { events.join("\n") }
}
