//! The embedded log, frame by frame.

use std::path::Path;

use ensue::core::{Error, Position};
use serde::Serialize;

use super::{Finding, in_words};
use crate::words::count;

#[derive(Serialize)]
pub(super) struct Verified {
    folder: String,
    frames: u64,
    commits: u64,
    events: u64,
    head: Position,
    bytes: u64,
    indexed: Position,
    mode: &'static str,
    /// The last write was cut short before it was acknowledged; that is no damage.
    has_torn_tail: bool,
    pub(super) findings: Vec<Finding>,
}

impl Verified {
    /// Reads the journal of the folder.
    pub(super) fn of(folder: &Path) -> Result<Self, Error> {
        let report = ensue::log::verify(folder)?;
        Ok(Self {
            folder: folder.display().to_string(),
            frames: report.frames,
            commits: report.commits,
            events: report.events,
            head: report.head,
            bytes: report.bytes,
            indexed: report.indexed,
            mode: report.mode.name(),
            has_torn_tail: report.has_torn_tail,
            findings: report.findings.iter().map(Finding::of).collect(),
        })
    }

    pub(super) fn in_words(&self) -> String {
        let Self { frames, commits, events, bytes, head, .. } = self;
        let read = format!(
            "{} in {} in {}, {}, up to position {head}",
            count(*events, "event"),
            count(*commits, "commit"),
            count(*frames, "frame"),
            count(*bytes, "byte")
        );
        let mut lines = vec![read];
        if self.has_torn_tail {
            lines.push("the last write was cut short; it had not been acknowledged, and the next start overwrites it".into());
        }
        lines.extend(in_words(&self.findings));
        lines.join("\n")
    }
}
