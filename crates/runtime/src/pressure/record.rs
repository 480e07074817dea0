//! What others see of breakers: a record for as long as one is open, and the state of those that run here.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use ensue_core::{Commit, Error, RecordScan, RecordWrite, Store, StoreExt, Timestamp};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::breaker::{Breaker, BreakerState, Outage};
use super::{Pressure, SharedBreaker};
use crate::progress::lock;
use crate::spaces::{self, BREAKER};
use crate::subscription::Shared;

/// A breaker of the running application.
#[derive(Clone, Debug)]
pub struct BreakerStatus {
    /// The dependency.
    pub name: SmolStr,
    /// Whether calls are let through.
    pub state: BreakerState,
    /// Since when none is, if it is not closed.
    pub since: Option<Timestamp>,
    /// The last failure of the outage.
    pub error: Option<Error>,
    /// How long until a delivery may look whether the dependency is back; zero where one may now.
    pub looks_in: Option<Duration>,
    /// The handlers that share it.
    pub handlers: Vec<SmolStr>,
}

/// A breaker that is open in some process, as the store has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OpenBreaker {
    /// The dependency.
    pub name: SmolStr,
    /// The name of the application that held it for dead.
    pub application: SmolStr,
    /// When that was.
    pub since: Timestamp,
    /// The code of the failure that opened it.
    pub code: String,
    /// What that failure said.
    pub reason: String,
    /// The handlers that wait for it.
    pub handlers: Vec<SmolStr>,
}

/// What the store holds of an outage: since when, and where.
pub(super) type Recorded = Option<(Timestamp, Bytes)>;

impl Pressure {
    /// The breakers that run here, by name.
    pub(crate) fn breakers(&self, now: Duration) -> Vec<BreakerStatus> {
        let mut all: Vec<_> = lock(&self.breakers).iter().map(|shared| shared.status(now)).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }
}

impl SharedBreaker {
    fn status(&self, now: Duration) -> BreakerStatus {
        let circuit = lock(&self.circuit);
        let outage = circuit.outage();
        BreakerStatus {
            name: self.breaker.name.into(),
            state: circuit.state(),
            since: outage.map(|outage| outage.since),
            error: outage.map(|outage| outage.error.clone()),
            looks_in: outage.map(|outage| outage.wait(now)),
            handlers: lock(&self.handlers).clone(),
        }
    }

    /// Brings the store up to date where an outage has begun or ended. A store that does not take it now is told at the end of
    /// the next call: the record is for people, and nothing waits for it.
    pub(super) async fn keep_record(&self, shared: &Shared) {
        let mut recorded = self.recorded.lock().await;
        let outage = lock(&self.circuit).outage().cloned();
        if outage.as_ref().map(|outage| outage.since) == recorded.as_ref().map(|(since, _)| *since) {
            return;
        }
        let (write, goal) = match (outage, recorded.as_ref()) {
            (Some(outage), _) => {
                let me = shared.view.borrow().me;
                let key = spaces::join(&[self.breaker.name, &me.to_string()]);
                let value = spaces::encode(&self.open(&outage, shared));
                (RecordWrite::put(BREAKER.clone(), key.clone(), value), Some((outage.since, key)))
            }
            (None, Some((_, key))) => (RecordWrite::delete(BREAKER.clone(), key.clone()), None),
            (None, None) => return,
        };
        if shared.store.commit(Commit { records: vec![write], ..Commit::default() }).await.is_ok() {
            *recorded = goal;
        }
    }

    fn open(&self, outage: &Outage, shared: &Shared) -> OpenBreaker {
        OpenBreaker {
            name: self.breaker.name.into(),
            application: shared.press.source.as_str().into(),
            since: outage.since,
            code: outage.error.code().to_string(),
            reason: outage.error.message().to_owned(),
            handlers: lock(&self.handlers).clone(),
        }
    }
}

/// The breakers that are open, by name. What a process that has ended left behind stands until an application starts that
/// mounts the same breaker.
pub async fn open_breakers(store: &dyn Store) -> Result<Vec<OpenBreaker>, Error> {
    let records = store.records(RecordScan::all(BREAKER.clone())).await?;
    records.iter().map(|record| spaces::decode("breaker", &record.value)).collect()
}

/// Removes what processes left behind that are gone: it begins closed.
pub(crate) async fn clear(store: &dyn Store, breakers: impl Iterator<Item = Breaker>) -> Result<(), Error> {
    let names: HashSet<&str> = breakers.map(|breaker| breaker.name).collect();
    if names.is_empty() {
        return Ok(());
    }
    let alive = crate::sharing::members(store).await?;
    let alive: HashSet<String> = alive.iter().map(|member| member.id.to_string()).collect();
    let records = store.records(RecordScan::all(BREAKER.clone())).await?;
    let is_left = |key: &Bytes| {
        let key = String::from_utf8_lossy(key);
        key.split_once('\0').is_some_and(|(name, member)| names.contains(name) && !alive.contains(member))
    };
    let left = records.into_iter().filter(|record| is_left(&record.key));
    let records: Vec<RecordWrite> =
        left.map(|record| RecordWrite::delete(BREAKER.clone(), record.key)).collect();
    if !records.is_empty() {
        store.commit(Commit { records, ..Commit::default() }).await?;
    }
    Ok(())
}
