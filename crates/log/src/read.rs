//! Reads of events: pages from the window where they are there, from the index and the journal where they are not.
//!
//! What lies in the window is answered at once, on the caller's thread; only a cold page goes to the pool of blocking
//! threads. No lock is held between pages.
//!
//! Invariant: every event that is found under a mark is compared with the real name before it is handed out.

use std::sync::Arc;

use ensue_core::{BoxStream, Direction, Error, Read, Recorded};
use futures_util::stream::{self, StreamExt};

use crate::engine::Engine;
use crate::frames::Loaded;

mod cold;
mod plan;
pub(crate) use plan::Plan;

/// Events in a page at most.
const PAGE_EVENTS: usize = 256;

/// A read on its way: what is left of it.
struct Cursor {
    engine: Arc<Engine>,
    plan: Arc<Plan>,
    direction: Direction,
    /// What is left, inclusive on both sides; empty when `low > high`.
    low: u64,
    high: u64,
    left: usize,
    /// The frame of the last cold page: the next page often goes on in it.
    frame: Option<Arc<Loaded>>,
}

/// A page, and how far it got: the last position that was looked at, or `None` if that is the end of the range.
pub(crate) struct Page {
    pub(crate) events: Vec<Recorded>,
    pub(crate) reached: Option<u64>,
}

/// Starts a read up to the readable head of this moment.
pub(crate) fn read<'a>(engine: &Arc<Engine>, read: Read) -> BoxStream<'a, Result<Recorded, Error>> {
    let mut cursor = match Cursor::new(engine, read) {
        Ok(cursor) => cursor,
        Err(error) => return stream::once(std::future::ready(Err(error))).boxed(),
    };
    // Small reads of fresh events are most reads: they end here, without a state machine.
    let mut first = Vec::new();
    while let Some(page) = cursor.warm_page() {
        first.extend(page);
        if cursor.is_done() {
            return stream::iter(first.into_iter().map(Ok)).boxed();
        }
        if first.len() >= PAGE_EVENTS {
            break;
        }
    }
    if cursor.is_done() {
        return stream::iter(first.into_iter().map(Ok)).boxed();
    }
    let rest = stream::unfold(Some(cursor), |cursor| async move {
        let mut cursor: Cursor = cursor?;
        match cursor.next_page().await {
            Ok(Some(page)) => Some((Ok(page), Some(cursor))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    let rest = rest.flat_map(|page| match page {
        Ok(events) => stream::iter(events.into_iter().map(Ok).collect::<Vec<_>>()),
        Err(error) => stream::iter(vec![Err(error)]),
    });
    stream::iter(first.into_iter().map(Ok)).chain(rest).boxed()
}

impl Cursor {
    fn new(engine: &Arc<Engine>, read: Read) -> Result<Self, Error> {
        let high = read.until.0.min(engine.head.get());
        let low = read.after.0.saturating_add(1);
        let (plan, low) = Plan::new(engine, read.select, low, read.limit)?;
        Ok(Self {
            engine: Arc::clone(engine),
            plan: Arc::new(plan),
            direction: read.direction,
            low,
            high,
            left: read.limit,
            frame: None,
        })
    }

    fn is_done(&self) -> bool {
        self.low > self.high || self.left == 0
    }

    /// A page from the window; `None` if the read is done, or goes on below the window.
    fn warm_page(&mut self) -> Option<Vec<Recorded>> {
        if self.is_done() {
            return None;
        }
        let is_backward = self.direction == Direction::Backward;
        let page = {
            let window = self.engine.window();
            let first = window.first_position();
            let low = if is_backward { self.low.max(first) } else { self.low };
            if low < first || self.high < low {
                return None;
            }
            self.plan.warm(&window, (low, self.high), self.left.min(PAGE_EVENTS), is_backward)
        };
        let end = if is_backward { self.low.max(self.first_in_window()) } else { self.high };
        Some(self.advance(page, end))
    }

    fn first_in_window(&self) -> u64 {
        self.engine.window().first_position()
    }

    async fn next_page(&mut self) -> Result<Option<Vec<Recorded>>, Error> {
        while !self.is_done() {
            let page = match self.warm_page() {
                Some(page) => page,
                None => self.cold_page().await?,
            };
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    async fn cold_page(&mut self) -> Result<Vec<Recorded>, Error> {
        let is_backward = self.direction == Direction::Backward;
        let below = self.first_in_window() - 1;
        let range = (self.low, self.high.min(below));
        if range.0 > range.1 {
            return Ok(Vec::new());
        }
        let (engine, plan) = (Arc::clone(&self.engine), Arc::clone(&self.plan));
        let limit = self.left.min(PAGE_EVENTS);
        let mut frame = self.frame.take();
        let (page, frame) = blocking::unblock(move || {
            let page = cold::page(&engine, &plan, range, limit, is_backward, &mut frame);
            (page, frame)
        })
        .await;
        self.frame = frame;
        let end = if is_backward { range.0 } else { range.1 };
        Ok(self.advance(page?, end))
    }

    /// Takes what was read off what is left.
    fn advance(&mut self, page: Page, end: u64) -> Vec<Recorded> {
        let reached = page.reached.unwrap_or(end);
        match self.direction {
            Direction::Forward => self.low = reached + 1,
            // Positions start at 1, so there is always one before.
            Direction::Backward => self.high = reached - 1,
        }
        self.left -= page.events.len();
        page.events
    }
}
