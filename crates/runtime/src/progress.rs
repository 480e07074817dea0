//! How far every subscription is: read by `wait`, by the test harness and by operators, written by the lanes.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ensue_core::{Code, Error, Position};
use tokio::sync::Notify;

use crate::app::Quiescence;

/// One entry for each subscription of the running application.
#[derive(Default)]
pub(crate) struct Board {
    entries: Mutex<Vec<Arc<Standing>>>,
    changed: Arc<Notify>,
}

/// How far one subscription is.
pub(crate) struct Standing {
    pub(crate) name: String,
    /// Whether it feeds a read model, which `wait` waits for.
    pub(crate) is_projection: bool,
    cursor: AtomicU64,
    /// Requests of operators that no lane has yet.
    asked: AtomicUsize,
    /// Times it was told that the store holds a request for it, since it last looked.
    told: AtomicUsize,
    telling: Notify,
    /// The reader waits: for a lane that has too much queued, or for the store to come back.
    is_reader_waiting: AtomicBool,
    /// It has not yet found out which lanes it has.
    is_starting: AtomicBool,
    /// Nothing runs any more.
    is_over: AtomicBool,
    /// Why it has stopped as a whole.
    halted: Mutex<Option<Error>>,
    lanes: Mutex<Vec<LaneMark>>,
    changed: Arc<Notify>,
}

/// How far one lane is.
#[derive(Clone, Default)]
struct LaneMark {
    /// This process has it.
    is_ours: bool,
    /// Last position handed to the lane.
    sent: Position,
    /// Everything of this lane up to here is settled.
    settled: Position,
    /// Deliveries and requests handed to the lane and not settled.
    outstanding: usize,
    is_pausing: bool,
    /// It takes nothing more; what it had stays unsettled and holds the floor back.
    halted: Option<Error>,
}

impl Board {
    pub(crate) fn enter(&self, name: &str, is_projection: bool) -> Arc<Standing> {
        let standing = Arc::new(Standing {
            name: name.to_owned(),
            is_projection,
            cursor: AtomicU64::new(0),
            asked: AtomicUsize::new(0),
            told: AtomicUsize::new(0),
            telling: Notify::new(),
            is_reader_waiting: AtomicBool::new(false),
            is_starting: AtomicBool::new(true),
            is_over: AtomicBool::new(false),
            halted: Mutex::default(),
            lanes: Mutex::default(),
            changed: Arc::clone(&self.changed),
        });
        lock(&self.entries).push(Arc::clone(&standing));
        standing
    }

    pub(crate) fn all(&self) -> Vec<Arc<Standing>> {
        lock(&self.entries).clone()
    }

    /// Tells a subscription that the store holds requests for it, however many. One that does not run here finds them
    /// when it starts.
    pub(crate) fn tell(&self, name: &str) {
        if let Some(standing) = lock(&self.entries).iter().find(|standing| standing.name == name) {
            standing.told.fetch_add(1, Ordering::AcqRel);
            standing.telling.notify_one();
        }
    }

    /// Resolves when `done` holds; checked after every change.
    pub(crate) async fn until(&self, done: impl Fn(&[Arc<Standing>]) -> bool) {
        loop {
            let notified = self.changed.notified();
            let mut notified = std::pin::pin!(notified);
            notified.as_mut().enable();
            if done(&self.all()) {
                return;
            }
            notified.await;
        }
    }
}

impl Standing {
    /// There are so many lanes; which of them this process has, it has yet to find out.
    pub(crate) fn begin(&self, lanes: usize) {
        *lock(&self.lanes) = vec![LaneMark::default(); lanes];
        self.is_starting.store(true, Ordering::Release);
    }

