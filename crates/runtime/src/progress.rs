//! How far every subscription is: read by `wait`, by the test harness and by operators, written by the lanes.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ensue_core::{Error, Position};
use tokio::sync::Notify;

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
    outstanding: AtomicUsize,
    pausing: AtomicUsize,
    halted: Mutex<Option<Error>>,
    lanes: Mutex<Vec<LaneMark>>,
    changed: Arc<Notify>,
}

/// How far one lane is.
#[derive(Clone, Copy, Default)]
struct LaneMark {
    /// Last position handed to the lane.
    sent: Position,
    /// Everything of this lane up to here is settled.
    settled: Position,
}

impl Board {
    pub(crate) fn enter(&self, name: &str, is_projection: bool) -> Arc<Standing> {
        let standing = Arc::new(Standing {
            name: name.to_owned(),
            is_projection,
            cursor: AtomicU64::new(0),
            outstanding: AtomicUsize::new(0),
            pausing: AtomicUsize::new(0),
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
    /// The lanes begin with everything up to `floor` settled.
    pub(crate) fn begin(&self, settled: Vec<Position>, floor: Position) {
        *lock(&self.lanes) = settled.into_iter().map(|settled| LaneMark { sent: settled, settled }).collect();
        self.advance_cursor(floor);
    }

    /// Everything up to here has been read and handed to lanes.
    pub(crate) fn advance_cursor(&self, to: Position) {
        self.cursor.store(to.0, Ordering::Release);
        self.changed.notify_waiters();
    }

    pub(crate) fn sent(&self, lane: usize, first: Position, last: Position, count: usize) {
        self.outstanding.fetch_add(count, Ordering::AcqRel);
        if let Some(mark) = lock(&self.lanes).get_mut(lane) {
            if mark.sent <= mark.settled {
                // The lane was idle: all it has before its next event is settled by definition.
                mark.settled = mark.settled.max(first.previous());
            }
            mark.sent = last;
        }
    }

    pub(crate) fn settled(&self, lane: usize, up_to: Position, count: usize) {
        if let Some(mark) = lock(&self.lanes).get_mut(lane) {
            mark.settled = mark.settled.max(up_to);
        }
        self.outstanding.fetch_sub(count, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    /// Everything up to here is settled.
    pub(crate) fn floor(&self) -> Position {
        // The cursor first: a lane that is sent more in the meantime only lowers the result.
        let cursor = Position(self.cursor.load(Ordering::Acquire));
        let lanes = lock(&self.lanes);
        let held_back = lanes.iter().filter(|mark| mark.settled < mark.sent).map(|mark| mark.settled).min();
        held_back.map_or(cursor, |settled| settled.min(cursor))
    }

    pub(crate) fn is_idle_at(&self, head: Position) -> bool {
        self.is_halted() || (self.cursor.load(Ordering::Acquire) >= head.0 && self.outstanding() == 0)
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Acquire)
    }

    /// A lane waits between two attempts.
    pub(crate) fn pause(&self, delta: isize) {
        self.pausing.fetch_add(delta.cast_unsigned(), Ordering::AcqRel);
    }

    pub(crate) fn is_pausing(&self) -> bool {
        self.pausing.load(Ordering::Acquire) > 0
    }

    pub(crate) fn halt(&self, error: Error) {
        *lock(&self.halted) = Some(error);
        self.changed.notify_waiters();
    }

    pub(crate) fn is_halted(&self) -> bool {
        lock(&self.halted).is_some()
    }

    pub(crate) fn halted(&self) -> Option<Error> {
        lock(&self.halted).clone()
    }
}

/// These locks guard plain values; a panic while one was held left nothing half-done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_held_back_by_the_slowest_busy_lane_only() {
        let board = Board::default();
        let standing = board.enter("a", false);
        standing.begin(vec![Position(5), Position(0)], Position(5));
        standing.sent(0, Position(8), Position(9), 2);
        standing.sent(1, Position(7), Position(7), 1);
        standing.advance_cursor(Position(10));
        assert_eq!(standing.floor(), Position(6), "lane 1 has everything before 7");
        standing.settled(1, Position(7), 1);
        assert_eq!(standing.floor(), Position(7), "lane 0 has everything before 8");
        standing.settled(0, Position(9), 2);
        assert_eq!(standing.floor(), Position(10), "nobody is busy");
        assert!(standing.is_idle_at(Position(10)));
    }
}
