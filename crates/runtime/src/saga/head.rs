//! The head of an instance: where it stands, kept as a record beside its journal so that listing reads no journals.

use ensue_core::{Error, EventId, RecordScan, RecordWrite, Store, StoreExt, StreamName, Timestamp};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

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
    /// It ended as planned.
    Completed,
    /// It ended with everything undone.
    Compensated,
}

impl SagaStatus {
    /// Whether it has ended.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Compensated)
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
    /// Steps that are done and can be undone, in the order in which they were done.
    pub undoable: Vec<SmolStr>,
    /// Steps that are undone, in the order in which they were undone.
    pub undone: Vec<SmolStr>,
    /// The flow it belongs to.
    pub flow: EventId,
    /// Since when it stands so.
    pub since: Timestamp,
}

impl SagaHead {
    pub(crate) fn write(&self) -> RecordWrite {
        RecordWrite::put(SAGA.clone(), spaces::join(&[&self.saga, &self.key]), spaces::encode(self))
    }

    /// The stream that is the instance's journal.
    pub fn stream(&self) -> Result<StreamName, Error> {
        super::stream_of(&self.saga, &self.key)
    }
}

/// The head of one instance.
pub async fn get(store: &dyn Store, saga: &str, key: &str) -> Result<Option<SagaHead>, Error> {
    let record = store.record(SAGA.clone(), spaces::join(&[saga, key])).await?;
    record.map(|record| spaces::decode("saga", &record.value)).transpose()
}

/// The heads of every instance, by saga and key.
pub async fn list(store: &dyn Store) -> Result<Vec<SagaHead>, Error> {
    let records = store.records(RecordScan::all(SAGA.clone())).await?;
    records.iter().map(|record| spaces::decode("saga", &record.value)).collect()
}