    /// It has found out.
    pub(crate) fn begun(&self) {
        self.is_starting.store(false, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// This process has a lane, with everything up to `settled` settled and nothing in hand.
    pub(crate) fn hold(&self, lane: usize, settled: Position) {
        if let Some(mark) = lock(&self.lanes).get_mut(lane) {
            *mark = LaneMark { is_ours: true, sent: settled, settled, ..LaneMark::default() };
        }
    }

    /// Another process has the lane, or will.
    pub(crate) fn drop_lane(&self, lane: usize) {
        if let Some(mark) = lock(&self.lanes).get_mut(lane) {
            *mark = LaneMark::default();
        }
        self.changed.notify_waiters();
    }

    /// Whether every lane is here.
    pub(crate) fn has_all(&self) -> bool {
        let lanes = lock(&self.lanes);
        !lanes.is_empty() && lanes.iter().all(|mark| mark.is_ours)
    }

    /// Idle lanes whose checkpoint is so far behind what has been read.
    pub(crate) fn lagging(&self, behind: u64) -> Vec<usize> {
        let cursor = self.cursor.load(Ordering::Acquire);
        let is_lagging = |mark: &LaneMark| {
            mark.is_ours
                && mark.outstanding == 0
                && mark.halted.is_none()
                && mark.settled.0 + behind <= cursor
        };
        let lanes = lock(&self.lanes);
        lanes.iter().enumerate().filter(|(_, mark)| is_lagging(mark)).map(|(lane, _)| lane).collect()
    }

    /// Everything up to here has been read and handed to lanes.
    pub(crate) fn advance_cursor(&self, to: Position) {
        self.cursor.store(to.0, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// These are about to be handed to a lane.
    pub(crate) fn sent(&self, lane: usize, first: Position, last: Position, count: usize) {
        if let Some(mark) = lock(&self.lanes).get_mut(lane) {
            if mark.sent <= mark.settled {
                // The lane was idle: all it has before its next event is settled by definition.
                mark.settled = mark.settled.max(first.previous());
            }
            mark.sent = mark.sent.max(last);
            // What a lane that has stopped is sent waits for the next start: it holds the floor back, and is not in hand.
            mark.outstanding += if mark.halted.is_some() { 0 } else { count };
        }
    }

    /// A request of an operator is about to be handed to a lane.
    pub(crate) fn requested(&self, lane: usize) {
        if let Some(mark) = lock(&self.lanes).get_mut(lane) {
            mark.outstanding += usize::from(mark.halted.is_none());
        }
    }

    pub(crate) fn settled(&self, lane: usize, up_to: Position, count: usize) {
        if let Some(mark) = lock(&self.lanes).get_mut(lane) {
            mark.settled = mark.settled.max(up_to);
            mark.outstanding = mark.outstanding.saturating_sub(count);
        }
        self.changed.notify_waiters();
    }

    /// Everything up to here is settled.
    pub(crate) fn floor(&self) -> Position {
        // The cursor first: a lane that is sent more in the meantime only lowers the result.
        let cursor = Position(self.cursor.load(Ordering::Acquire));
        let lanes = lock(&self.lanes);
        let held_back = lanes
            .iter()
            .filter(|mark| mark.is_ours && mark.settled < mark.sent)
            .map(|mark| mark.settled)
            .min();
        held_back.map_or(cursor, |settled| settled.min(cursor))
    }

    /// Whether anything is in hand when the log ends at `head`.
    pub(crate) fn quiescence_at(&self, head: Position) -> Quiescence {
        if self.is_over.load(Ordering::Acquire) {
            return Quiescence::Idle;
        }
        let lanes = lock(&self.lanes);
        let is_reading_on =
            self.cursor.load(Ordering::Acquire) < head.0 && lanes.iter().any(|mark| mark.is_ours);
        let is_behind = self.is_starting.load(Ordering::Acquire)
            || self.asked.load(Ordering::Acquire) > 0
            || self.told() > 0
            || is_reading_on;
        let mut busy = lanes.iter().filter(|mark| mark.outstanding > 0).peekable();
        let is_reading = is_behind && !self.is_reader_waiting.load(Ordering::Acquire);
        if !is_behind && busy.peek().is_none() {
            Quiescence::Idle
        } else if is_reading || busy.any(|mark| !mark.is_pausing) {
            Quiescence::Busy
        } else {
            Quiescence::Pausing
        }
    }

    /// How many lanes there are, and how many deliveries and requests they have in hand.
    pub(crate) fn in_hand(&self) -> (usize, usize) {
        let lanes = lock(&self.lanes);
        (lanes.len(), lanes.iter().map(|mark| mark.outstanding).sum())
    }

    /// What it has in hand, for people.
    pub(crate) fn describe(&self) -> String {
        let (_, in_hand) = self.in_hand();
        format!(
            "{} has read up to {} and has {in_hand} in hand",
            self.name,
            self.cursor.load(Ordering::Acquire)
        )
    }

    /// A request of an operator came, or was handed to its lane.
    pub(crate) fn asked(&self, delta: isize) {
        self.asked.fetch_add(delta.cast_unsigned(), Ordering::AcqRel);
    }

    /// How often it was told of requests and has not looked since.
    pub(crate) fn told(&self) -> usize {
        self.told.load(Ordering::Acquire)
    }

    /// The requests that it was told of so often are in the hands of their lanes.
    pub(crate) fn looked(&self, told: usize) {
        self.told.fetch_sub(told, Ordering::AcqRel);
    }

    /// Resolves when it was told of a request.
    pub(crate) async fn is_told(&self) {
        self.telling.notified().await;
    }

    /// The reader waits, or goes on.
    pub(crate) fn reader_waits(&self, waits: bool) {
        self.is_reader_waiting.store(waits, Ordering::Release);
    }

    /// A lane waits between two attempts, or goes on.
    pub(crate) fn pause(&self, lane: usize, pauses: bool) {
        if let Some(mark) = lock(&self.lanes).get_mut(lane) {
            mark.is_pausing = pauses;
        }
    }

    /// A lane has stopped; the others go on.
    pub(crate) fn halt_lane(&self, lane: usize, error: Error) {
        if let Some(mark) = lock(&self.lanes).get_mut(lane) {
            (mark.halted, mark.outstanding) = (Some(error), 0);
        }
        self.changed.notify_waiters();
    }

    /// Whether a lane has stopped because it may park no more.
    pub(crate) fn is_full(&self, lane: usize) -> bool {
        let is_full = |error: &Error| error.code() == Code::DEAD_FULL;
        lock(&self.lanes).get(lane).is_some_and(|mark| mark.halted.as_ref().is_some_and(is_full))
    }

    /// A lane that had stopped is about to be taken again, which is work in hand.
    pub(crate) fn resume_lane(&self, lane: usize) {
        if let Some(mark) = lock(&self.lanes).get_mut(lane) {
            (mark.halted, mark.outstanding) = (None, 1);
        }
    }

    /// It is about to find out anew which lanes it has.
    pub(crate) fn looks_again(&self) {
        self.is_starting.store(true, Ordering::Release);
    }

    /// It goes on after it has stopped, and so do its lanes.
    pub(crate) fn revive(&self) {
        *lock(&self.halted) = None;
        lock(&self.lanes).iter_mut().for_each(|mark| mark.halted = None);
        self.is_over.store(false, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// The subscription has stopped as a whole.
    pub(crate) fn halt(&self, error: Error) {
        lock(&self.halted).get_or_insert(error);
        self.end();
    }

    /// Nothing of the subscription runs any more.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.halted().is_some()
    }

    /// Why the subscription, or the first of its lanes that has, has stopped here.
    pub(crate) fn halted(&self) -> Option<Error> {
        let whole = lock(&self.halted).clone();
        whole.or_else(|| lock(&self.lanes).iter().find_map(|mark| mark.halted.clone()))
    }
}

/// These locks guard plain values; a panic while one was held left nothing half-done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(standing: &Standing, settled: &[Position]) {
        standing.begin(settled.len());
        settled.iter().enumerate().for_each(|(lane, settled)| standing.hold(lane, *settled));
        standing.begun();
    }

    #[test]
    fn a_lane_of_another_process_holds_nothing_back() {
        let board = Board::default();
        let standing = board.enter("a", false);
        begin(&standing, &[Position(0), Position(0)]);
        standing.sent(0, Position(3), Position(4), 2);
        standing.sent(1, Position(5), Position(5), 1);
        standing.advance_cursor(Position(9));
        standing.drop_lane(0);
        assert_eq!(standing.floor(), Position(4), "lane 1 has everything before 5");
        standing.settled(1, Position(5), 1);
        assert_eq!(standing.quiescence_at(Position(9)), Quiescence::Idle);
        assert!(!standing.has_all());
        standing.drop_lane(1);
        assert_eq!(standing.quiescence_at(Position(12)), Quiescence::Idle, "what comes is for others");
    }

    #[test]
    fn the_floor_is_held_back_by_the_slowest_busy_lane_only() {
        let board = Board::default();
        let standing = board.enter("a", false);
        begin(&standing, &[Position(5), Position(0)]);
        standing.sent(0, Position(8), Position(9), 2);
        standing.sent(1, Position(7), Position(7), 1);
        standing.advance_cursor(Position(10));
        assert_eq!(standing.floor(), Position(6), "lane 1 has everything before 7");
        standing.settled(1, Position(7), 1);
        assert_eq!(standing.floor(), Position(7), "lane 0 has everything before 8");
        standing.settled(0, Position(9), 2);
        assert_eq!(standing.floor(), Position(10), "nobody is busy");
        assert_eq!(standing.quiescence_at(Position(10)), Quiescence::Idle);
    }

    #[test]
    fn a_request_does_not_let_the_floor_pass_a_busy_lane() {
        let board = Board::default();
        let standing = board.enter("a", false);
        begin(&standing, &[Position(0)]);
        standing.sent(0, Position(3), Position(4), 2);
        standing.requested(0);
        standing.advance_cursor(Position(9));
        assert_eq!(standing.floor(), Position(2));
    }

    #[test]
    fn a_lane_that_has_stopped_holds_the_floor_and_hides_no_other_lane() {
        let board = Board::default();
        let standing = board.enter("a", false);
        begin(&standing, &[Position(0); 2]);
        standing.sent(0, Position(1), Position(1), 1);
        standing.sent(1, Position(2), Position(2), 1);
        standing.advance_cursor(Position(2));
        standing.halt_lane(0, Error::new(Code::DEAD_FULL, "full"));
        assert_eq!(standing.quiescence_at(Position(2)), Quiescence::Busy, "lane 1 works");
        standing.pause(1, true);
        assert_eq!(standing.quiescence_at(Position(2)), Quiescence::Pausing);
        standing.settled(1, Position(2), 1);
        standing.sent(0, Position(3), Position(3), 1);
        standing.advance_cursor(Position(3));
        assert_eq!(standing.quiescence_at(Position(3)), Quiescence::Idle);
        assert_eq!(standing.floor(), Position(0));
    }
}
