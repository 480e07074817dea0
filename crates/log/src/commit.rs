//! The caller's side of a commit: check, encode, look up hints, queue, wait.
//!
//! Everything that costs time and needs no order happens here, on the caller's thread, so that the sequencer's thread is
//! left with comparing and counting.

use std::sync::Arc;

use ensue_core::{
    Append, AppendCondition, Appended, Change, Commit, CommitError, Committed, Envelope, Error, EventId,
    Expected, Query, Read, RecordWrite, Revision, Source, Timestamp, Trace, Version,
};
use futures_util::TryStreamExt;

use crate::body;
use crate::engine::Engine;
use crate::mark::Marker;
use crate::partition::partition_of;
use crate::queue::{self, Answer, Request};
use crate::read::read;
use crate::reply;
use crate::sequencer::{AppendProposal, ConditionProposal, MarkedQuery, Proposal, RecordProposal, Refusal};
use crate::window::record_key;

pub(crate) async fn commit(engine: &Arc<Engine>, commit: Commit) -> Result<Committed, CommitError> {
    commit_as_of(engine, commit, None).await
}

/// A commit that was recorded elsewhere at a time of its own. Nobody else may commit meanwhile: a frame has one time.
pub(crate) async fn commit_as_of(
    engine: &Arc<Engine>,
    mut commit: Commit,
    recorded_at: Option<Timestamp>,
) -> Result<Committed, CommitError> {
    commit.check(&engine.capabilities)?;
    drop_empty_traces(&mut commit);
    let mut request = Box::new(Request { recorded_at, ..prepare(&engine.marker, commit) });
    loop {
        look(engine, &mut request).await?;
        let (sender, receiver) = reply::channel();
        engine.queue.push(request, sender).await?;
        match receiver.await {
            None => return Err(queue::gone().into()),
            Some(Answer::Taken(committed)) => return Ok(committed),
            Some(Answer::Failed(error)) => return Err(error.into()),
            Some(Answer::LookAgain(back)) => request = back,
            Some(Answer::Refused(refusal, back)) => return refused(engine, refusal, *back).await,
        }
    }
}

/// A trace without any text leaves no attribute on disk; it must not be there before it is read from disk either.
fn drop_empty_traces(commit: &mut Commit) {
    for event in commit.appends.iter_mut().flat_map(|append| &mut append.events) {
        event.trace = event.trace.take().filter(|trace| **trace != Trace::default());
    }
}

fn prepare(marker: &Marker, commit: Commit) -> Request {
    let (body, blanks) = body::encode(&commit.appends, &commit.records);
    let events =
        commit.appends.iter().flat_map(|append| &append.events).map(|event| marker.event(event)).collect();
    let proposal = Proposal {
        appends: commit.appends.iter().map(|append| propose_append(marker, append)).collect(),
        records: commit.records.iter().map(|write| propose_record(marker, write)).collect(),
        condition: commit.condition.as_ref().map(|condition| propose_condition(marker, condition)),
        as_of: 0,
        events,
    };
    Request {
        proposal,
        body,
        blanks,
        appends: commit.appends,
        records: commit.records,
        condition: commit.condition,
        durability: commit.durability,
        recorded_at: None,
    }
}

fn propose_append(marker: &Marker, append: &Append) -> AppendProposal {
    AppendProposal {
        stream: marker.stream(&append.stream),
        topic: marker.topic(&append.stream.topic),
        partition: partition_of(append.stream.key.as_str().as_bytes()),
        expected: append.expected,
        count: append.events.len() as u64,
        version: 0,
    }
}

fn propose_record(marker: &Marker, write: &RecordWrite) -> RecordProposal {
    let after = match &write.change {
        Change::Put { expires_at, .. } => Some(*expires_at),
        Change::Delete => None,
    };
    RecordProposal {
        record: marker.record(&write.space, &write.key),
        expected: write.expected.map(|revision| revision.0),
        after,
        before: None,
    }
}

fn propose_condition(marker: &Marker, condition: &AppendCondition) -> ConditionProposal {
    let items = condition.fail_if_match.items.iter().map(|item| {
        let types = item.types.iter().map(|name| marker.event_type(name)).collect();
        let tags = item.tags.iter().map(|tag| marker.tag(tag)).collect();
        (types, tags)
    });
    ConditionProposal { query: MarkedQuery(items.collect()), after: condition.after.0, last_match: 0 }
}

