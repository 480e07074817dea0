//! Room ahead of the writer: a thread of its own writes zeros and makes files, so that a frame overwrites blocks that
//! exist. A synced write into blocks that must first be found costs twice as much, and may fail for want of space.
//!
//! Invariant: below `claimed`, and from the end of the log on, every byte of the journal is zero and has its block on disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use ensue_core::Error;

use super::{FOLDER, Layout, file_name};
use crate::disk::{AlignedBuffer, Disk, DiskFile, Sync};
use crate::errors;
use crate::superblock::Superblock;

/// Claimed at once while somebody waits for it.
const URGENT_BYTES: u64 = 1 << 20;
/// Claimed at once otherwise: fewer syncs, each of which the device has to share with the writer's.
const CHUNK_BYTES: u64 = 8 << 20;
/// Written at once: large enough to be sequential, small enough not to hold the writer up.
const PIECE_BYTES: u64 = 256 << 10;

pub(crate) struct Room {
    disk: Arc<dyn Disk>,
    layout: Layout,
    superblock: Mutex<Superblock>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Everything below this address can be written.
    claimed: u64,
    /// Up to where it should be.
    wanted: u64,
    /// Whether somebody waits for it.
    is_urgent: bool,
    /// Why it is not; taken by the next claim that needs it.
    failure: Option<Error>,
    is_closed: bool,
}

impl Room {
    /// Nothing is claimed yet from `address` on.
    pub(crate) fn new(disk: Arc<dyn Disk>, layout: Layout, superblock: Superblock, address: u64) -> Self {
        let state =
            State { claimed: address, wanted: address, is_urgent: false, failure: None, is_closed: false };
        Self {
            disk,
            layout,
            superblock: Mutex::new(superblock),
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Asks for room up to this address, without waiting.
    pub(crate) fn want(&self, address: u64) {
        let mut state = self.lock();
        if address > state.wanted {
            state.wanted = address;
            self.changed.notify_all();
        }
    }

    /// Waits until everything below this address can be written. An error means that there is no room now.
    pub(crate) fn claim(&self, address: u64) -> Result<(), Error> {
        let mut state = self.lock();
        if state.claimed >= address {
            return Ok(());
        }
        state.failure = None;
        state.wanted = state.wanted.max(address);
        state.is_urgent = true;
        self.changed.notify_all();
        loop {
            if state.claimed >= address {
                return Ok(());
            }
            if let Some(failure) = state.failure.clone() {
                state.wanted = state.claimed;
                return Err(failure);
            }
            if state.is_closed {
                return Err(errors::closed());
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The thread's life: claim what is wanted, until closed.
    pub(crate) fn run(&self) {
        let mut zeros = AlignedBuffer::default();
        let mut files = BTreeMap::new();
        while let Some((from, until)) = self.next() {
            let claimed = self.extend(from, until, &mut zeros, &mut files);
            let mut state = self.lock();
            match claimed {
                Ok(until) => state.claimed = until,
                Err(error) => {
                    state.failure = Some(error);
                    state.wanted = state.claimed;
                }
            }
            self.changed.notify_all();
        }
    }

    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Changes the superblock and writes it.
    pub(crate) fn update_superblock(&self, change: impl FnOnce(&mut Superblock)) -> Result<(), Error> {
        let mut superblock = self.superblock.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut superblock);
        superblock.write(&*self.disk)
    }

    pub(crate) fn superblock(&self) -> Superblock {
        *self.superblock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next range to claim: from what is claimed, within one file. `None`: closed.
    fn next(&self) -> Option<(u64, u64)> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if state.wanted > state.claimed {
                let from = state.claimed;
                let bytes = if std::mem::take(&mut state.is_urgent) { URGENT_BYTES } else { CHUNK_BYTES };
                let end = self.layout.start_of(self.layout.file_of(from) + 1);
                return Some((from, (from + bytes).min(end)));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn extend(
        &self,
        from: u64,
        until: u64,
        zeros: &mut AlignedBuffer,
        files: &mut BTreeMap<u64, Arc<dyn DiskFile>>,
    ) -> Result<u64, Error> {
        let number = self.layout.file_of(from);
        let offset = self.layout.offset_of(from);
        let file = match files.get(&number) {
            Some(file) => Arc::clone(file),
            None => {
                let file = self.file(number)?;
                files.clear();
                files.insert(number, Arc::clone(&file));
                file
            }
        };
        let end = self.layout.offset_of(until - 1) + 1;
        let mut write = || -> std::io::Result<()> {
            let mut at = offset;
            while at < end {
                let length = PIECE_BYTES.min(end - at);
                let piece = vec![0; usize::try_from(length).expect("a piece fits in memory")];
                file.write_at(zeros.fill(&piece), at, Sync::Later)?;
                at += length;
            }
            file.sync()
        };
        write().map_err(|error| errors::io(&*self.disk, "claim room for the journal", error))?;
        Ok(until)
    }

    /// The file of this number, made if it is the next one.
    fn file(&self, number: u64) -> Result<Arc<dyn DiskFile>, Error> {
        let name = file_name(number);
        let failed = |error| errors::io(&*self.disk, "make a journal file", error);
        if number <= self.superblock().newest_file {
            return self.disk.open(&name).map_err(failed);
        }
        let file = self.disk.create(&name, self.layout.file_bytes).map_err(failed)?;
        self.disk.sync_folder(FOLDER).map_err(failed)?;
        self.update_superblock(|superblock| superblock.newest_file = number)?;
        Ok(file)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
