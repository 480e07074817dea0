//! Turns between the values of a tag inside one lane, so that one tenant's flood does not hold up the others.
//!
//! The reader takes events in, the lane takes them out a turn at a time. Of a value with much to do only the first
//! [`KEPT_EACH`] events are kept; what comes after them is skipped, and the lane reads it again when it gets there. So the
//! reader goes on, finds the events of other values, and memory stays bounded.
//!
//! Invariant: the checkpoint of the lane stays below everything that is not settled. What is settled above it is told by
//! the [`Ahead`] record, which is written by the same commit: up to `front` all of it, but for the values that wait.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use ensue_core::{Error, Position, RecordScan, RecordWrite, Recorded, Store, StoreExt};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use tokio::sync::Notify;

use crate::pressure::value_of;
use crate::progress::{Standing, lock};
use crate::spaces::{self, AHEAD};

/// Most values that wait in one lane at one time. While there are so many, one more makes the reader wait.
pub(crate) const WAITING_MAX: usize = 64;
/// Events that are kept of one value.
const KEPT_EACH: usize = 512;
/// Events that are kept of all values together.
const KEPT_MAX: usize = 4_096;

/// What is settled above the checkpoint of a lane. No record: nothing is.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ahead {
    tag: SmolStr,
    /// The checkpoint that it belongs to. With another one it is out of date.
    low: Position,
    front: Position,
    /// What waits, and up to where it is settled.
    waiting: Vec<(SmolStr, Position)>,
}

impl Ahead {
    /// What the lanes of a subscription have settled above their checkpoints, by the key of the lane.
    pub(crate) async fn load(store: &dyn Store, subscription: &str) -> Result<HashMap<Bytes, Self>, Error> {
        let until = spaces::within(&[subscription]).iter().copied().chain([u8::MAX]).collect::<Vec<u8>>();
        let from = spaces::within(&[subscription]);
        let all = RecordScan { from, until: Some(until.into()), ..RecordScan::all(AHEAD.clone()) };
        let records = store.records(all).await?.into_iter();
        records.map(|record| Ok((record.key, spaces::decode("ahead", &record.value)?))).collect()
    }

    /// Whether it belongs to this checkpoint.
    pub(crate) fn is_of(&self, checkpoint: Position) -> bool {
        self.low == checkpoint
    }

    /// Whether this event of the lane is settled, though the checkpoint is not past it.
    pub(crate) fn has_settled(&self, recorded: &Recorded) -> bool {
        let value = value_of(&recorded.envelope, &self.tag);
        let waits = self.waiting.iter().find(|(waiting, _)| waiting == value);
        recorded.position <= waits.map_or(self.front, |(_, settled)| *settled)
    }
}

/// The turns of one lane, between its reader and itself.
pub(crate) struct Fair {
    turns: Mutex<Turns>,
    room: Notify,
}

/// What a lane does next.
pub(crate) enum Next {
    /// It works on these.
    Turn(Vec<Recorded>),
    /// It reads what was skipped.
    Read(Skipped),
    /// Every value that waits has been asked to come again, the first in so long.
    Rest(Duration),
    /// Nobody waits.
    Nothing,
}

/// Events of a value that are to be read again: at most `limit`, after one position, up to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Skipped {
    pub(crate) tag: SmolStr,
    pub(crate) value: SmolStr,
    pub(crate) after: Position,
    pub(crate) until: Position,
    pub(crate) limit: usize,
}

impl Fair {
    /// A lane whose checkpoint has moved by no other value's doing.
    pub(crate) fn new(tag: &str, checkpoint: Position) -> Self {
        Self::of(Turns { tag: tag.into(), front: checkpoint, ..Turns::default() })
    }

    /// Goes on where another owner of the lane has left it: what waits is read again.
    pub(crate) fn resume(ahead: &Ahead) -> Self {
        let waiting = ahead.waiting.iter().map(|(value, settled)| {
            (value.clone(), Waiting { skipped: ahead.front, ..Waiting::after(*settled) })
        });
        Self::of(Turns {
            tag: ahead.tag.clone(),
            front: ahead.front,
            is_stored: true,
            waiting: waiting.collect(),
            order: ahead.waiting.iter().map(|(value, _)| value.clone()).collect(),
            ..Turns::default()
        })
    }

    fn of(turns: Turns) -> Self {
        Self { turns: Mutex::new(turns), room: Notify::new() }
    }

    /// Everything up to here has been taken in, or was settled before; and how many values wait.
    pub(crate) fn front(&self) -> (Position, usize) {
        let turns = lock(&self.turns);
        (turns.front, turns.waiting.len())
    }

