//! Reading: a page at a time, so that nothing is held while the caller is slow.

use std::collections::VecDeque;
use std::sync::Arc;

use ensue_core::{Code, Direction, Error, Position, Read, Recorded, Select, Version};
use tokio_postgres::Row;

use crate::attributes::{column, number, recorded};
use crate::dropped::Dropped;
use crate::error;
use crate::head::Head;
use crate::partitions::Partitions;
use crate::pool::Pool;
use crate::select::Statement;

/// Rows of the first page, when nothing is known yet of how large events are.
const PAGE_ROWS_FIRST: usize = 64;
/// Rows of any page.
const PAGE_ROWS_MAX: usize = 1_024;
/// What a page should hold, about.
const PAGE_BYTES: usize = 4 << 20;

/// A read under way.
pub(crate) struct Reading<'a> {
    pool: &'a Arc<Pool>,
    head: &'a Head,
    /// What is left to read; bounded by the head once that is known.
    rest: Read,
    partitions: Partitions,
    /// Of the last event of the pages before; zero at the first.
    version: Version,
    page: VecDeque<Recorded>,
    page_rows: usize,
    stage: Stage,
    /// What ends the read behind the page: what comes before a damaged row is whole.
    damage: Option<Error>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Bounded,
    Exhausted,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(pool: &'a Arc<Pool>, head: &'a Head, read: Read) -> Self {
        let (partitions, page, page_rows) = (Partitions::default(), VecDeque::new(), PAGE_ROWS_FIRST);
        let version = Version::ZERO;
        Self { pool, head, rest: read, partitions, version, page, page_rows, stage: Stage::New, damage: None }
    }

    /// The next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Recorded>, Error> {
        if self.stage == Stage::New {
            let head = self.look_up().await?;
            self.rest.until = self.rest.until.min(head);
            self.stage = Stage::Bounded;
        }
        if self.page.is_empty() && self.stage == Stage::Bounded {
            self.turn().await?;
        }
        match (self.page.pop_front(), self.damage.take()) {
            (None, Some(damage)) => Err(damage),
            (event, damage) => {
                self.damage = damage;
                Ok(event)
            }
        }
    }

    /// The head; from here on it is known in which tables events up to it are.
    async fn look_up(&mut self) -> Result<Position, Error> {
        let (head, partitions) = self.head.look_up(self.pool).await?;
        self.partitions = partitions;
        Ok(head)
    }

    /// Fetches the next page.
    async fn turn(&mut self) -> Result<(), Error> {
        self.head.seen()?;
        let rows_max = self.page_rows.min(self.rest.limit);
        if rows_max == 0 || self.rest.after >= self.rest.until {
            self.stage = Stage::Exhausted;
            return Ok(());
        }
        let asked = Read { limit: rows_max, ..self.rest.clone() };
        let rows = self.rows(&asked).await?;
        let events = match whole(&asked, &rows, &Dropped::default()) {
            Err(_) if is_of_all(&asked) => whole(&asked, &rows, &self.dropped(&asked, &rows).await?),
            events => events,
        };
        let mut events = events.unwrap_or_else(|(before, damage)| {
            self.damage = Some(damage);
            before
        });
        if let Some(damage) = self.hole_before(&events) {
            self.damage = Some(damage);
            events.clear();
        }
        self.page = events.into();
        self.rest.limit -= self.page.len().min(self.rest.limit);
        if rows.len() < rows_max || self.damage.is_some() {
            self.stage = Stage::Exhausted;
        }
        let bytes: usize = self.page.iter().map(|event| event.envelope.size()).sum();
        let bytes_each = (bytes / self.page.len().max(1)).max(1);
        self.page_rows = (PAGE_BYTES / bytes_each).clamp(1, PAGE_ROWS_MAX);
        if let Some(last) = self.page.back() {
            self.version = last.version;
            go_on_behind(&mut self.rest, last);
        }
        Ok(())
    }

    /// Why the page of a stream does not follow the one before.
    fn hole_before(&self, events: &[Recorded]) -> Option<Error> {
        let (Select::Stream { stream, .. }, Some(next)) = (&self.rest.select, events.first()) else {
            return None;
        };
        if self.version == Version::ZERO || self.version.0.abs_diff(next.version.0) == 1 {
            return None;
        }
        if self.partitions.are_of(&stream.topic) {
            let message = format!("{stream} lost events behind version {} while it was read", self.version);
            return Some(
                Error::new(Code::EVENTS_DROPPED, message).with_fix("read it again: it begins later now"),
            );
        }
        let (before, next) = (self.version.0, next.version.0);
        is_next(before, next, false, &format!("versions of {stream}")).err()
    }

    /// The rows of a page. A partition that was dropped since the look-up is left out; one that is still in its place on record was dropped by
    /// hand (`E0412`).
    async fn rows(&mut self, asked: &Read) -> Result<Vec<Row>, Error> {
        loop {
            let source = self.partitions.source(asked);
            let (sql, parameters) = Statement::page(asked, &source).into_parts();
            match self.pool.rows("cannot read events", sql, parameters).await {
                Err(error) if error::is_of_missing_table(&error) => {
                    self.look_up().await?;
                    if self.partitions.source(asked) == source {
                        let message = format!("{}: the partition was dropped by hand", error.message());
                        let error = Error::new(Code::CORRUPT, message).with_source(error);
                        return Err(error.with_fix("restore the database from a backup"));
                    }
                }
                rows => return rows,
            }
        }
    }

    /// What was dropped between the ends of a page.
    async fn dropped(&self, asked: &Read, rows: &[Row]) -> Result<Dropped, Error> {
        let last = rows.last().filter(|_| rows.len() == asked.limit).map(|row| column(row, 0)).transpose()?;
        let last = last.map(|position| Position(number(position)));
        let (after, until) = match asked.direction {
            Direction::Forward => (asked.after, last.unwrap_or(asked.until)),
            Direction::Backward => (last.unwrap_or(asked.after), asked.until),
        };
        Dropped::load(self.pool, after, until).await
    }
}