/// Fills in the hints: what the streams, records and matches are, at this moment or a later one.
async fn look(engine: &Arc<Engine>, request: &mut Request) -> Result<(), Error> {
    let Request { proposal, appends, records, condition, .. } = request;
    let missing = look_in_window(engine, proposal, records);
    for index in missing.streams {
        if let Some(append) = proposal.appends.get_mut(index) {
            append.version = engine.index()?.list(append.stream)?.map_or(0, |list| list.count);
        }
    }
    for index in missing.records {
        if let (Some(record), Some(write)) = (proposal.records.get_mut(index), records.get(index)) {
            let stored = engine.index()?.record(&record_key(write.space.as_str(), &write.key))?;
            record.before = stored.map(|stored| (stored.revision, stored.lapse));
        }
    }
    debug_assert_eq!(appends.len(), proposal.appends.len());
    if let (Some(asked), Some(proposed)) = (condition, &mut proposal.condition) {
        proposed.last_match = last_match(engine, asked).await?;
    }
    Ok(())
}

/// What the window did not know, by index.
struct Missing {
    streams: Vec<usize>,
    records: Vec<usize>,
}

fn look_in_window(engine: &Engine, proposal: &mut Proposal, records: &[RecordWrite]) -> Missing {
    let window = engine.window();
    let mut missing = Missing { streams: Vec::new(), records: Vec::new() };
    proposal.as_of = window.commit();
    for (index, append) in proposal.appends.iter_mut().enumerate() {
        match window.version(append.stream) {
            Some(version) => append.version = version,
            None => missing.streams.push(index),
        }
    }
    for (index, (record, write)) in proposal.records.iter_mut().zip(records).enumerate() {
        if record.expected.is_none() {
            continue;
        }
        match window.record(&record_key(write.space.as_str(), &write.key)) {
            Some(stored) => record.before = stored.as_ref().map(|stored| (stored.revision, stored.lapse)),
            None => missing.records.push(index),
        }
    }
    missing
}

async fn last_match(engine: &Arc<Engine>, condition: &AppendCondition) -> Result<u64, Error> {
    let query: Query = condition.fail_if_match.clone();
    let newest = Read::query(query).after(condition.after).backward().limit(1);
    let found = read(engine, newest).try_next().await?;
    Ok(found.map_or(0, |event| event.position.0))
}

async fn refused(engine: &Arc<Engine>, refusal: Refusal, request: Request) -> Result<Committed, CommitError> {
    match refusal {
        Refusal::Condition { position } => {
            Err(CommitError::ConditionFailed { position: ensue_core::Position(position) })
        }
        Refusal::Revision { record, actual } => {
            let write = request.records.into_iter().nth(record).expect("the refusal names one of ours");
            Err(CommitError::RecordConflict { write: Box::new(write), actual: Revision(actual) })
        }
        Refusal::Version { append, actual } => {
            if let Some(committed) = find_repeated(engine, &request.appends).await? {
                return Ok(committed);
            }
            let append = request.appends.into_iter().nth(append).expect("the refusal names one of ours");
            let Append { stream, expected, .. } = append;
            Err(CommitError::Conflict { stream, expected, actual: Version(actual) })
        }
    }
}

/// Where the events of this commit stand already, if all of them do.
async fn find_repeated(engine: &Arc<Engine>, appends: &[Append]) -> Result<Option<Committed>, Error> {
    let mut appended = Vec::with_capacity(appends.len());
    for append in appends {
        let Some(found) = find_append(engine, append).await? else { return Ok(None) };
        appended.push(found);
    }
    Ok(Some(Committed { appended, revision: Revision::ZERO, repeated: true }))
}

async fn find_append(engine: &Arc<Engine>, append: &Append) -> Result<Option<Appended>, Error> {
    let before = match append.expected {
        Expected::NoStream => Version::ZERO,
        Expected::Exact(version) => version,
        Expected::Any | Expected::Exists => return Ok(None),
    };
    let last = Version(before.0.saturating_add(append.events.len() as u64));
    let range = Read::stream(append.stream.clone()).from_version(before.next()).to_version(last);
    let stored: Vec<_> = read(engine, range).try_collect().await?;
    let names = |envelope: &Envelope| -> (EventId, Source) { (envelope.id.clone(), envelope.source.clone()) };
    let is_same = stored.len() == append.events.len()
        && stored.iter().zip(&append.events).all(|(old, new)| names(&old.envelope) == names(new));
    let (Some(first), Some(last)) = (stored.first(), stored.last()) else { return Ok(None) };
    Ok(is_same.then_some(Appended {
        first_version: first.version,
        last_version: last.version,
        first_position: first.position,
        last_position: last.position,
    }))
}
