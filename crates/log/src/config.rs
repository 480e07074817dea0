//! What an open store can be told. The defaults are right for a service on one machine.

use ensue_core::{Host, StoreCapabilities};

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Config {
    /// Time and randomness.
    pub host: Host,
    /// Largest event; at most 16 MiB.
    pub event_bytes_max: usize,
    /// Memory for blocks of the index.
    pub cache_bytes: u64,
    /// Memory of events and records that are not yet in the index; three times this in all, with what is being flushed
    /// and what was flushed last.
    pub window_bytes: usize,
    /// Commits that may wait for the writer, in bytes.
    pub queue_bytes_max: usize,
    /// Size of a journal file of a new store; an existing one keeps its own. At least 1 MiB, a multiple of 4 KiB.
    pub journal_file_bytes: u64,
    /// Commits that the sequencer remembers, so that it need not send a slow caller to look again.
    pub memory_commits: usize,
}

/// Largest event that may be configured.
const EVENT_BYTES_LIMIT: usize = 16 << 20;
const COMMIT_BYTES_MAX: usize = 32 << 20;
const RECORD_BYTES_MAX: usize = 16 << 20;

impl Config {
    /// The defaults, with this host.
    pub fn new(host: Host) -> Self {
        Self {
            host,
            event_bytes_max: 1 << 20,
            cache_bytes: 32 << 20,
            window_bytes: 16 << 20,
            queue_bytes_max: 64 << 20,
            journal_file_bytes: 64 << 20,
            memory_commits: 16_384,
        }
    }

    /// What a store with journal files of this size can do.
    pub(crate) fn capabilities(&self, journal_file_bytes: u64) -> StoreCapabilities {
        // A frame never spans files, and needs room for headers and attributes besides its content.
        let fits = usize::try_from(journal_file_bytes / 2).unwrap_or(usize::MAX);
        StoreCapabilities {
            name: "embedded log",
            is_durable: true,
            can_buffer: true,
            can_condition: true,
            can_transact: false,
            can_share: false,
            event_bytes_max: self.event_bytes_max.min(EVENT_BYTES_LIMIT).min(fits),
            commit_bytes_max: COMMIT_BYTES_MAX.min(fits),
            record_bytes_max: RECORD_BYTES_MAX.min(fits),
        }
    }
}
