//! The flows that do not go on as they should, among all there are: found by the index, judged by reading them.

use std::collections::BTreeMap;

use ensue_core::{Code, Error, EventId, Position, Read, StoreExt, Timestamp};
use serde::Serialize;

use super::index::{Index, OpenFlow};
use super::status::Alarm;
use super::{FlowStatus, Flows};

/// A flow that does not go on as it should.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct StuckFlow {
    /// The id of the event that began it.
    pub flow: EventId,
    /// The business key of the event that began it.
    pub key: String,
    /// `stuck` or `late`; another where it is in order by itself, but waits longer than its kind may take.
    pub status: FlowStatus,
    /// When it stopped going on as it should: whatever was looked at or asked for since makes it no younger.
    pub since: Timestamp,
    /// The types of what it waits for, where they are known.
    pub waits_for: Option<String>,
    /// The service that it waits for, where it is known.
    pub from: Option<String>,
    /// Why, in words.
    pub reason: String,
    /// The error code behind it, where there is one.
    pub code: Option<String>,
}

impl Flows {
    /// Every flow that is late or stuck, or waits for a timer beyond what its kind may take, the longest first.
    ///
    /// Reads the index, the end of the log behind it, and the flows that may be concerned; not the whole log.
    pub async fn stuck(&self) -> Result<Vec<StuckFlow>, Error> {
        let index = self.index().await?;
        let held = self.progress.held();
        let mut candidates: BTreeMap<Position, EventId> = BTreeMap::new();
        for (id, flow) in &index.open {
            if held.contains(id) || !self.is_plainly_well(flow, id) {
                candidates.insert(flow.last, id.clone());
            }
        }
        let parked_only = held.into_iter().filter(|id| !index.open.contains_key(id));
        let mut found = Vec::new();
        for id in candidates.into_values().chain(parked_only) {
            found.extend(self.look(&id).await?);
        }
        found.sort_by(|one, other| (one.since, &one.key).cmp(&(other.since, &other.key)));
        Ok(found)
    }

    /// The index as of now: what is stored, and the rest of the log.
    pub(super) async fn index(&self) -> Result<Index, Error> {
        let mut index = Index::load(&*self.store, &self.catalogue).await?;
        index.advance_in_memory(&*self.store, Position::MAX).await?;
        index.end(&self.progress.settlements(&self.catalogue), &self.progress.held());
        Ok(index)
    }

    /// Whether its entry alone says that it waits for a timer in good time, as most flows do where many are open.
    fn is_plainly_well(&self, flow: &OpenFlow, id: &EventId) -> bool {
        let Some(Alarm { due, .. }) = self.timers.get(id).filter(|alarm| alarm.due > self.now) else {
            return false;
        };
        let declared = self.catalogue.flows.iter().find(|declared| declared.name == flow.kind);
        let deadline = declared.and_then(|declared| declared.deadline(flow.started_at));
        !flow.needs_decision && flow.stage.is_free() && deadline.is_none_or(|deadline| *due <= deadline)
    }

    async fn look(&self, flow: &EventId) -> Result<Option<StuckFlow>, Error> {
        let events = self.store.collect(Read::flow(flow.clone())).await?;
        let Some(root) = events.first() else {
            let gap = format!("the flow index knows {flow}, which is not in the log");
            return Err(Error::new(Code::CORRUPT, gap));
        };
        let (open, sagas) = (self.open_work(&events), self.sagas(&events).await?);
        let verdict = self.judge(flow, &events, &open, &sagas);
        if !verdict.is_beyond && !matches!(verdict.status, FlowStatus::Late | FlowStatus::Stuck) {
            return Ok(None);
        }
        let since = verdict.since.unwrap_or(root.recorded_at);
        let summary = self.summary(flow, root, &events, verdict);
        Ok(Some(StuckFlow {
            flow: summary.flow,
            key: summary.key,
            status: summary.status,
            since,
            waits_for: summary.waits_for,
            from: summary.from,
            reason: summary.reason.unwrap_or_default(),
            code: summary.code,
        }))
    }
}
