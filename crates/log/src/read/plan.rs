//! From a selection to lists of positions, and from lists to the events that really match.

use ensue_core::{Error, EventId, Query, Recorded, Select, StreamName};

use super::{PAGE_EVENTS, Page};
use crate::engine::Engine;
use crate::index::Order;
use crate::mark::{Mark, MarkMap};
use crate::window::{Generation, Postings, Window};

/// Candidates taken from a list at once. More than a page holds, since not every candidate matches.
pub(crate) const CANDIDATES: usize = 512;

/// A list, or several together, that hold one of so many events are dense.
const DENSE: u64 = 4;

/// Which of the four families of lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    Stream,
    Flow,
    Type,
    Tag,
}

impl Family {
    fn of(self, generation: &Generation) -> &MarkMap<Postings> {
        match self {
            Self::Stream => &generation.streams,
            Self::Flow => &generation.flows,
            Self::Type => &generation.types,
            Self::Tag => &generation.tags,
        }
    }
}

/// How a query finds its events below the window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Road {
    /// Positions from the index, and the frames that they lie in.
    Lists,
    /// Every event, compared: cheaper than to ask for positions where most events match.
    Through,
}

/// What a read looks at.
pub(crate) enum Plan {
    All,
    Stream { name: StreamName, mark: Mark, versions: (u64, u64) },
    Flow { id: EventId, lists: Vec<(Family, Mark)> },
    Query { query: Query, lists: Vec<(Family, Mark)>, road: Road },
}

impl Plan {
    /// The plan, and the lowest position worth looking at: one that lies in the window if nothing older can match.
    pub(crate) fn new(engine: &Engine, select: Select, low: u64, limit: usize) -> Result<(Self, u64), Error> {
        let marker = engine.marker;
        let plan = match select {
            Select::All => Self::All,
            Select::Query(query) if query.is_all() => Self::All,
            Select::Query(query) => {
                let lists = query_lists(engine, &query)?;
                let is_cold = low < engine.window().first_position();
                let is_through = is_cold && limit >= PAGE_EVENTS && are_dense(engine, &lists)?;
                Self::Query { query, lists, road: if is_through { Road::Through } else { Road::Lists } }
            }
            Select::Flow(id) => Self::Flow { lists: vec![(Family::Flow, marker.flow(&id))], id },
            Select::Stream { stream, from, to } => {
                let mark = marker.stream(&stream);
                Self::Stream { name: stream, mark, versions: (from.0, to.0) }
            }
        };
        let low = plan.raise(engine, low)?;
        Ok((plan, low))
    }

    /// Raises the lower end of a read past what the index need not be asked for.
    fn raise(&self, engine: &Engine, low: u64) -> Result<u64, Error> {
        let first = {
            let window = engine.window();
            let first = window.first_position();
            if low >= first || matches!(self, Self::All) {
                return Ok(low);
            }
            if let Self::Stream { mark, versions, .. } = self
                && let Some(oldest) = oldest_version(&window, *mark)
                && (oldest <= versions.0 || oldest == 1)
            {
                return Ok(first);
            }
            first
        };
        // A flush between the two looks only adds to the index what the window has as well.
        let is_cold = match self {
            Self::All => true,
            Self::Stream { mark, .. } => engine.index()?.list(*mark)?.is_some(),
            Self::Flow { lists, .. } | Self::Query { lists, .. } => any_cold(engine, lists)?,
        };
        Ok(if is_cold { low } else { first })
    }

    /// Whether this event is one of those asked for.
    pub(crate) fn matches(&self, event: &Recorded) -> bool {
        match self {
            Self::All => true,
            Self::Stream { name, versions, .. } => {
                (versions.0..=versions.1).contains(&event.version.0) && event.stream == *name
            }
            Self::Flow { id, .. } => event.envelope.flow() == id,
            Self::Query { query, .. } => query.matches(&event.envelope),
        }
    }

    pub(crate) fn warm(&self, window: &Window, range: (u64, u64), limit: usize, is_backward: bool) -> Page {
        let candidates = match self {
            Self::All => Candidates::all(range, limit, is_backward),
            Self::Stream { mark, .. } => {
                Candidates::one(warm_list(window, (Family::Stream, *mark), range, is_backward))
            }
            Self::Flow { lists, .. } | Self::Query { lists, .. } => Candidates::merge(
                lists.iter().map(|list| warm_list(window, *list, range, is_backward)).collect(),
                is_backward,
            ),
        };
        let mut events = Vec::with_capacity(candidates.positions.len().min(limit));
        for position in candidates.positions {
            let Some(event) = window.event(position) else { continue };
            if self.matches(event) {
                events.push(event.clone());
                if events.len() == limit {
                    return Page { events, reached: Some(position) };
                }
            }
        }
        Page { events, reached: candidates.reached }
    }
}

