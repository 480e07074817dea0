//! Reading: a page at a time, so that nothing is held while the caller is slow.

use std::collections::VecDeque;
use std::sync::Arc;

use ensue_core::{Direction, Error, Position, Read, Recorded, Select, Version};

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
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Bounded,
    Exhausted,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(pool: &'a Arc<Pool>, head: &'a Head, read: Read) -> Self {
        Self { pool, head, rest: read, page: VecDeque::new(), page_rows: PAGE_ROWS_FIRST, stage: Stage::New }
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
        Ok(self.page.pop_front())
    }

    /// Fetches the next page.
    async fn turn(&mut self) -> Result<(), Error> {
        let rows_max = self.page_rows.min(self.rest.limit);
        if rows_max == 0 || self.rest.after >= self.rest.until {
            self.stage = Stage::Exhausted;
            return Ok(());
        }
        let statement = Statement::page(&Read { limit: rows_max, ..self.rest.clone() });
        let (sql, parameters) = statement.into_parts();
        let rows = self.pool.rows("cannot read events", sql, parameters).await?;
        self.page = rows.iter().map(recorded).collect::<Result<_, _>>()?;
        self.rest.limit -= self.page.len().min(self.rest.limit);
        if self.page.len() < rows_max {
            self.stage = Stage::Exhausted;
        }
        let bytes: usize = self.page.iter().map(|event| event.envelope.size()).sum();
        let bytes_each = (bytes / self.page.len().max(1)).max(1);
        self.page_rows = (PAGE_BYTES / bytes_each).clamp(1, PAGE_ROWS_MAX);
        if let Some(last) = self.page.back() {
            go_on_behind(&mut self.rest, last.position, last.version);
        }
        Ok(())
    }
}

/// Leaves out what was read.
fn go_on_behind(rest: &mut Read, position: Position, version: Version) {
    match rest.direction {
        Direction::Forward => rest.after = position,
        Direction::Backward => rest.until = position.previous(),
    }
    // The index of a stream is by version, so its next page begins by version too.
    if let Select::Stream { from, to, .. } = &mut rest.select {
        match rest.direction {
            Direction::Forward => *from = version.next(),
            Direction::Backward => *to = version.previous(),
        }
    }
}
