//! Reading: a page at a time, so that nothing is held while the caller is slow.

use std::collections::VecDeque;
use std::sync::Arc;

use ensue_core::{Code, Direction, Error, Position, Read, Recorded, Select};
use rusqlite::{Connection, params_from_iter};

use crate::attributes::recorded;
use crate::pool::Pool;
use crate::select::Statement;
use crate::{decide, error};

/// Rows of the first page, when nothing is known yet of how large events are.
const PAGE_ROWS_FIRST: usize = 64;
/// Rows of any page.
const PAGE_ROWS_MAX: usize = 1_024;
/// What a page should hold, about.
const PAGE_BYTES: usize = 4 << 20;

/// A read under way.
pub(crate) struct Reading {
    pool: Arc<Pool>,
    /// What is left to read; bounded by the head once that is known.
    rest: Read,
    page: VecDeque<Recorded>,
    page_rows: usize,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Bounded,
    Exhausted,
}

impl Reading {
    pub(crate) fn new(pool: Arc<Pool>, read: Read) -> Self {
        Self { pool, rest: read, page: VecDeque::new(), page_rows: PAGE_ROWS_FIRST, stage: Stage::New }
    }

    /// The next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Recorded>, Error> {
        if self.page.is_empty() && self.stage != Stage::Exhausted {
            self.turn().await?;
        }
        Ok(self.page.pop_front())
    }

    /// Fetches the next page.
    async fn turn(&mut self) -> Result<(), Error> {
        let rows_max = self.page_rows.min(self.rest.limit);
        let mut asked = Read { limit: rows_max, ..self.rest.clone() };
        let stage = self.stage;
        let page = self.pool.with(move |connection| {
            if stage == Stage::New {
                asked.until = asked.until.min(decide::head(connection)?);
            }
            let page = if asked.after < asked.until { page(connection, &asked)? } else { VecDeque::new() };
            check_whole(&asked, &page)?;
            Ok((page, asked.until))
        });
        let until;
        (self.page, until) = page.await?;
        self.rest.until = until;
        self.rest.limit -= self.page.len().min(self.rest.limit);
        let is_last = self.page.len() < rows_max || self.rest.limit == 0;
        self.stage = if is_last { Stage::Exhausted } else { Stage::Bounded };
        let bytes: usize = self.page.iter().map(|event| event.envelope.size()).sum();
        let bytes_each = (bytes / self.page.len().max(1)).max(1);
        self.page_rows = (PAGE_BYTES / bytes_each).clamp(1, PAGE_ROWS_MAX);
        if let Some(last) = self.page.back() {
            go_on_behind(&mut self.rest, last);
        }
        Ok(())
    }
}

fn page(connection: &Connection, read: &Read) -> Result<VecDeque<Recorded>, Error> {
    let failed = |cause| error::of("cannot read events", cause);
    let selected = Statement::page(read);
    let mut statement = connection.prepare_cached(&selected.sql).map_err(failed)?;
    let mut rows = statement.query(params_from_iter(&selected.values)).map_err(failed)?;
    let mut page = VecDeque::with_capacity(read.limit.min(PAGE_ROWS_MAX));
    while let Some(row) = rows.next().map_err(failed)? {
        page.push_back(recorded(row)?);
    }
    Ok(page)
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

/// Fails (`E0412`) where a row is missing between others: somebody has removed it, or has added one by hand.
fn check_whole(read: &Read, page: &VecDeque<Recorded>) -> Result<(), Error> {
    let numbers: Vec<u64> = match &read.select {
        Select::Stream { .. } => page.iter().map(|event| event.version.0).collect(),
        Select::Query(query) if !query.is_all() => return Ok(()),
        Select::Flow(_) => return Ok(()),
        Select::All | Select::Query(_) => whole_log(read, page),
    };
    let gap = numbers.array_windows().find(|[one, next]| one.abs_diff(*next) != 1);
    let Some([one, next]) = gap else { return Ok(()) };
    let what = match &read.select {
        Select::Stream { stream, .. } => format!("versions of {stream}"),
        _ => "positions of the log".to_owned(),
    };
    let (low, high) = (one.min(next), one.max(next));
    let message = format!("no row of ensue_events holds the {what} between {low} and {high}");
    Err(Error::new(Code::CORRUPT, message)
        .with_fix("rows were removed or added by hand: take that back, or restore the file from a backup"))
}

/// The positions of the page, and what must come before and after them.
fn whole_log(read: &Read, page: &VecDeque<Recorded>) -> Vec<u64> {
    let is_complete = page.len() < read.limit;
    let (before, end) = match read.direction {
        Direction::Forward => (read.after, read.until.next()),
        Direction::Backward => (read.until.next(), read.after),
    };
    let end = (is_complete && read.after < read.until).then_some(end);
    let positions = page.iter().map(|event| event.position);
    std::iter::once(before).chain(positions).chain(end).map(|Position(number)| number).collect()
}
