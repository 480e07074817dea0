//! How an open store is doing, in numbers.

use ensue_core::{Error, Position};

use crate::disk::WriteMode;
use crate::engine::Engine;

/// Numbers of an open store, taken at one moment.
#[derive(Clone, Debug)]
pub struct Stat {
    /// The position of the last readable event.
    pub head: Position,
    /// Commits so far.
    pub commits: u64,
    /// Streams so far.
    pub streams: u64,
    /// Frames so far.
    pub frames: u64,
    /// Bytes of the journal that hold frames.
    pub journal_bytes: u64,
    /// Files of the journal.
    pub journal_files: u64,
    /// Bytes of one journal file.
    pub journal_file_bytes: u64,
    /// The last position that the index holds; everything after is in memory.
    pub indexed: Position,
    /// Memory of the window.
    pub window_bytes: usize,
    /// Commits that wait for the writer, in bytes.
    pub queue_bytes: usize,
    /// How writes become durable here.
    pub mode: WriteMode,
}

impl Stat {
    pub(crate) fn of(engine: &Engine, mode: WriteMode) -> Result<Self, Error> {
        let superblock = engine.room.superblock();
        let applied = engine.index()?.applied()?.unwrap_or_default();
        let window = engine.window();
        let begun: u64 = window
            .generations()
            .filter(|generation| generation.first_position > applied.position)
            .map(|generation| generation.streams_begun)
            .sum();
        Ok(Self {
            head: Position(window.head()),
            commits: window.commit(),
            streams: applied.streams + begun,
            frames: window.active.tail.sequence,
            journal_bytes: window.active.tail.address,
            journal_files: superblock.newest_file,
            journal_file_bytes: engine.layout.file_bytes,
            indexed: Position(applied.position),
            window_bytes: window.generations().map(|generation| generation.bytes).sum(),
            queue_bytes: engine.queue.bytes(),
            mode,
        })
    }
}
