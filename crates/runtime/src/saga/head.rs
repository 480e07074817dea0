//! The head of an instance: where it stands, kept as a record beside its journal so that listing reads no journals.

use ensue_core::{
    Code, Error, EventId, Read, RecordScan, RecordWrite, Store, StoreExt, StreamName, Timestamp,
};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::journal::{Asked, Ending, Journal, Kind, Trouble, UNDO_PREFIX};
use crate::moment::Moment;
use crate::spaces::{self, SAGA};

/// How an instance stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SagaStatus {
    /// A local step is being run.
    Running,
    /// It waits for a reply, an event or time.
    Waiting,
    /// It is undoing its steps.
    Compensating,
    /// It cannot go on without a decision.
    NeedsAttention,
    /// An operator has paused it; what arrives is kept.
    Paused,
    /// It ended as planned.
    Completed,
    /// It ended with everything undone.
    Compensated,
    /// An operator has ended it, with everything left as it was.
    Terminated,
}

impl SagaStatus {
    /// Whether it has ended.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Compensated | Self::Terminated)
    }

    /// As it is stored and printed, such as `needs_attention`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Compensating => "compensating",
            Self::NeedsAttention => "needs_attention",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
            Self::Terminated => "terminated",
        }
    }
}

/// What an instance was asked for and does as soon as the application runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requested {
    /// To go back.
    Cancel,
}

/// How the code of a saga and the journal of an instance differ: their operations in order, in words.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Difference {
    /// The operations on record.
    pub journal: Vec<String>,
    /// The operations that the code asks for, up to where it cannot go on.
    pub code: Vec<String>,
    /// The first place where they differ, from zero.
    pub first: usize,
}

impl std::fmt::Display for Difference {
    /// Two columns, with a mark at the first difference.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = self.journal.iter().map(|line| line.chars().count()).max().unwrap_or(0).max(7);
        write!(f, "     {:<width$}  code", "journal")?;
        for place in 0..self.journal.len().max(self.code.len()) {
            let side = |lines: &[String]| lines.get(place).cloned().unwrap_or_else(|| "-".to_owned());
            let mark = if place == self.first { ">" } else { " " };
            let (journal, code) = (side(&self.journal), side(&self.code));
            write!(f, "\n{mark}{:>3} {journal:<width$}  {code}", place + 1)?;
        }
        Ok(())
    }
}

/// Where an instance stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SagaHead {
    /// The saga's name.
    pub saga: SmolStr,
    /// The instance.
    pub key: SmolStr,
    /// How it stands.
    pub status: SagaStatus,
    /// The step it is at.
    pub step: Option<SmolStr>,
    /// What it waits for, in words.
    pub waits_for: Option<String>,
    /// When it gives up waiting.
    pub until: Option<Timestamp>,
    /// Why it is undoing, or cannot go on: the code.
    pub code: Option<String>,
    /// The same in words.
    pub reason: Option<String>,
    /// What an operator has asked for that the application has not come to yet.
    #[serde(default)]
    pub requested: Option<Requested>,
    /// Steps that are done and can be undone, in the order in which they were done.
    pub undoable: Vec<SmolStr>,
    /// Steps that are undone, in the order in which they were undone.
    pub undone: Vec<SmolStr>,
    /// Steps that succeeded when the instance was over: nobody took their results, and nothing undoes them.
    #[serde(default)]
    pub unclaimed: Vec<SmolStr>,
    /// How code and journal differ, where that is why it cannot go on.
    #[serde(default)]
    pub difference: Option<Difference>,
    /// The flow it belongs to.
    pub flow: EventId,
    /// Since when it stands so.
    pub since: Timestamp,
}

impl SagaHead {
    /// What a journal comes to.
    pub(crate) fn of(journal: &Journal, saga: &str, key: &str, flow: EventId, since: Timestamp) -> Self {
        let undo = journal.undoable.iter().rev().find(|undoable| !undoable.state.is_settled());
        let (status, code, reason) = standing(journal, undo.is_some());
        let open: Vec<&Asked> = journal.asked.iter().filter(|asked| asked.outcome.is_none()).collect();
        let is_under_way = matches!(status, SagaStatus::Waiting | SagaStatus::Running | SagaStatus::Paused);
        let step = match &journal.ending {
            Some(Ending::NeedsAttention(trouble)) => trouble.step.clone(),
            _ if status == SagaStatus::Compensating => {
                undo.map(|undoable| format!("{UNDO_PREFIX}{}", undoable.step).into())
            }
            _ if is_under_way => open.first().map(|asked| asked.step.clone()),
            _ => None,
        };
        let waits_for: Vec<String> = open.iter().map(|asked| waits_for(asked)).collect();
        let difference = match &journal.ending {
            Some(Ending::NeedsAttention(trouble)) => trouble.difference.clone(),
            _ => None,
        };
        Self {
            saga: saga.into(),
            key: key.into(),
            waits_for: Some(waits_for.join(", "))
                .filter(|text| status == SagaStatus::Waiting && !text.is_empty()),
            until: until(journal, &open).filter(|_| !status.is_over()),
            status,
            step,
            code,
            reason,
            requested: asked_to_cancel(journal).map(|_| Requested::Cancel),
            undoable: journal.undoable.iter().map(|undoable| undoable.step.clone()).collect(),
            undone: journal.undone(),
            unclaimed: journal.unclaimed.clone(),
            difference,
            flow,
            since,
        }
    }

