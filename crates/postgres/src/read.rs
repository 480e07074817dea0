//! Reading: a page at a time, so that nothing is held while the caller is slow.

use std::collections::VecDeque;
use std::sync::Arc;

use ensue_core::{Code, Direction, Error, Read, Recorded, Select};
use tokio_postgres::Row;

use crate::attributes::recorded;
use crate::head::Head;
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
        let (page, page_rows) = (VecDeque::new(), PAGE_ROWS_FIRST);
        Self { pool, head, rest: read, page, page_rows, stage: Stage::New, damage: None }
    }

    /// The next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Recorded>, Error> {
        if self.stage == Stage::New {
            self.rest.until = self.rest.until.min(self.head.look_up(self.pool).await?);
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

    /// Fetches the next page.
    async fn turn(&mut self) -> Result<(), Error> {
        let rows_max = self.page_rows.min(self.rest.limit);
        if rows_max == 0 || self.rest.after >= self.rest.until {
            self.stage = Stage::Exhausted;
            return Ok(());
        }
        let asked = Read { limit: rows_max, ..self.rest.clone() };
        let (sql, parameters) = Statement::page(&asked).into_parts();
        let rows = self.pool.rows("cannot read events", sql, parameters).await?;
        let events = whole(&asked, &rows).unwrap_or_else(|(before, damage)| {
            self.damage = Some(damage);
            before
        });
        self.page = events.into();
        self.rest.limit -= self.page.len().min(self.rest.limit);
        if rows.len() < rows_max || self.damage.is_some() {
            self.stage = Stage::Exhausted;
        }
        let bytes: usize = self.page.iter().map(|event| event.envelope.size()).sum();
        let bytes_each = (bytes / self.page.len().max(1)).max(1);
        self.page_rows = (PAGE_BYTES / bytes_each).clamp(1, PAGE_ROWS_MAX);
        if let Some(last) = self.page.back() {
            go_on_behind(&mut self.rest, last);
        }
        Ok(())
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
fn whole(read: &Read, rows: &[Row]) -> Result<Vec<Recorded>, (Vec<Recorded>, Error)> {
    let mut events: Vec<Recorded> = Vec::with_capacity(rows.len());
    for row in rows {
        match recorded(row).and_then(|event| follows(read, events.last(), &event).map(|()| event)) {
            Ok(event) => events.push(event),
            Err(damage) => return Err((events, damage)),
        }
    }
    match ends(read, events.last(), rows.len() < read.limit) {
        Ok(()) => Ok(events),
        Err(damage) => Err((events, damage)),
    }
}

/// Fails where a row is missing in front of this event: somebody has removed it, or has added one by hand.
fn follows(read: &Read, before: Option<&Recorded>, event: &Recorded) -> Result<(), Error> {
    match &read.select {
        Select::Stream { stream, .. } => before.map_or(Ok(()), |before| {
            is_next(before.version.0, event.version.0, &format!("versions of {stream}"))
        }),
        _ if is_of_all(read) => is_next(place(read, before), event.position.0, POSITIONS),
        _ => Ok(()),
    }
}

/// Fails where rows are missing behind the last one, of which there are no more.
fn ends(read: &Read, last: Option<&Recorded>, is_complete: bool) -> Result<(), Error> {
    if !is_complete || !is_of_all(read) {
        return Ok(());
    }
    let end = match read.direction {
        Direction::Forward => read.until.next(),
        Direction::Backward => read.after,
    };
    is_next(place(read, last), end.0, POSITIONS)
}

const POSITIONS: &str = "positions of the log";

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

fn is_next(before: u64, next: u64, what: &str) -> Result<(), Error> {
    if before.abs_diff(next) == 1 {
        return Ok(());
    }
    let (low, high) = (before.min(next), before.max(next));
    let message = format!("no row of ensue.events holds the {what} between {low} and {high}");
    Err(Error::new(Code::CORRUPT, message).with_fix(
        "rows were removed or added by hand: take that back, or restore the database from a backup",
    ))
}
