//! Requests to try the letters of a key again, and how they ended. One record for each key, so a request outlives
//! whoever asked and whoever serves it; the lane that owns the key keeps it up to date in its own settlements.

use std::time::Duration;

use ensue_core::{
    Error, EventId, Host, Position, Record, RecordScan, RecordWrite, Revision, Store, StoreExt, Timestamp,
};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::Parked;
use crate::spaces::{self, DEAD, REDRIVE, REDRIVEN};
use crate::timer::{self, Action};

/// How long the end of a redrive can be looked up.
const KEPT: Duration = Duration::from_hours(168);

/// The redrive of one key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Redrive {
    /// The handler that tries the letters.
    pub handler: SmolStr,
    /// The key.
    pub key: SmolStr,
    /// The request, which may be for many keys.
    pub request: EventId,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// By whom.
    pub requested_by: SmolStr,
    /// How many letters there were when it was asked for.
    pub letters: usize,
    /// How many of them are processed now.
    pub done: usize,
    /// When it has its turn, where it was asked for at a rate and its turn has not come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// How far it is.
    #[serde(flatten)]
    pub state: RedriveState,
}

/// How far a redrive is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RedriveState {
    /// Its handler has not come to the end of it, or does not run.
    Waiting,
    /// The key is free.
    Done {
        /// Since when.
        ended_at: Timestamp,
    },
    /// A letter failed again: it stays at its place, and what is behind it waits.
    FailedAgain {
        /// When.
        ended_at: Timestamp,
        /// Which letter.
        position: Position,
        /// Why: the code.
        code: String,
        /// Why, in words.
        reason: String,
    },
}

/// Who asks for something to be done, and when.
pub(super) struct Asker {
    request: EventId,
    at: Timestamp,
    by: SmolStr,
}

impl Asker {
    pub(super) fn new(host: &Host, by: SmolStr) -> Self {
        Self { request: host.event_id(), at: host.clock.now(), by }
    }

    pub(super) fn at(&self) -> Timestamp {
        self.at
    }

    pub(super) fn by(&self) -> &SmolStr {
        &self.by
    }

    pub(super) fn request(&self) -> &EventId {
        &self.request
    }

    /// The write that asks for the letters of a key to be tried again.
    pub(super) fn ask(&self, handler: &str, key: &str, letters: usize) -> RecordWrite {
        let redrive = self.redrive(handler, key, letters);
        RecordWrite::put(REDRIVE.clone(), redrive.place(), spaces::encode(&redrive))
    }

    /// The redrive of a key that is to begin.
    pub(super) fn redrive(&self, handler: &str, key: &str, letters: usize) -> Redrive {
        Redrive {
            handler: handler.into(),
            key: key.into(),
            request: self.request.clone(),
            requested_at: self.at,
            requested_by: self.by.clone(),
            letters,
            done: 0,
            due: None,
            state: RedriveState::Waiting,
        }
    }
}

impl Redrive {
    fn place(&self) -> bytes::Bytes {
        spaces::join(&[&self.handler, &self.key])
    }

    fn decode(record: &Record) -> Result<Self, Error> {
        spaces::decode("redrive", &record.value)
    }

    /// The request that is open for a key.
    pub(crate) async fn open(
        store: &dyn Store,
        handler: &str,
        key: &str,
    ) -> Result<Option<(Revision, Self)>, Error> {
        let record = store.record(REDRIVE.clone(), spaces::join(&[handler, key])).await?;
        record.map(|record| Ok((record.revision, Self::decode(&record)?))).transpose()
    }

    /// One more letter is processed.
    #[must_use]
    pub(crate) fn one_done(mut self) -> Self {
        self.done += 1;
        self.letters = self.letters.max(self.done);
        self
    }

    /// The write that keeps the request, as far as it has come.
    pub(crate) fn go_on(&self, revision: Revision) -> RecordWrite {
        RecordWrite::put(REDRIVE.clone(), self.place(), spaces::encode(self)).expect(revision)
    }

    /// The write that takes a request back whose letter waits for a time again. One that was made anew meanwhile stays.
    pub(crate) fn served(&self, revision: Revision) -> RecordWrite {
        RecordWrite::delete(REDRIVE.clone(), self.place()).expect(revision)
    }

    /// The request of a timer: a delivery that was deferred is due.
    pub(crate) fn due(handler: &str, key: &str, event: &EventId, now: Timestamp) -> RecordWrite {
        let by = "timer".into();
        Asker { request: event.clone(), at: now, by }.ask(handler, key, 1)
    }

    /// The writes that end it. A request that was made anew meanwhile is not ended by them.
    pub(crate) fn end(mut self, revision: Revision, state: RedriveState, now: Timestamp) -> Vec<RecordWrite> {
        self.state = state;
        let mut writes = vec![RecordWrite::delete(REDRIVE.clone(), self.place()).expect(revision)];
        if self.is_of_letters() {
            let kept = RecordWrite::put(REDRIVEN.clone(), self.place(), spaces::encode(&self));
            writes.push(kept.expires_at(now.checked_add(KEPT).unwrap_or(Timestamp::MAX)));
        }
        writes
    }

    /// Whether there was a letter to try. What a discard asks for only lets the lane see that letters are gone.
    fn is_of_letters(&self) -> bool {
        self.letters > 0 || matches!(self.state, RedriveState::FailedAgain { .. })
    }
}

impl RedriveState {
    pub(crate) fn failed_again(letter: &Parked, error: &Error, now: Timestamp) -> Self {
        Self::FailedAgain {
            ended_at: now,
            position: letter.position,
            code: error.code().to_string(),
            reason: error.message().to_owned(),
        }
    }
}

/// Every redrive whose turn has not come, then those that are open, then how those of the last seven days have ended; the newest of each key.
pub async fn redrives(store: &dyn Store) -> Result<Vec<Redrive>, Error> {
    let mut redrives = Vec::new();
    for timer in timer::held(store, |timer| matches!(timer.action, Action::Redrive(_))).await? {
        let Action::Redrive(redrive) = timer.action else { continue };
        redrives.push(Redrive { due: Some(timer.due), ..*redrive });
    }
    for space in [&REDRIVE, &REDRIVEN] {
        for record in store.records(RecordScan::all((*space).clone())).await? {
            redrives.push(Redrive::decode(&record)?);
        }
    }
    redrives.retain(Redrive::is_of_letters);
    Ok(redrives)
}

/// The oldest letter of a key, and whether there are more.
pub(crate) async fn front(
    store: &dyn Store,
    handler: &str,
    key: &str,
) -> Result<Option<(Revision, Parked, bool)>, Error> {
    let scan = RecordScan::prefix(DEAD.clone(), spaces::within(&[handler, key])).limit(1);
    let page = store.scan(scan).await?;
    let Some(record) = page.records.first() else { return Ok(None) };
    Ok(Some((record.revision, spaces::decode("dead letter", &record.value)?, page.next.is_some())))
}