    /// Whether so many values wait that this event cannot be taken in. Who takes in is one, so room does not vanish.
    pub(crate) fn is_full_for(&self, recorded: &Recorded) -> bool {
        lock(&self.turns).is_full_for(recorded)
    }

    /// Takes in the next event of the lane, for which there is room.
    pub(crate) fn take_in(&self, recorded: Recorded, lane: usize, standing: &Standing) {
        // The lane must not settle what its standing does not know of, so this is done under the lock.
        let mut turns = lock(&self.turns);
        let position = recorded.position;
        let more = turns.take_in(recorded);
        standing.sent(lane, position, position, more);
    }

    /// Resolves when there may be room for one more value.
    pub(crate) async fn room(&self) {
        self.room.notified().await;
    }

    pub(crate) fn next(&self, now: Duration, batch: usize) -> Next {
        lock(&self.turns).next(now, batch)
    }

    /// What was read of a value; fewer than its limit means that there is no more of it.
    pub(crate) fn put(&self, skipped: &Skipped, events: Vec<Recorded>, lane: usize, standing: &Standing) {
        let mut turns = lock(&self.turns);
        if let (Some(first), Some(last)) = (events.first(), events.last()) {
            standing.sent(lane, first.position, last.position, events.len());
        }
        if turns.put(skipped, events) {
            standing.settled(lane, turns.low(), 1);
            self.room.notify_one();
        }
    }

    /// What remains of the turn comes later.
    pub(crate) fn put_back(&self, rest: &[Recorded], not_before: Duration) {
        lock(&self.turns).put_back(rest, not_before);
    }

    /// The turn is over.
    pub(crate) fn end_turn(&self) {
        lock(&self.turns).end_turn();
        self.room.notify_one();
    }

    /// What a commit has to store that settles everything up to here of the value whose turn it is; of all values, where
    /// it is nobody's turn.
    pub(crate) fn plan(&self, lane: &Bytes, up_to: Position) -> (Position, Option<RecordWrite>) {
        let mut turns = lock(&self.turns);
        let ahead = turns.ahead(up_to);
        let write = if ahead.waiting.is_empty() {
            turns.is_stored.then(|| RecordWrite::delete(AHEAD.clone(), lane.clone()))
        } else {
            turns.is_stored = true;
            Some(RecordWrite::put(AHEAD.clone(), lane.clone(), spaces::encode(&ahead)))
        };
        (ahead.low, write)
    }

    /// The commit is stored.
    pub(crate) fn settled(&self, up_to: Position) {
        lock(&self.turns).settled(up_to);
    }
}

#[derive(Default)]
struct Turns {
    tag: SmolStr,
    /// Everything up to here was taken in or skipped.
    front: Position,
    /// There may be a record in the store.
    is_stored: bool,
    waiting: HashMap<SmolStr, Waiting>,
    /// The values that wait; the first is next.
    order: VecDeque<SmolStr>,
    turn: Option<Turn>,
    /// Events that are kept, over all values.
    kept: usize,
}

/// Whose turn it is, and from which event to which.
struct Turn {
    value: SmolStr,
    first: Position,
    last: Position,
}

/// A value with something to do.
#[derive(Default)]
struct Waiting {
    settled: Position,
    /// Everything of it up to here was kept.
    read: Position,
    /// The newest event that was not.
    skipped: Position,
    kept: VecDeque<Recorded>,
    not_before: Duration,
}

impl Waiting {
    fn after(settled: Position) -> Self {
        Self { settled, read: settled, ..Self::default() }
    }

    fn is_behind(&self) -> bool {
        self.skipped > self.read
    }

    fn is_through(&self) -> bool {
        self.kept.is_empty() && !self.is_behind()
    }
}

impl Turns {
    fn is_full_for(&self, recorded: &Recorded) -> bool {
        let value = value_of(&recorded.envelope, &self.tag);
        self.waiting.len() >= WAITING_MAX && !self.waiting.contains_key(value)
    }

    /// Says by how much this makes more to do in hand: an event that is kept is one, and so is all that is skipped of a value.
    fn take_in(&mut self, recorded: Recorded) -> usize {
        let (value, position) = (value_of(&recorded.envelope, &self.tag), recorded.position);
        if !self.waiting.contains_key(value) {
            self.waiting.insert(value.into(), Waiting::after(position.previous()));
            self.order.push_back(value.into());
        }
        self.front = position;
        let Some(waiting) = self.waiting.get_mut(value) else { return 0 };
        let was_behind = waiting.is_behind();
        if was_behind || waiting.kept.len() >= KEPT_EACH || self.kept >= KEPT_MAX {
            waiting.skipped = position;
            return usize::from(!was_behind);
        }
        waiting.read = position;
        waiting.kept.push_back(recorded);
        self.kept += 1;
        1
    }