/// Leaves out what was read.
fn go_on_behind(rest: &mut Read, last: &Recorded) {
    match rest.direction {
        Direction::Forward => rest.after = last.position,
        Direction::Backward => rest.until = last.position.previous(),
    }
    // The index of a stream is by version, so its next page begins by version too.
    if let Select::Stream { from, to, .. } = &mut rest.select {
        match rest.direction {
            Direction::Forward => *from = last.version.next(),
            Direction::Backward => *to = last.version.previous(),
        }
    }
}

/// The events of a page. Where a row holds none, or one is missing (`E0412`), those that come before it.
fn whole(read: &Read, rows: &[Row], dropped: &Dropped) -> Result<Vec<Recorded>, (Vec<Recorded>, Error)> {
    let mut events: Vec<Recorded> = Vec::with_capacity(rows.len());
    for row in rows {
        match recorded(row).and_then(|event| follows(read, events.last(), &event, dropped).map(|()| event)) {
            Ok(event) => events.push(event),
            Err(damage) => return Err((events, damage)),
        }
    }
    match ends(read, events.last(), rows.len() < read.limit, dropped) {
        Ok(()) => Ok(events),
        Err(damage) => Err((events, damage)),
    }
}

/// Fails where a row is missing in front of this event: somebody has removed it, or has added one by hand. What a stream has lost to
/// retention is its beginning.
fn follows(read: &Read, before: Option<&Recorded>, event: &Recorded, dropped: &Dropped) -> Result<(), Error> {
    match &read.select {
        Select::Stream { stream, .. } => before.map_or(Ok(()), |before| {
            let (before, next) = (before.version.0, event.version.0);
            is_next(before, next, before.abs_diff(next) == 1, &format!("versions of {stream}"))
        }),
        _ if is_of_all(read) => comes_next(read, before, event.position.0, dropped),
        _ => Ok(()),
    }
}

/// Fails where rows are missing behind the last one, of which there are no more.
fn ends(read: &Read, last: Option<&Recorded>, is_complete: bool, dropped: &Dropped) -> Result<(), Error> {
    if !is_complete || !is_of_all(read) {
        return Ok(());
    }
    let end = match read.direction {
        Direction::Forward => read.until.next(),
        Direction::Backward => read.after,
    };
    comes_next(read, last, end.0, dropped)
}

fn comes_next(read: &Read, before: Option<&Recorded>, next: u64, dropped: &Dropped) -> Result<(), Error> {
    let before = place(read, before);
    let is_ahead = match read.direction {
        Direction::Forward => before < next,
        Direction::Backward => before > next,
    };
    let is_so = is_ahead && dropped.covers(before.min(next), before.max(next));
    is_next(before, next, is_so, "positions of the log")
}

/// The position of the event, or in front of the first one.
fn place(read: &Read, event: Option<&Recorded>) -> u64 {
    match (event, read.direction) {
        (Some(event), _) => event.position.0,
        (None, Direction::Forward) => read.after.0,
        (None, Direction::Backward) => read.until.next().0,
    }
}

fn is_of_all(read: &Read) -> bool {
    match &read.select {
        Select::All => true,
        Select::Query(query) => query.is_all(),
        Select::Stream { .. } | Select::Flow(_) => false,
    }
}

fn is_next(before: u64, next: u64, is_so: bool, what: &str) -> Result<(), Error> {
    if is_so {
        return Ok(());
    }
    let (low, high) = (before.min(next), before.max(next));
    let message = format!("no row of ensue.events holds the {what} between {low} and {high}");
    Err(Error::new(Code::CORRUPT, message).with_fix(
        "rows were removed or added by hand: take that back, or restore the database from a backup",
    ))
}
