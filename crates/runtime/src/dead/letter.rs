//! A dead letter: which event, why, since when.

use bytes::Bytes;
use ensue_core::{
    Code, Error, EventId, EventType, Failure, Position, RecordWrite, Recorded, Revision, Source, Timestamp,
};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::Edit;
use crate::spaces::{self, DEAD};
use crate::subscription::Shared;

/// A parked event.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Parked {
    /// What orders it; other keys are not held up.
    pub key: SmolStr,
    /// Which event.
    pub position: Position,
    /// Its type.
    pub event_type: EventType,
    /// Its id.
    pub event_id: EventId,
    /// Its source; with the id, what the door knows it by.
    #[serde(default)]
    pub source: Option<Source>,
    /// Its flow.
    pub flow: EventId,
    /// Why: the code, such as `E0301`; `E0304` for one that waits behind another.
    pub code: String,
    /// Why, in words.
    pub reason: String,
    /// How often it was tried; zero for one that waits behind another.
    pub attempts: u32,
    /// Since when.
    pub parked_at: Timestamp,
    /// When its retries ran out for the first time; none for one that waits behind another.
    #[serde(default)]
    pub first_failed_at: Option<Timestamp>,
    /// When it failed last.
    #[serde(default)]
    pub last_failed_at: Option<Timestamp>,
    /// The code version it failed with, or that put it behind another; none where the application named none.
    #[serde(default)]
    pub code_version: Option<SmolStr>,
    /// That its body was edited: the handler is given the copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit: Option<Edit>,
    /// When it is tried again by itself: it is deferred, not dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Parked {
    /// The letter of an event whose retries have run out.
    pub(crate) fn failed(
        recorded: &Recorded,
        key: &str,
        error: &Error,
        attempts: u32,
        shared: &Shared,
    ) -> Self {
        let now = shared.press.host.clock.now();
        let waiting = Self::because(recorded, key, error, shared);
        Self { attempts, first_failed_at: Some(now), last_failed_at: Some(now), ..waiting }
    }

    /// The letter of an event that waits behind another of its key.
    pub(crate) fn waiting(recorded: &Recorded, key: &str, shared: &Shared) -> Self {
        let error = Error::new(Code::KEY_PARKED, format!("waits behind an earlier event of {key}"));
        Self::because(recorded, key, &error, shared)
    }

    fn because(recorded: &Recorded, key: &str, error: &Error, shared: &Shared) -> Self {
        Self {
            key: key.into(),
            position: recorded.position,
            event_type: recorded.envelope.event_type.clone(),
            event_id: recorded.envelope.id.clone(),
            source: Some(recorded.envelope.source.clone()),
            flow: recorded.envelope.flow().clone(),
            code: error.code().to_string(),
            reason: error.message().to_owned(),
            attempts: 0,
            parked_at: shared.press.host.clock.now(),
            first_failed_at: None,
            last_failed_at: None,
            code_version: shared.version.clone(),
            edit: None,
            until: None,
        }
    }

    /// A delivery that is set aside after so many failed attempts; [`Parked::until`] says for how long.
    pub(crate) fn deferred(recorded: &Recorded, key: &str, attempts: u32, shared: &Shared) -> Self {
        let error = Error::new(Code::DEFERRED, "the handler asked for it");
        Self { attempts, ..Self::because(recorded, key, &error, shared) }
    }

    /// It is tried again at this time, because of this failure.
    pub(crate) fn until(self, until: Timestamp, failure: &Failure, shared: &Shared) -> Self {
        let attempts = self.attempts;
        let letter = match failure {
            Failure::Failed(error) => Self { attempts, ..self.failed_again(error, shared) },
            _ => self,
        };
        Self { until: Some(until), ..letter }
    }

    pub(crate) fn failed_again(mut self, error: &Error, shared: &Shared) -> Self {
        let now = shared.press.host.clock.now();
        self.code = error.code().to_string();
        error.message().clone_into(&mut self.reason);
        self.until = None;
        self.attempts += 1;
        self.first_failed_at.get_or_insert(now);
        self.last_failed_at = Some(now);
        self.code_version.clone_from(&shared.version);
        self
    }

    pub(crate) fn write(&self, subscription: &str) -> RecordWrite {
        RecordWrite::put(DEAD.clone(), self.place(subscription), spaces::encode(self))
    }

    /// Its record: letters sort by handler, key and position.
    pub(crate) fn place(&self, handler: &str) -> Bytes {
        spaces::at_position(&[handler, &self.key], self.position)
    }

    /// Whether this is the event that failed, not one that waits behind it.
    pub fn is_cause(&self) -> bool {
        self.attempts > 0
    }
}

/// A dead letter with the handler it belongs to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DeadLetter {
    /// The handler that could not process it.
    pub handler: SmolStr,
    /// Whom it is for, where somebody was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<SmolStr>,
    /// The event and why.
    #[serde(flatten)]
    pub parked: Parked,
    /// Of its record; what is done to the letter is done only if it still has this one.
    #[serde(skip)]
    pub(crate) revision: Revision,
}
