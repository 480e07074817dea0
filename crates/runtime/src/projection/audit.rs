//! The audit of a read model: has each lane taken every event that the log holds for it, and are the documents those that
//! were written? It replays nothing: counts and sums of hashes are compared, which the lanes keep beside their checkpoints.

use std::sync::Arc;

use bytes::Bytes;
use ensue_core::{
    Commit, Error, Position, Query, Read, RecordScan, RecordWrite, Space, Store, StoreExt, Timestamp,
};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};

use super::generation::{self, Generation};
use super::handler::own;
use super::hold::Holder;
use super::inline::Stamp;
use super::inline::fence::Marker;
use super::{Projection, subscription_name};
use crate::spaces::{self, VIEW};
use crate::subscription::Checkpoints;
use crate::tally::Tally;

/// Looks at documents that kept changing meanwhile, before the lanes are stopped for one.
const LOOKS_MAX: u32 = 3;

/// What an audit found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Audit {
    /// Which read model.
    pub projection: String,
    /// One for each lane.
    pub lanes: Vec<LaneAudit>,
    /// Documents that the lanes have written and not removed.
    pub documents_written: u64,
    /// Documents that are there.
    pub documents_found: u64,
    /// Whether the documents that are there are those that were written.
    pub documents_match: bool,
}

/// The events of one lane, as it counted them and as the log holds them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LaneAudit {
    /// Which lane.
    pub lane: u16,
    /// It counts events after this position.
    pub since: Position,
    /// Everything of the lane up to here is settled.
    pub position: Position,
    /// Events it has taken: applied, parked or skipped.
    pub taken: u64,
    /// Of these: those that were skipped.
    pub skipped: u64,
    /// Events that the log holds for it.
    pub logged: u64,
    /// Events that the log has dropped in this range, of any type. Which of them were the lane's is not known.
    pub dropped: u64,
    /// Whether they are the same events; where some were dropped, whether those that the log lacks may be among them: more cannot be told.
    pub matches: bool,
}

impl Audit {
    /// Whether everything is as it should be.
    pub fn is_clean(&self) -> bool {
        self.documents_match && self.lanes.iter().all(|lane| lane.matches)
    }

    /// What is not as it should be, in words.
    pub fn findings(&self) -> Vec<String> {
        let mut found: Vec<String> = self
            .lanes
            .iter()
            .filter(|lane| !lane.matches)
            .map(|lane| {
                let LaneAudit { lane, taken, logged, since, position, .. } = lane;
                format!("lane {lane} has taken {taken} events after {since} up to {position}; the log holds {logged} for it, or others")
            })
            .collect();
        if !self.documents_match {
            let (found_now, written) = (self.documents_found, self.documents_written);
            found.push(format!(
                "{found_now} documents are there, {written} were written; at least one is not as it was written"
            ));
        }
        found
    }
}

/// That a check found a read model to differ; stays on record until a later one finds it clean, or a rebuild mends it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Alarm {
    /// Which read model.
    pub projection: String,
    /// What was found.
    pub findings: Vec<String>,
    /// When.
    pub since: Timestamp,
}

pub(super) fn alarm_key(name: &str) -> Bytes {
    spaces::join(&[name, "alarm"])
}

/// The alarm of a read model, if there is one.
pub async fn alarm(store: &dyn Store, name: &str) -> Result<Option<Alarm>, Error> {
    let record = store.record(VIEW.clone(), alarm_key(name)).await?;
    record.map(|record| spaces::decode("alarm", &record.value)).transpose()
}

/// Puts on record what a check found, or that it found nothing.
pub async fn report(
    store: &dyn Store,
    name: &str,
    findings: Vec<String>,
    now: Timestamp,
) -> Result<(), Error> {
    let key = alarm_key(name);
    let write = if findings.is_empty() {
        if alarm(store, name).await?.is_none() {
            return Ok(());
        }
        RecordWrite::delete(VIEW.clone(), key)
    } else {
        let alarm = Alarm { projection: name.to_owned(), findings, since: now };
        RecordWrite::put(VIEW.clone(), key, spaces::encode(&alarm))
    };
    store.commit(Commit { records: vec![write], ..Commit::default() }).await?;
    Ok(())
}

/// Compares what the lanes have counted with the log, and the documents with what was written. A difference stays on record
/// as an [`Alarm`].
///
/// Errors: `E0320` if the live read model was built by another `VERSION`.
pub async fn audit<P: Projection>(store: Arc<dyn Store>, now: Timestamp) -> Result<Audit, Error> {
    run::<P>(&*store, now, None).await
}

pub(super) async fn run<P: Projection>(
    store: &dyn Store,
    now: Timestamp,
    lanes: Option<&Holder>,
) -> Result<Audit, Error> {
    let mut looks = 0;
    loop {
        let held = match lanes {
            Some(lanes) if looks >= LOOKS_MAX => Some(lanes.stop().await?),
            _ => None,
        };
        let before = standing::<P>(store).await?;
        let found = documents(store, &before.documents).await?;
        let is_still = standing::<P>(store).await? == before;
        drop(held);
        if !is_still && looks <= LOOKS_MAX {
            looks += 1;
            continue;
        }
        let written = before.marks.iter().fold(before.inline, |sum, (_, tally)| sum.and(*tally));
        let audit = Audit {
            projection: P::NAME.to_owned(),
            lanes: events::<P>(store, &before.marks).await?,
            documents_written: written.documents,
            documents_found: found.documents,
            documents_match: (written.documents, written.documents_sum)
                == (found.documents, found.documents_sum),
        };
        report(store, P::NAME, audit.findings(), now).await?;
        return Ok(audit);
    }
}

