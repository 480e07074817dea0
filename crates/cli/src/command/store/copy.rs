//! `ensue store copy FROM TO`: everything one store holds, into another.
//!
//! Events first, then records; both are compared afterwards. An interrupted copy goes on behind the last event that is
//! there; records are few beside the events and are always looked at as a whole.
//!
//! Invariant: records are written only where there were none, or where a [`mark`] calls the store an unfinished copy of this source.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use clap::Args;
use ensue::core::{
    Code, Commit, Durability, Error, Portable, Position, Read, Record, RecordWrite, Recorded, Space, StoreExt,
};
use futures_util::{Stream, StreamExt, TryStreamExt};
use serde::Serialize;

use super::pages::Pages;
use crate::command::Session;
use crate::failure::Failure;
use crate::place::Address;
use crate::words::count;

mod mark;

use mark::Target;

/// Events that are read and taken over at a time.
const EVENTS_AT_A_TIME: usize = 1_000;
/// Records that are written in one commit, at most.
const RECORDS_AT_A_TIME: usize = 200;
/// Bytes of values in one commit of records, unless one alone is larger.
const RECORD_BYTES_AT_A_TIME: usize = 1 << 20;
const ELSEWHERE: &str = "copy into an empty store; nothing was written to this one";

/// Copy everything a store holds into another one: positions, versions and times stay
#[derive(Args)]
pub(crate) struct Copy {
    /// The store that is read; nobody may write to it meanwhile
    #[arg(value_name = "FROM")]
    from: Address,
    /// The store that becomes a copy: empty, or left by an interrupted copy
    #[arg(value_name = "TO")]
    to: Address,
}

/// What became of it.
#[derive(Serialize)]
struct Copied {
    from: String,
    to: String,
    head: Position,
    /// Events that this run has taken over; the others were there.
    events: u64,
    /// Records that this run has written or removed.
    records: u64,
    /// Events and records that were compared afterwards, and are equal.
    compared: Counts,
}

#[derive(Serialize, Default)]
struct Counts {
    events: u64,
    records: u64,
}

impl Copy {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let Self { from, to } = self;
        let source = from.open(&session.host, session.place.talk()).await?;
        if from.resolved() == to.resolved() {
            let message = format!("{from} cannot be copied into itself");
            return Err(Error::new(Code::USAGE, message).into());
        }
        mark::check_source(&*source, &from.to_string()).await?;
        from.check_whole(session.place.talk()).await?;
        let target = to.open_or_make(&session.host, session.place.talk()).await?;
        let pair = Pair { source: &*source, target: &*target };
        let head = source.head().await?;
        let origin = from.resolved().to_string();
        let (written, compared) = match mark::look(&*target, &origin).await? {
            Target::Held(record) => (Counts::default(), pair.is_finished(head, &record).await?),
            Target::Bare => pair.copy_bare(head, &origin, session).await?,
            Target::Begun => pair.copy(head, session).await?,
        };
        let Counts { events, records } = written;
        let (from, to) = (from.to_string(), to.to_string());
        let copied = Copied { from, to, head, events, records, compared };
        session.output.one(&copied, &copied.in_words())?;
        Ok(())
    }
}

impl Copied {
    fn in_words(&self) -> String {
        let Self { from, to, head, events, records, compared } = self;
        format!(
            "{to} is a copy of {from} up to position {head}: {events} events and {records} records written, \
             {} events and {} records compared",
            compared.events, compared.records
        )
    }
}

/// The store that is copied, and the one that becomes its copy.
struct Pair<'a> {
    source: &'a dyn Portable,
    target: &'a dyn Portable,
}