    fn next(&mut self, now: Duration, batch: usize) -> Next {
        let rest = |value: &SmolStr| {
            let waiting = self.waiting.get(value);
            waiting.map_or(Duration::ZERO, |waiting| waiting.not_before.saturating_sub(now))
        };
        let Some(place) = self.order.iter().position(|value| rest(value).is_zero()) else {
            return self.order.iter().map(rest).min().map_or(Next::Nothing, Next::Rest);
        };
        let Some(value) = self.order.get(place).cloned() else { return Next::Nothing };
        let Some(waiting) = self.waiting.get_mut(&value) else { return Next::Nothing };
        if waiting.kept.is_empty() {
            // It keeps its place.
            let limit = KEPT_MAX.saturating_sub(self.kept).max(batch).min(KEPT_EACH);
            let (tag, after, until) = (self.tag.clone(), waiting.read, waiting.skipped);
            return Next::Read(Skipped { tag, value, after, until, limit });
        }
        let events: Vec<Recorded> = waiting.kept.drain(..batch.min(waiting.kept.len())).collect();
        self.kept -= events.len();
        let ends = events.first().zip(events.last()).map(|(first, last)| (first.position, last.position));
        self.turn = ends.map(|(first, last)| Turn { value: value.clone(), first, last });
        self.order.remove(place);
        self.order.push_back(value);
        Next::Turn(events)
    }

    /// Whether nothing of the value is skipped any more.
    fn put(&mut self, skipped: &Skipped, events: Vec<Recorded>) -> bool {
        let Some(waiting) = self.waiting.get_mut(&skipped.value) else { return false };
        let is_end = events.len() < skipped.limit;
        let read = events.last().map(|last| last.position).filter(|_| !is_end).unwrap_or(skipped.until);
        waiting.read = waiting.read.max(read);
        self.kept += events.len();
        waiting.kept.extend(events);
        let is_behind = waiting.is_behind();
        self.forget_if_through(&skipped.value);
        !is_behind
    }

    fn put_back(&mut self, rest: &[Recorded], not_before: Duration) {
        let Some(Turn { value, first, .. }) = &self.turn else { return };
        if rest.first().is_some_and(|rest| rest.position == *first) {
            // It was let do nothing, so it is the first to go on: else one that has much to do is always before it.
            self.order.retain(|waiting| waiting != value);
            self.order.push_front(value.clone());
        }
        if let Some(waiting) = self.waiting.get_mut(value) {
            rest.iter().rev().for_each(|recorded| waiting.kept.push_front(recorded.clone()));
            waiting.not_before = not_before;
            self.kept += rest.len();
        }
    }

    fn end_turn(&mut self) {
        if let Some(Turn { value, .. }) = self.turn.take() {
            self.forget_if_through(&value);
        }
    }

    fn forget_if_through(&mut self, value: &SmolStr) {
        if self.waiting.get(value).is_some_and(Waiting::is_through) {
            self.waiting.remove(value);
            self.order.retain(|waiting| waiting != value);
        }
    }

    /// Everything up to here is settled.
    fn low(&self) -> Position {
        self.waiting.values().map(|waiting| waiting.settled).min().unwrap_or(self.front)
    }

    /// How things stand when everything up to here of the value whose turn it is will be settled.
    fn ahead(&self, up_to: Position) -> Ahead {
        let front = if self.turn.is_some() { self.front } else { self.front.max(up_to) };
        let then = self.waiting.iter().filter_map(|(value, waiting)| match &self.turn {
            Some(Turn { value: turn, last, .. }) if turn == value => {
                let is_over = waiting.is_through() && up_to >= *last;
                (!is_over).then(|| (value.clone(), waiting.settled.max(up_to)))
            }
            _ => Some((value.clone(), waiting.settled)),
        });
        let mut waiting: Vec<(SmolStr, Position)> = then.collect();
        waiting.sort();
        let low = waiting.iter().map(|(_, settled)| *settled).min().unwrap_or(front);
        Ahead { tag: self.tag.clone(), low, front, waiting }
    }

    fn settled(&mut self, up_to: Position) {
        let ahead = self.ahead(up_to);
        self.is_stored &= !ahead.waiting.is_empty();
        self.front = ahead.front;
        if let Some(waiting) = self.turn.as_ref().and_then(|turn| self.waiting.get_mut(&turn.value)) {
            waiting.settled = waiting.settled.max(up_to);
        }
    }
}
