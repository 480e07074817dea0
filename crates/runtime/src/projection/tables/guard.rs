//! The guard of tables in another database than that of the log: how far they are, as a record in that database, compared and
//! advanced in the transaction of the rows.
//!
//! The checkpoint of the lane is in the database of the log and follows the guard. Where it has not followed yet, the events in
//! between are delivered again and found to be there.

use ensue_core::{Code, Error, EventId, Position, Read, RecordWrite, Recorded, Revision, Store, StoreExt};
use serde::{Deserialize, Serialize};

use crate::projection::subscription_name;
use crate::spaces::{self, DEAD, VIEW};

/// How far the tables are.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(super) struct Guard {
    /// Everything up to here is in the tables, but for what was parked or given up.
    pub(super) position: Position,
    /// Which event stands there, so that another log is recognised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<EventId>,
    /// A build has put everything up to here into the tables, parked or not.
    #[serde(default)]
    pub(super) built: Position,
    #[serde(skip)]
    pub(super) revision: Revision,
}

impl Guard {
    pub(super) async fn load(target: &dyn Store, name: &str) -> Result<Self, Error> {
        let Some(record) = target.record(VIEW.clone(), key(name)).await? else { return Ok(Self::default()) };
        let guard: Self = spaces::decode("read model", &record.value)?;
        Ok(Self { revision: record.revision, ..guard })
    }

    /// The tables after this event.
    pub(super) fn after(self, last: &Recorded) -> Self {
        Self { position: last.position, event: Some(last.envelope.id.clone()), ..self }
    }

    /// The tables as a build has left them, which has taken everything up to here.
    pub(super) async fn built(self, log: &dyn Store, at: Position) -> Result<Self, Error> {
        let event = event_at(log, at).await?;
        Ok(Self { position: at, event, built: at, ..self })
    }

    /// The write of it, unless somebody else has moved it meanwhile.
    pub(super) fn write(&self, name: &str) -> RecordWrite {
        RecordWrite::put(VIEW.clone(), key(name), spaces::encode(self)).expect(self.revision)
    }

    /// `E0323` unless this log can have left the tables where they are.
    pub(super) async fn check(&self, log: &dyn Store, name: &str) -> Result<(), Error> {
        let Some(expected) = &self.event else { return Ok(()) };
        let position = self.position;
        let reason = match event_at(log, position).await? {
            Some(found) if found == *expected => return Ok(()),
            Some(found) => format!(
                "event {expected} was the last they took, at position {position}, where the log has {found}"
            ),
            None => {
                let head = log.head().await?;
                if head >= position {
                    // The log has been cut off at its beginning since.
                    return Ok(());
                }
                format!("they stand at position {position}, the log ends at {head}")
            }
        };
        Err(Error::new(Code::TABLES_APART, format!("the tables of {name} are ahead of the log: {reason}")))
    }
}

fn key(name: &str) -> bytes::Bytes {
    spaces::join(&[name, "guard"])
}

async fn event_at(log: &dyn Store, position: Position) -> Result<Option<EventId>, Error> {
    if position == Position::ZERO {
        return Ok(None);
    }
    let read = Read::all().after(position.previous()).until(position).limit(1);
    Ok(log.collect(read).await?.pop().map(|found| found.envelope.id))
}

/// The mark that a parked event was taken in later, out of its place. `None` where that was done already, or nothing is parked:
/// then the event is one that was delivered twice.
pub(super) async fn redriven(
    (log, target): (&dyn Store, &dyn Store),
    name: &str,
    recorded: &Recorded,
    lane_key: &str,
) -> Result<Option<RecordWrite>, Error> {
    let letter = spaces::at_position(&[&subscription_name(name), lane_key], recorded.position);
    if log.record(DEAD.clone(), letter).await?.is_none() {
        return Ok(None);
    }
    let mark = spaces::at_position(&[name, "redriven"], recorded.position);
    if target.record(VIEW.clone(), mark.clone()).await?.is_some() {
        return Ok(None);
    }
    Ok(Some(RecordWrite::put(VIEW.clone(), mark, bytes::Bytes::from_static(b"true")).expect(Revision::ZERO)))
}
