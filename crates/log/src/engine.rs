//! What the threads of one open store share.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ensue_core::{Error, Host, StoreCapabilities};

use crate::disk::Disk;
use crate::errors;
use crate::frames::Frames;
use crate::head::Head;
use crate::index::Index;
use crate::journal::{Layout, Room, Tail};
use crate::mark::Marker;
use crate::queue::Queue;
use crate::window::{Generation, Window};

pub(crate) struct Engine {
    pub(crate) host: Host,
    pub(crate) capabilities: StoreCapabilities,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) layout: Layout,
    pub(crate) uuid: [u8; 16],
    pub(crate) marker: Marker,
    pub(crate) room: Arc<Room>,
    pub(crate) frames: Frames,
    /// `None` once the store is closed: whoever opens the folder next needs it.
    pub(crate) index: RwLock<Option<Arc<Index>>>,
    pub(crate) window: RwLock<Window>,
    pub(crate) head: Arc<Head>,
    pub(crate) queue: Queue,
    pub(crate) flushes: Flushes,
    pub(crate) window_bytes: usize,
}

impl Engine {
    pub(crate) fn window(&self) -> RwLockReadGuard<'_, Window> {
        self.window.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn window_mut(&self) -> RwLockWriteGuard<'_, Window> {
        self.window.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn index(&self) -> Result<Arc<Index>, Error> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.clone().ok_or_else(errors::closed)
    }

    /// Lets go of the index, when everything is in it.
    pub(crate) fn close_index(&self) {
        drop(self.index.write().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Flushes one generation, and lets go of the one before it.
    pub(crate) fn flush(&self, generation: &Generation) -> Result<(), Error> {
        let now = self.host.clock.now();
        self.index()?.flush(self.uuid, generation, now)?;
        // Dropped after the lock is: freeing many thousand events takes a while.
        let oldest = self.window_mut().keep_flushed();
        drop(oldest);
        Ok(())
    }

    /// At the end, when the writer and the flusher are gone: everything that is left.
    pub(crate) fn flush_rest(&self, tail: Tail) -> Result<(), Error> {
        let waiting = self.window().flushing.clone();
        if let Some(generation) = waiting {
            self.flush(&generation)?;
        }
        let rest = {
            let mut window = self.window_mut();
            window.active.tail = tail;
            (!window.active.is_empty()).then(|| window.rotate())
        };
        rest.map_or(Ok(()), |generation| self.flush(&generation))
    }

    /// The flusher's life: one generation after the other, until closed and done.
    pub(crate) fn run_flushes(&self) {
        while let Some(generation) = self.flushes.next() {
            let result = self.flush(&generation);
            drop(generation);
            self.flushes.finish(result);
        }
    }
}

/// The hand-over between the writer, who rotates the window, and the flusher.
#[derive(Default)]
pub(crate) struct Flushes {
    state: Mutex<FlushState>,
    changed: Condvar,
}

#[derive(Default)]
struct FlushState {
    waiting: Option<Arc<Generation>>,
    is_busy: bool,
    failure: Option<Error>,
    is_closed: bool,
}

impl Flushes {
    pub(crate) fn start(&self, generation: Arc<Generation>) {
        let mut state = self.lock();
        state.waiting = Some(generation);
        state.is_busy = true;
        state.failure = None;
        self.changed.notify_all();
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.lock().is_busy
    }

    /// Waits until the flush under way has ended.
    pub(crate) fn wait(&self) -> Result<(), Error> {
        let mut state = self.lock();
        while state.is_busy {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.failure.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn next(&self) -> Option<Arc<Generation>> {
        let mut state = self.lock();
        loop {
            if let Some(generation) = state.waiting.take() {
                return Some(generation);
            }
            if state.is_closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finish(&self, result: Result<(), Error>) {
        let mut state = self.lock();
        state.is_busy = false;
        state.failure = result.err();
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, FlushState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The store is closing: nothing more is taken in.
pub(crate) fn close_doors(engine: &Engine) {
    engine.queue.close(errors::closed());
}
