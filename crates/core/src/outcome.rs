//! What became of a delivery.

use std::error::Error as StdError;
use std::time::Duration;

use jiff::Timestamp;

use crate::emits::Emits;
use crate::error::{Code, Error};
use crate::event::{Draft, EventInfo};

/// An answer that is neither success nor error: for handlers that steer their own delivery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Done.
    Ack,
    /// Not now; again after this pause, without counting as a failure.
    Retry(Duration),
    /// Not before this time. The delivery is set aside, and those of the same key behind it wait with it in their order;
    /// other keys go on.
    Defer(Timestamp),
    /// Never; park it with this reason at once.
    Reject(String),
}

/// Why a delivery is not done.
#[derive(Clone, Debug)]
pub enum Failure {
    /// It failed; the retry policy decides.
    Failed(Error),
    /// The handler asked for another try after a pause.
    Later(Duration),
    /// The handler asked to be left alone with it until this time.
    Deferred(Timestamp),
    /// The handler said that trying again is of no use.
    Rejected(Error),
}

/// What a handler may return.
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    note = "return an event, `()`, `Option`, `Vec`, a tuple of those, an enum with `#[derive(Emits)]`, `Outcome`, or a `Result` of these"
)]
pub trait IntoOutcome: Send + 'static {
    /// Every event type that can come out.
    fn types() -> Vec<EventInfo>;

    /// The events, or why there are none.
    fn into_outcome(self) -> Result<Vec<Draft>, Failure>;
}

impl<T: Emits> IntoOutcome for T {
    fn types() -> Vec<EventInfo> {
        T::types()
    }

    fn into_outcome(self) -> Result<Vec<Draft>, Failure> {
        let mut drafts = Vec::new();
        self.emit(&mut drafts).map_err(Failure::Failed)?;
        Ok(drafts)
    }
}

impl IntoOutcome for Outcome {
    fn types() -> Vec<EventInfo> {
        Vec::new()
    }

    fn into_outcome(self) -> Result<Vec<Draft>, Failure> {
        match self {
            Self::Ack => Ok(Vec::new()),
            Self::Retry(pause) => Err(Failure::Later(pause)),
            Self::Defer(until) => Err(Failure::Deferred(until)),
            Self::Reject(reason) => Err(Failure::Rejected(Error::new(Code::REJECTED, reason))),
        }
    }
}

impl<T: IntoOutcome, E: StdError + Send + Sync + 'static> IntoOutcome for Result<T, E> {
    fn types() -> Vec<EventInfo> {
        T::types()
    }

    fn into_outcome(self) -> Result<Vec<Draft>, Failure> {
        match self {
            Ok(value) => value.into_outcome(),
            Err(error) => Err(Failure::Failed(handler_error(error))),
        }
    }
}

/// A user's error as ours: our own stays what it is, a foreign one becomes `E0301` with its text.
pub fn handler_error<E: StdError + Send + Sync + 'static>(error: E) -> Error {
    let boxed: Box<dyn StdError + Send + Sync> = Box::new(error);
    match boxed.downcast::<Error>() {
        Ok(ours) => *ours,
        Err(foreign) => Error::new(Code::HANDLER_FAILED, foreign.to_string()).with_source(foreign),
    }
}