impl Pair<'_> {
    /// Into a target without records: it may hold the first of the events and nothing else. The mark comes before the first record, and
    /// not before the events: an embedded log takes none that is older than its last commit.
    async fn copy_bare(
        &self,
        head: Position,
        origin: &str,
        session: &Session,
    ) -> Result<(Counts, Counts), Error> {
        let begun = self.begun(head).await?;
        self.compare_events(begun).await.map_err(|error| match error.code() {
            Code::CHECK_FAILED => Error::new(Code::NO_COPY, error.message()).with_fix(ELSEWHERE),
            _ => error,
        })?;
        session.output.say(&format!("{} to copy", count(head.0 - begun.0, "event")));
        self.events(begun, head).await?;
        self.check_source(head).await?;
        let is_marked = self.is_different().await?;
        if is_marked {
            mark::set(self.target, origin).await?;
        }
        let (records, compared) = self.finish(head).await?;
        if is_marked {
            mark::remove(self.target).await?;
        }
        Ok((Counts { events: head.0 - begun.0, records }, compared))
    }

    /// Goes on with a copy that was interrupted after its mark was set.
    async fn copy(&self, head: Position, session: &Session) -> Result<(Counts, Counts), Error> {
        let begun = self.begun(head).await?;
        session.output.say(&format!("{} to copy", count(head.0 - begun.0, "event")));
        self.events(begun, head).await?;
        let (records, compared) = self.finish(head).await?;
        mark::remove(self.target).await?;
        Ok((Counts { events: head.0 - begun.0, records }, compared))
    }

    /// Makes the records equal and compares everything: how many were written, and what was compared.
    async fn finish(&self, head: Position) -> Result<(u64, Counts), Error> {
        let records = self.records().await?;
        let compared = self.compare(head).await?;
        self.check_source(head).await?;
        Ok((records, compared))
    }

    async fn check_source(&self, head: Position) -> Result<(), Error> {
        if self.source.head().await? == head {
            return Ok(());
        }
        Err(Error::new(Code::NO_COPY, "the source was written to while it was copied")
            .with_fix("stop what writes to it, and copy again: it goes on where it is"))
    }

    /// Of a target that is not to be written to: that it is an equal copy already.
    async fn is_finished(&self, head: Position, record: &str) -> Result<Counts, Error> {
        let there = self.target.head().await?;
        let difference = if there == head {
            match self.compare(head).await {
                Err(error) if error.code() == Code::CHECK_FAILED => error.message().to_owned(),
                compared => return compared,
            }
        } else {
            format!("it stands at position {there}, the source at {head}")
        };
        let message = format!(
            "the target holds records such as {record}, and is neither an unfinished copy nor an equal one: {difference}"
        );
        Err(Error::new(Code::NO_COPY, message).with_fix(ELSEWHERE))
    }

    /// Up to where an earlier run has come, after a look whether it was one.
    async fn begun(&self, head: Position) -> Result<Position, Error> {
        let there = self.target.head().await?;
        if there > head {
            let message = format!("the target stands at position {there}, the source at {head}");
            return Err(Error::new(Code::NO_COPY, message));
        }
        let (ours, theirs) = (at(self.source, there).await?, at(self.target, there).await?);
        if ours != theirs {
            return Err(Error::new(Code::NO_COPY, format!("the events at position {there} differ")));
        }
        Ok(there)
    }

    /// Takes over what follows.
    async fn events(&self, after: Position, until: Position) -> Result<(), Error> {
        let events = self.source.read(Read::all().after(after).until(until));
        let mut chunks = events.try_chunks(EVENTS_AT_A_TIME);
        while let Some(chunk) = chunks.next().await {
            self.target.import(chunk.map_err(|broken| broken.1)?).await?;
        }
        Ok(())
    }

    async fn spaces(&self) -> Result<BTreeSet<Space>, Error> {
        let (ours, theirs) = (self.source.spaces().await?, self.target.spaces().await?);
        Ok(ours.into_iter().chain(theirs).filter(|space| *space != *mark::SPACE).collect())
    }

    /// Makes the records equal; says how many were not.
    async fn records(&self) -> Result<u64, Error> {
        let mut pending = Vec::new();
        let mut changed = 0;
        for space in self.spaces().await? {
            let mut differences = std::pin::pin!(self.differences(space));
            while let Some(write) = differences.try_next().await? {
                changed += 1;
                pending.push(write);
                if is_full(&pending) {
                    self.write(std::mem::take(&mut pending), Durability::Buffered).await?;
                }
            }
        }
        if changed > 0 {
            self.write(pending, Durability::Durable).await?;
        }
        Ok(changed)
    }

    async fn write(&self, records: Vec<RecordWrite>, durability: Durability) -> Result<(), Error> {
        self.target.commit(Commit { records, durability, ..Commit::default() }).await?;
        Ok(())
    }

    /// What would have to be written so that the records of this space are equal.
    fn differences(&self, space: Space) -> impl Stream<Item = Result<RecordWrite, Error>> {
        let pages = (Pages::new(self.source, &space), Pages::new(self.target, &space));
        futures_util::stream::try_unfold((pages, space), async |((mut ours, mut theirs), space)| {
            loop {
                let (one, other) = (ours.peek().await?, theirs.peek().await?);
                let order = match (one, other) {
                    (None, None) => return Ok(None),
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (Some(one), Some(other)) => one.key.cmp(&other.key),
                };
                let one = if order == Ordering::Greater { None } else { ours.pop() };
                let other = if order == Ordering::Less { None } else { theirs.pop() };
                if let Some(write) = difference(&space, one, other) {
                    return Ok(Some((write, ((ours, theirs), space))));
                }
            }
        })
    }

    /// Whether there is a record that differs.
    async fn is_different(&self) -> Result<bool, Error> {
        for space in self.spaces().await? {
            if std::pin::pin!(self.differences(space)).try_next().await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads all of both again. A difference is an error.
    async fn compare(&self, head: Position) -> Result<Counts, Error> {
        Ok(Counts { events: self.compare_events(head).await?, records: self.compare_records().await? })
    }

    /// All events of the target with those of the source up to here.
    async fn compare_events(&self, until: Position) -> Result<u64, Error> {
        let mut compared = 0;
        let mut ours = self.source.read(Read::all().until(until));
        let mut theirs = self.target.read(Read::all());
        loop {
            let (one, other) = (ours.try_next().await?, theirs.try_next().await?);
            match (one, other) {
                (None, None) => return Ok(compared),
                (one, other) if one == other => compared += 1,
                (one, other) => return Err(unequal(one.as_ref().or(other.as_ref()))),
            }
        }
    }

    async fn compare_records(&self) -> Result<u64, Error> {
        let mut compared = 0;
        for space in self.spaces().await? {
            let mut differences = std::pin::pin!(self.differences(space.clone()));
            if let Some(write) = differences.try_next().await? {
                let message = format!("record {space}/{} differs in the copy", write.key.escape_ascii());
                return Err(Error::new(Code::CHECK_FAILED, message));
            }
            compared += Pages::new(self.target, &space).count().await?;
        }
        Ok(compared)
    }
}

fn unequal(event: Option<&Recorded>) -> Error {
    let position = event.map(|event| event.position).unwrap_or_default();
    Error::new(Code::CHECK_FAILED, format!("the event at position {position} differs in the copy"))
}

async fn at(store: &dyn Portable, position: Position) -> Result<Option<Recorded>, Error> {
    store.read(Read::all().after(position.previous()).until(position)).try_next().await
}

/// What makes the other record equal to this one. Revisions belong to a store, so they are not compared.
fn difference(space: &Space, one: Option<Record>, other: Option<Record>) -> Option<RecordWrite> {
    let Some(one) = one else {
        return other.map(|other| RecordWrite::delete(space.clone(), other.key));
    };
    // Databases keep times to the microsecond.
    let lapse = |record: &Record| record.expires_at.map(ensue::Timestamp::as_microsecond);
    let is_equal = other.is_some_and(|other| other.value == one.value && lapse(&other) == lapse(&one));
    if is_equal {
        return None;
    }
    let write = RecordWrite::put(space.clone(), one.key, one.value);
    Some(match one.expires_at {
        Some(at) => write.expires_at(at),
        None => write,
    })
}

fn is_full(pending: &[RecordWrite]) -> bool {
    use ensue::core::Change;
    let bytes = pending.iter().map(|write| match &write.change {
        Change::Put { value, .. } => value.len(),
        Change::Delete => 0,
    });
    pending.len() >= RECORDS_AT_A_TIME || bytes.sum::<usize>() >= RECORD_BYTES_AT_A_TIME
}
