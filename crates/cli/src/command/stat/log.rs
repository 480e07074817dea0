//! The numbers of the embedded log.

use ensue::Log;
use ensue::core::{Error, Position};
use serde::Serialize;

use super::{IdWindow, Limits, lines, mebibytes, windows};
use crate::words::count;

#[derive(Serialize)]
pub(super) struct Numbers {
    folder: String,
    head: Position,
    commits: u64,
    streams: u64,
    frames: u64,
    journal_bytes: u64,
    journal_files: u64,
    journal_file_bytes: u64,
    /// Up to here the index is on disk; what follows is replayed at the next start.
    indexed: Position,
    window_bytes: usize,
    queue_bytes: usize,
    /// How a commit becomes durable here.
    mode: &'static str,
    limits: Limits,
    id_windows: Vec<IdWindow>,
}

impl Numbers {
    pub(super) fn of(log: &Log, folder: String, id_windows: Vec<IdWindow>) -> Result<Self, Error> {
        let stat = log.stat()?;
        Ok(Self {
            folder,
            head: stat.head,
            commits: stat.commits,
            streams: stat.streams,
            frames: stat.frames,
            journal_bytes: stat.journal_bytes,
            journal_files: stat.journal_files,
            journal_file_bytes: stat.journal_file_bytes,
            indexed: stat.indexed,
            window_bytes: stat.window_bytes,
            queue_bytes: stat.queue_bytes,
            mode: stat.mode.name(),
            limits: Limits::of(log),
            id_windows,
        })
    }

    pub(super) fn in_words(&self) -> String {
        lines(&[
            ("folder", self.folder.clone()),
            ("events", self.head.to_string()),
            ("streams", self.streams.to_string()),
            ("commits", format!("{} in {}", self.commits, count(self.frames, "frame"))),
            (
                "journal",
                format!("{} in {}", mebibytes(self.journal_bytes), count(self.journal_files, "file")),
            ),
            ("indexed", format!("up to position {}", self.indexed)),
            ("durable", format!("by {}", self.mode)),
            ("limits", self.limits.in_words()),
            ("ids", windows(&self.id_windows)),
        ])
    }
}