/// Sorted positions that may match, in the direction of the read, and the last one that is complete: beyond it there may
/// be more. `None`: there is no more.
pub(crate) struct Candidates {
    pub(crate) positions: Vec<u64>,
    pub(crate) reached: Option<u64>,
}

impl Candidates {
    pub(crate) fn all((low, high): (u64, u64), limit: usize, is_backward: bool) -> Self {
        let is_cut = high - low >= limit as u64;
        let positions: Vec<u64> = if is_backward {
            (low..=high).rev().take(limit).collect()
        } else {
            (low..=high).take(limit).collect()
        };
        let reached = positions.last().copied().filter(|_| is_cut);
        Self { positions, reached }
    }

    fn one(positions: Vec<u64>) -> Self {
        let reached = positions.last().copied().filter(|_| positions.len() >= CANDIDATES);
        Self { positions, reached }
    }

    /// Merges lists, each cut at [`CANDIDATES`]: what lies beyond the end of a cut one must wait.
    pub(crate) fn merge(lists: Vec<Vec<u64>>, is_backward: bool) -> Self {
        if let [_] = lists.as_slice() {
            return Self::one(lists.into_iter().next().unwrap_or_default());
        }
        let cut =
            lists.iter().filter(|list| list.len() >= CANDIDATES).filter_map(|list| list.last().copied());
        let reached = if is_backward { cut.max() } else { cut.min() };
        let mut positions: Vec<u64> = lists.concat();
        positions.sort_unstable();
        positions.dedup();
        if is_backward {
            positions.reverse();
        }
        if let Some(reached) = reached {
            positions
                .retain(|position| if is_backward { *position >= reached } else { *position <= reached });
        }
        Self { positions, reached }
    }
}

fn warm_list(
    window: &Window,
    (family, mark): (Family, Mark),
    (low, high): (u64, u64),
    is_backward: bool,
) -> Vec<u64> {
    let between = |generation: &'_ Generation| {
        let postings = family.of(generation).get(&mark)?;
        let range = postings.between(low, high);
        let positions: Vec<u64> = if is_backward {
            range.rev().take(CANDIDATES).collect()
        } else {
            range.take(CANDIDATES).collect()
        };
        Some(positions)
    };
    let mut positions: Vec<u64> = if is_backward {
        window.generations().filter_map(between).flatten().collect()
    } else {
        window.generations().rev().filter_map(between).flatten().collect()
    };
    positions.truncate(CANDIDATES);
    positions
}

/// The version of the oldest event of a stream that is in the window.
fn oldest_version(window: &Window, stream: Mark) -> Option<u64> {
    window.generations().rev().find_map(|generation| {
        let first = generation.streams.get(&stream)?.iter().next()?;
        generation.event(first).map(|event| event.version.0)
    })
}

/// The lists whose union holds every match: for each alternative its rarest tag, or else its types.
fn query_lists(engine: &Engine, query: &Query) -> Result<Vec<(Family, Mark)>, Error> {
    let mut lists = Vec::new();
    for item in &query.items {
        let tags: Vec<Mark> = item.tags.iter().map(|tag| engine.marker.tag(tag)).collect();
        match tags.as_slice() {
            [] => lists.extend(item.types.iter().map(|name| (Family::Type, engine.marker.event_type(name)))),
            [tag] => lists.push((Family::Tag, *tag)),
            tags => lists.push((Family::Tag, rarest(engine, tags)?)),
        }
    }
    lists.dedup();
    Ok(lists)
}

fn rarest(engine: &Engine, tags: &[Mark]) -> Result<Mark, Error> {
    let mut rarest: Option<(u64, Mark)> = None;
    for tag in tags {
        let warm: usize = {
            let window = engine.window();
            window.generations().filter_map(|generation| generation.tags.get(tag)).map(Postings::len).sum()
        };
        let cold = engine.index()?.list(*tag)?.map_or(0, |list| list.count);
        let count = cold + warm as u64;
        if rarest.is_none_or(|(fewest, _)| count < fewest) {
            rarest = Some((count, *tag));
        }
    }
    Ok(rarest.expect("called with at least two tags").1)
}

/// Whether these lists hold so many of all events that reading through is the shorter road. Of the whole log; a range that
/// is otherwise only costs time.
fn are_dense(engine: &Engine, lists: &[(Family, Mark)]) -> Result<bool, Error> {
    let index = engine.index()?;
    let mut listed = 0_u64;
    for (_, mark) in lists {
        listed += index.list(*mark)?.map_or(0, |list| list.count);
    }
    let indexed = index.applied()?.map_or(0, |applied| applied.position);
    Ok(listed.saturating_mul(DENSE) >= indexed)
}

fn any_cold(engine: &Engine, lists: &[(Family, Mark)]) -> Result<bool, Error> {
    for (_, mark) in lists {
        if engine.index()?.list(*mark)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How a family's lists are entered in the index.
pub(crate) fn order_of(family: Family) -> Order {
    if family == Family::Stream { Order::Ordinal } else { Order::Position }
}