    pub(crate) fn write(&self) -> RecordWrite {
        RecordWrite::put(SAGA.clone(), spaces::join(&[&self.saga, &self.key]), spaces::encode(self))
    }

    /// The stream that is the instance's journal.
    pub fn stream(&self) -> Result<StreamName, Error> {
        super::stream_of(&self.saga, &self.key)
    }
}

/// The first moment at which the instance gives something up by itself.
fn until(journal: &Journal, open: &[&Asked]) -> Option<Timestamp> {
    let steps = open.iter().filter_map(|asked| asked.again_at.or(asked.due));
    let deadline = journal.deadline.filter(|_| !journal.pivoted && journal.unwinding.is_none());
    steps.chain(deadline).min()
}

/// Code and reason of a request to go back that nobody has come to yet. A deadline that is over is no request.
fn asked_to_cancel(journal: &Journal) -> Option<&(String, String)> {
    let is_request = |(code, _): &&(String, String)| *code == Code::SAGA_CANCELLED.to_string();
    let is_open = journal.unwinding.is_none() && journal.ending.is_none();
    journal.cancelled.as_ref().filter(is_request).filter(|_| is_open)
}

/// How an instance stands, with the code and the reason where there are any.
fn standing(journal: &Journal, has_undo: bool) -> (SagaStatus, Option<String>, Option<String>) {
    let because = |(code, reason): &(String, String)| (Some(code.clone()), Some(reason.clone()));
    let is_local = |asked: &Asked| asked.outcome.is_none() && asked.kind == Kind::Local;
    let (status, code, reason) = match (&journal.ending, &journal.paused, &journal.unwinding) {
        (Some(Ending::NeedsAttention(Trouble { code, reason, .. })), ..) => {
            (SagaStatus::NeedsAttention, Some(code.clone()), Some(reason.clone()))
        }
        (Some(Ending::Completed), ..) => (SagaStatus::Completed, None, None),
        (Some(Ending::Terminated(reason)), ..) => (SagaStatus::Terminated, None, Some(reason.clone())),
        (Some(Ending::Compensated(_)), _, Some(why)) if !has_undo => {
            let (code, reason) = because(why);
            (SagaStatus::Compensated, code, reason)
        }
        (_, Some(reason), _) => (SagaStatus::Paused, None, Some(reason.clone())),
        (.., Some(why)) => {
            let (code, reason) = because(why);
            (SagaStatus::Compensating, code, reason)
        }
        _ if journal.asked.iter().any(is_local) => (SagaStatus::Running, None, None),
        _ => (SagaStatus::Waiting, None, None),
    };
    match asked_to_cancel(journal).filter(|_| reason.is_none()) {
        Some(why) => {
            let (code, reason) = because(why);
            (status, code, reason)
        }
        None => (status, code, reason),
    }
}

fn waits_for(asked: &Asked) -> String {
    match &asked.kind {
        Kind::Command(command) => match super::child::started_by(command) {
            Some(saga) => format!("the end of saga {saga}"),
            None => format!("the answer to {command}"),
        },
        Kind::Wait { event_type, key, .. } => format!("{event_type} of {key}"),
        Kind::Sleep => "time to pass".to_owned(),
        Kind::Local => "its own step".to_owned(),
    }
}

/// The head of one instance.
pub async fn get(store: &dyn Store, saga: &str, key: &str) -> Result<Option<SagaHead>, Error> {
    let record = store.record(SAGA.clone(), spaces::join(&[saga, key])).await?;
    record.map(|record| spaces::decode("saga", &record.value)).transpose()
}

/// The head of one instance as it was at a moment, folded anew from its journal; `None` if it had not begun.
pub async fn at(store: &dyn Store, saga: &str, key: &str, moment: Moment) -> Result<Option<SagaHead>, Error> {
    let until = moment.position(store).await?;
    let events = store.collect(Read::stream(super::stream_of(saga, key)?).until(until)).await?;
    let Some(last) = events.last() else { return Ok(None) };
    let mut journal = Journal::default();
    journal.extend(&events)?;
    Ok(Some(SagaHead::of(&journal, saga, key, last.envelope.flow().clone(), last.recorded_at)))
}

/// The heads of every instance, by saga and key.
pub async fn list(store: &dyn Store) -> Result<Vec<SagaHead>, Error> {
    let records = store.records(RecordScan::all(SAGA.clone())).await?;
    records.iter().map(|record| spaces::decode("saga", &record.value)).collect()
}
