//! Who a log is, so that an event is recognised that has been in it before. Drawn once, and kept in the store.

use ensue_core::{Commit, CommitError, Envelope, Error, Revision, Store, StoreExt, SubscriptionName};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::LOGS;
use crate::message::{extension, set_extension};
use crate::spaces::{self, LINK};
use crate::subscription::Shared;

/// Its record; those of links have two parts.
const KEY: &str = "log";
/// Digits that tell logs apart in the name of a group.
const SHORT: usize = 8;

/// The identity of a log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct LogId(SmolStr);

impl LogId {
    /// That of the log of this application; drawn if it has none yet.
    pub(super) async fn of(shared: &Shared) -> Result<Self, Error> {
        if let Some(known) = shared.links.log.get() {
            return Ok(known.clone());
        }
        let id = loop {
            if let Some(id) = Self::stored(&*shared.store).await? {
                break id;
            }
            let drawn = Self(shared.press.host.event_id().as_str().replace('-', "").into());
            let write = ensue_core::RecordWrite::put(LINK.clone(), KEY, spaces::encode(&drawn));
            let commit = Commit { records: vec![write.expect(Revision::ZERO)], ..Commit::default() };
            match shared.store.commit(commit).await {
                // Read again, because another process may have been faster.
                Ok(_) | Err(CommitError::RecordConflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        };
        Ok(shared.links.log.get_or_init(|| id).clone())
    }

    /// That of a log, if it has one.
    pub(super) async fn stored(store: &dyn Store) -> Result<Option<Self>, Error> {
        let record = store.record(LINK.clone(), KEY).await?;
        record.map(|record| spaces::decode("identity", &record.value)).transpose()
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The group under which a link of this log consumes where it was told no other.
    pub(super) fn group(&self, link: &str) -> Result<SubscriptionName, Error> {
        let random = self.0.get(self.0.len().saturating_sub(SHORT)..).unwrap_or(&self.0);
        SubscriptionName::new(format!("ensue.{link}.{random}"))
    }

    /// Whether the event has been in this log before.
    pub(super) fn has_had(&self, envelope: &Envelope) -> bool {
        extension(envelope, LOGS).is_some_and(|logs| logs.split(' ').any(|log| log == self.0))
    }

    /// Adds the log to those that the event has been in.
    pub(super) fn mark(&self, envelope: &mut Envelope) {
        let logs = match extension(envelope, LOGS) {
            Some(before) => format!("{before} {}", self.0),
            None => self.0.to_string(),
        };
        set_extension(envelope, LOGS, &logs);
    }
}
