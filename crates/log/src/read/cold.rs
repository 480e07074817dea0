//! A page from below the window: positions from the index, events from the journal. Blocks; runs on the blocking pool.

use std::sync::Arc;

use ensue_core::{Code, Error, Recorded};

use super::Page;
use super::plan::{CANDIDATES, Candidates, Family, Plan, Road, order_of};
use crate::engine::Engine;
use crate::errors;
use crate::frames::Loaded;
use crate::index::Order;
use crate::journal::file_name;
use crate::mark::Mark;

pub(super) fn page(
    engine: &Engine,
    plan: &Plan,
    range: (u64, u64),
    limit: usize,
    is_backward: bool,
    frame: &mut Option<Arc<Loaded>>,
) -> Result<Page, Error> {
    let candidates = match plan {
        Plan::All | Plan::Query { road: Road::Through, .. } => Candidates::all(range, limit, is_backward),
        Plan::Stream { mark, versions, .. } => {
            stream_candidates(engine, *mark, *versions, range, is_backward)?
        }
        Plan::Flow { lists, .. } | Plan::Query { lists, .. } => {
            let lists = lists.iter().map(|list| cold_list(engine, *list, range, is_backward));
            Candidates::merge(lists.collect::<Result<_, _>>()?, is_backward)
        }
    };
    let mut events = Vec::new();
    let mut rest = candidates.positions.as_slice();
    while let Some(&position) = rest.first() {
        hold(engine, position, frame)?;
        let loaded = frame.as_ref().expect("just held");
        // A frame is decoded once for all its candidates.
        let run = rest.iter().take_while(|position| loaded.holds(**position)).count();
        let (here, later) = rest.split_at(run);
        for event in decode(loaded, here, is_backward)? {
            let reached = event.position.0;
            if plan.matches(&event) {
                events.push(event);
                if events.len() == limit {
                    return Ok(Page { events, reached: Some(reached) });
                }
            }
        }
        rest = later;
    }
    Ok(Page { events, reached: candidates.reached })
}

fn cold_list(
    engine: &Engine,
    (family, mark): (Family, Mark),
    range: (u64, u64),
    is_backward: bool,
) -> Result<Vec<u64>, Error> {
    engine.index()?.entries(mark, order_of(family), range, CANDIDATES, is_backward)
}

/// A stream's list is entered by version; positions outside of the range are stepped over.
fn stream_candidates(
    engine: &Engine,
    mark: Mark,
    (mut from, mut to): (u64, u64),
    (low, high): (u64, u64),
    is_backward: bool,
) -> Result<Candidates, Error> {
    loop {
        let entries = engine.index()?.entries(mark, Order::Ordinal, (from, to), CANDIDATES, is_backward)?;
        let is_cut = entries.len() >= CANDIDATES;
        let reached = entries.last().copied().filter(|_| is_cut);
        let is_past = entries.last().is_some_and(|last| if is_backward { *last < low } else { *last > high });
        let positions: Vec<u64> =
            entries.into_iter().filter(|position| (low..=high).contains(position)).collect();
        if !positions.is_empty() || !is_cut || is_past {
            return Ok(Candidates { positions, reached: reached.filter(|_| !is_past) });
        }
        if is_backward {
            to = to.min(engine.index()?.list(mark)?.map_or(0, |list| list.count)) - CANDIDATES as u64;
        } else {
            from = from.max(1) + CANDIDATES as u64;
        }
    }
}

/// Loads the frame of a position, unless it is at hand.
fn hold(engine: &Engine, position: u64, frame: &mut Option<Arc<Loaded>>) -> Result<(), Error> {
    if !frame.as_ref().is_some_and(|frame| frame.holds(position)) {
        let place = engine.index()?.frame(position)?.ok_or_else(|| {
            Error::new(Code::CORRUPT, format!("the index does not know where position {position} lies"))
                .with_fix("close the store and delete its `index` folder; it is rebuilt from the journal")
        })?;
        let loaded = engine.frames.load(place)?;
        if !loaded.holds(position) {
            let message = format!("the index names another frame for position {position}");
            return Err(Error::new(Code::CORRUPT, message)
                .with_fix("close the store and delete its `index` folder; it is rebuilt from the journal"));
        }
        *frame = Some(Arc::new(loaded));
    }
    Ok(())
}

/// The events at these positions of a frame, in the same order.
fn decode(loaded: &Loaded, positions: &[u64], is_backward: bool) -> Result<Vec<Recorded>, Error> {
    let (Some(&first), Some(&last)) = (positions.first(), positions.last()) else { return Ok(Vec::new()) };
    let mut wanted = positions.to_vec();
    wanted.sort_unstable();
    let mut events = Vec::with_capacity(wanted.len());
    let header = loaded.header;
    let damaged = |why| {
        let until = header.offset + header.frame_bytes() as u64;
        errors::corrupt(&file_name(header.generation), header.offset, until, why)
    };
    let take = |event: Recorded| {
        if wanted.binary_search(&event.position.0).is_ok() {
            events.push(event);
        }
    };
    loaded.events((first.min(last), first.max(last)), take).map_err(damaged)?;
    if events.len() != positions.len() {
        return Err(damaged("the frame does not hold the events it counts"));
    }
    if is_backward {
        events.reverse();
    }
    Ok(events)
}
