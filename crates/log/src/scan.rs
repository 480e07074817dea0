//! Scans of records: the window laid over the index, at one moment between commits.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use ensue_core::{Error, Record, RecordPage, RecordScan, Revision, Timestamp};
use fjall::Snapshot;

use crate::engine::Engine;
use crate::index::Index;
use crate::window::{Stored, Window, record_key};

/// Records in a page that is read on the caller's thread.
const SHORT_PAGE: usize = 64;

/// What the window knows of a range: records by key, `None` where one was deleted.
type Overlay = VecDeque<(Vec<u8>, Option<Stored>)>;

pub(crate) async fn scan(engine: &Arc<Engine>, scan: RecordScan) -> Result<RecordPage, Error> {
    let now = engine.host.clock.now();
    let space = scan.space.as_str();
    let from = record_key(space, &scan.from);
    let until = match &scan.until {
        Some(until) => record_key(space, until),
        None => [space.as_bytes(), &[1]].concat(),
    };
    if scan.limit == 0 || from >= until {
        return Ok(RecordPage::default());
    }
    if until.len() == from.len() + 1 && until.starts_with(&from) && until.last() == Some(&0) {
        return one(engine, &from, space.len() + 1, now);
    }
    let prefix = space.len() + 1;
    let index = engine.index()?;
    let (overlay, cut, view) = {
        let window = engine.window();
        let (overlay, cut) = overlay(&window, &from, &until, scan.limit.saturating_add(1), now);
        // Taken under the lock, so that both show the same moment.
        (overlay, cut, index.snapshot())
    };
    let until = cut.unwrap_or(until);
    let page = move || {
        let merge = Merge { index: &index, view: &view, now, prefix };
        merge.page(overlay, &from, &until, scan.limit)
    };
    // A short page is a block or two, which costs less than a change of threads.
    if scan.limit <= SHORT_PAGE { page() } else { blocking::unblock(page).await }
}

/// One record: from the window, or with one lookup.
fn one(engine: &Engine, key: &[u8], prefix: usize, now: Timestamp) -> Result<RecordPage, Error> {
    let warm = engine.window().record(key).cloned();
    let stored = match warm {
        Some(stored) => stored,
        None => engine.index()?.record(key)?,
    };
    let live = stored.filter(|stored| is_live(stored, now));
    let key = Bytes::copy_from_slice(key.get(prefix..).unwrap_or_default());
    Ok(RecordPage { records: live.map(|stored| record(key, stored)).into_iter().collect(), next: None })
}

pub(crate) fn is_live(stored: &Stored, now: Timestamp) -> bool {
    stored.lapse.is_none_or(|at| at > now)
}

fn record(key: Bytes, stored: Stored) -> Record {
    Record { key, value: stored.value, revision: Revision(stored.revision), expires_at: stored.lapse }
}

/// The window's part of a range, up to so many live records; with it, where it was cut off, if it was.
fn overlay(
    window: &Window,
    from: &[u8],
    until: &[u8],
    live_max: usize,
    now: Timestamp,
) -> (Overlay, Option<Vec<u8>>) {
    use std::ops::Bound::{Excluded, Included};
    let bounds = (Included(from), Excluded(until));
    let mut ranges: Vec<_> = window
        .generations()
        .map(|generation| generation.records.range::<[u8], _>(bounds).peekable())
        .collect();
    let mut overlay = Overlay::new();
    let mut live = 0;
    loop {
        let Some(key) = ranges.iter_mut().filter_map(|range| range.peek().map(|(key, _)| *key)).min() else {
            return (overlay, None);
        };
        // The newest generation comes first, and hides the older one's value.
        let mut values = ranges.iter_mut().filter_map(|range| range.next_if(|(other, _)| *other == key));
        let newest = values.next().and_then(|(_, stored)| stored.clone());
        values.for_each(drop);
        live += usize::from(newest.as_ref().is_some_and(|stored| is_live(stored, now)));
        overlay.push_back((key.clone(), newest));
        if live == live_max {
            let cut = [key.as_slice(), &[0]].concat();
            return (overlay, Some(cut));
        }
    }
}

struct Merge<'a> {
    index: &'a Index,
    view: &'a Snapshot,
    now: Timestamp,
    /// Bytes of the space in front of a key.
    prefix: usize,
}

impl Merge<'_> {
    fn page(
        &self,
        mut overlay: Overlay,
        from: &[u8],
        until: &[u8],
        limit: usize,
    ) -> Result<RecordPage, Error> {
        let mut page = RecordPage::default();
        let mut cold = self.index.records(self.view, from, until);
        let mut below = cold.next().transpose()?;
        loop {
            let order = match (overlay.front(), &below) {
                (None, None) => return Ok(page),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((key, _)), Some((other, _))) => key.as_slice().cmp(other),
            };
            let mut item = None;
            if order != Ordering::Greater {
                item = overlay.pop_front().and_then(|(key, stored)| Some((Bytes::from(key), stored?)));
            }
            if order != Ordering::Less {
                let hidden = std::mem::replace(&mut below, cold.next().transpose()?);
                if order == Ordering::Greater {
                    item = hidden;
                }
            }
            let Some((key, stored)) = item.filter(|(_, stored)| is_live(stored, self.now)) else { continue };
            let key = key.slice(self.prefix..);
            if page.records.len() == limit {
                page.next = Some(key);
                return Ok(page);
            }
            page.records.push(record(key, stored));
        }
    }
}