#[derive(PartialEq, Eq)]
struct Standing {
    documents: Space,
    marks: Vec<(Position, Tally)>,
    /// What was changed inline by events that the lanes have not passed over yet.
    inline: Tally,
}

async fn standing<P: Projection>(store: &dyn Store) -> Result<Standing, Error> {
    let live = generation::live(store, P::NAME, P::VERSION).await?.generation;
    let checkpoints = Checkpoints::load(store, &subscription_name(P::NAME).into()).await?;
    let marks = (0..checkpoints.lane_count()).map(|lane| {
        let (mark, _) = checkpoints.lane(lane);
        // A lane that has counted nothing yet begins where it stands.
        (mark.position, mark.tally.unwrap_or(Tally { since: mark.position, ..Tally::default() }))
    });
    let marks: Vec<_> = marks.collect();
    let documents = own::<P>(live)?.place(P::NAME)?.documents().clone();
    let inline = ahead::<P>(store, live, &marks).await?;
    Ok(Standing { documents, marks, inline })
}

/// What events behind the marks of their lanes have changed inline.
async fn ahead<P: Projection>(
    store: &dyn Store,
    live: Generation,
    marks: &[(Position, Tally)],
) -> Result<Tally, Error> {
    let mut tally = Tally::default();
    if Marker::load(store, P::NAME).await?.generation != Some(live) {
        return Ok(tally);
    }
    let since = marks.iter().map(|(position, _)| *position).min().unwrap_or_default();
    let lanes = u16::try_from(marks.len()).unwrap_or(u16::MAX);
    let mut log = store.read(Read::query(Query::types(super::replay::types::<P>()?)).after(since));
    while let Some(recorded) = log.try_next().await? {
        let lane = usize::from(spaces::spread(recorded.stream.key.as_str(), lanes));
        let is_ahead = marks.get(lane).is_none_or(|(position, _)| recorded.position > *position);
        let stamp = Stamp::on(&recorded.envelope, P::NAME).filter(|stamp| stamp.generation == live);
        tally = stamp.filter(|_| is_ahead).map_or(tally, |stamp| tally.and(stamp.tally));
    }
    Ok(tally)
}

async fn documents(store: &dyn Store, space: &Space) -> Result<Tally, Error> {
    let mut tally = Tally::default();
    let mut scan = RecordScan::all(space.clone());
    loop {
        let page = store.scan(scan.clone()).await?;
        page.records.iter().for_each(|record| tally.put(&record.key, &record.value));
        match page.next {
            Some(next) => scan.from = next,
            None => return Ok(tally),
        }
    }
}

async fn events<P: Projection>(
    store: &dyn Store,
    marks: &[(Position, Tally)],
) -> Result<Vec<LaneAudit>, Error> {
    let since = marks.iter().map(|(_, tally)| tally.since).min().unwrap_or_default();
    let until = marks.iter().map(|(position, _)| *position).max().unwrap_or_default();
    let lanes = u16::try_from(marks.len()).unwrap_or(u16::MAX);
    let mut logged = vec![Tally::default(); marks.len()];
    let read = Read::query(Query::types(super::replay::types::<P>()?)).after(since).until(until);
    let mut log = store.read(read);
    while let Some(recorded) = log.try_next().await? {
        let lane = usize::from(spaces::spread(recorded.stream.key.as_str(), lanes));
        if let (Some((position, tally)), Some(logged)) = (marks.get(lane), logged.get_mut(lane))
            && recorded.position > tally.since
            && recorded.position <= *position
        {
            logged.take(recorded.position, recorded.envelope.id.as_str());
        }
    }
    let mut lanes = Vec::with_capacity(marks.len());
    for ((mark, logged), lane) in marks.iter().zip(logged).zip(0..) {
        let (position, taken) = *mark;
        lanes.push(compared(lane, *mark, logged, store.dropped(taken.since, position).await?));
    }
    Ok(lanes)
}

fn compared(lane: u16, (position, taken): (Position, Tally), logged: Tally, dropped: u64) -> LaneAudit {
    let are_same = (taken.events, taken.events_sum) == (logged.events, logged.events_sum);
    let gone = taken.events.checked_sub(logged.events);
    LaneAudit {
        lane,
        since: taken.since,
        position,
        taken: taken.events,
        skipped: taken.skipped,
        logged: logged.events,
        dropped,
        matches: are_same || gone.is_some_and(|gone| (1..=dropped).contains(&gone)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(ids: &[&str]) -> Tally {
        let mut tally = Tally::default();
        ids.iter().zip(1..).for_each(|(id, position)| tally.take(Position(position), id));
        tally
    }

    #[test]
    fn what_was_dropped_explains_events_that_are_gone_and_nothing_else() {
        let compared = |taken: &[&str], logged: &[&str], dropped| {
            compared(0, (Position(9), counted(taken)), counted(logged), dropped).matches
        };
        assert!(compared(&["a", "b"], &["a", "b"], 0));
        assert!(compared(&["a", "b"], &["a"], 1), "one is gone");
        assert!(!compared(&["a", "b"], &["a"], 0), "none went");
        assert!(!compared(&["a", "b", "c"], &["a"], 1), "two are gone, one went");
        assert!(!compared(&["a"], &["a", "b"], 9), "one was not taken");
        assert!(!compared(&["a", "b"], &["a", "c"], 9), "as many, and others");
    }
}
