//! Verification: reads every frame again, from the first, and says exactly what does not hold.
//!
//! Checked are checksums, the chain, places, positions, versions and offsets, every record batch, and that the index agrees
//! with the journal. Nothing is changed or repaired.

use std::collections::HashMap;
use std::path::Path;

use ensue_core::{Code, Error, Position};

use crate::disk::{Disk, FileSystem, WriteMode};
use crate::index::{self, Applied, Index};
use crate::journal::{Tail, file_name};
use crate::lock::Lock;
use crate::mark::{Mark, MarkMap, Marker};
use crate::reading::IndexCopy;
use crate::recovery::{self, End, Scan};
use crate::superblock::Superblock;
use crate::window::Published;

/// What a verification found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whole frames.
    pub frames: u64,
    /// Commits in them.
    pub commits: u64,
    /// Events in them.
    pub events: u64,
    /// The last position.
    pub head: Position,
    /// Bytes of the journal that were read and found whole.
    pub bytes: u64,
    /// How the journal is written on this disk.
    pub mode: WriteMode,
    /// The last position that the index holds.
    pub indexed: Position,
    /// Whether the last write was cut short. It had not been acknowledged, and the next start overwrites it.
    pub has_torn_tail: bool,
    /// What does not hold, with file and range. Empty: everything does.
    pub findings: Vec<Error>,
}

/// Verifies the store in a folder, which nobody may have open. An error is a store that cannot be looked at at all; damage
/// is in the report.
pub fn verify(folder: impl AsRef<Path>) -> Result<Report, Error> {
    let folder = folder.as_ref();
    let disk = FileSystem::new(folder);
    if Superblock::load(&disk)?.is_none() {
        return Err(Error::new(Code::NOT_A_STORE, format!("{} holds no superblock", folder.display())));
    }
    let index = folder.join(index::FOLDER);
    match Lock::take(folder) {
        Ok(_lock) => verify_on(&disk, &index),
        Err(error) if error.code() == Code::READ_ONLY => {
            let _lock = Lock::share(folder)?;
            // The index cannot be opened without writing to it.
            let copy = index.exists().then(|| IndexCopy::of(&index)).transpose()?;
            verify_on(&disk, copy.as_ref().map_or(&index, IndexCopy::folder))
        }
        Err(error) => Err(error),
    }
}

/// Verifies a store on another disk.
pub fn verify_on(disk: &dyn Disk, index_folder: &Path) -> Result<Report, Error> {
    let superblock = Superblock::load(disk)?
        .ok_or_else(|| Error::new(Code::NOT_A_STORE, format!("{} holds no superblock", disk.path())))?;
    let mode = disk.open(&file_name(1)).map_or(WriteMode::Buffered, |file| file.mode());
    let mut check = Check {
        marker: Marker::new(superblock.secret),
        versions: MarkMap::default(),
        offsets: HashMap::new(),
        report: Report {
            frames: 0,
            commits: 0,
            events: 0,
            head: Position::ZERO,
            bytes: 0,
            mode,
            indexed: Position::ZERO,
            has_torn_tail: false,
            findings: Vec::new(),
        },
    };
    if let Err(finding) = check.journal(disk, superblock) {
        check.report.findings.push(finding);
    } else if index_folder.exists() {
        check.index(superblock.uuid, index_folder);
    }
    Ok(check.report)
}

struct Check {
    marker: Marker,
    versions: MarkMap<u64>,
    offsets: HashMap<(Mark, u32), u64>,
    report: Report,
}

impl Check {
    /// The first damage ends the walk: what comes after cannot be trusted to be in its place.
    fn journal(&mut self, disk: &dyn Disk, superblock: Superblock) -> Result<(), Error> {
        let mut scan = Scan::new(disk, superblock, Tail::default(), Some((1, 1)));
        scan.check_files()?;
        while let Some(frame) = scan.next()? {
            let commits =
                recovery::replay(&self.marker, &frame).map_err(|why| recovery::undecodable(&frame, why))?;
            for commit in &commits {
                self.commit(commit).map_err(|why| recovery::undecodable(&frame, why))?;
            }
            self.report.frames += 1;
            self.report.commits += commits.len() as u64;
            self.report.events += u64::from(frame.header.events);
            self.report.bytes += frame.header.frame_bytes() as u64;
            self.report.head = Position(frame.header.base_position + u64::from(frame.header.events) - 1);
        }
        self.report.has_torn_tail = scan.end() == Some(&End::Torn);
        Ok(())
    }

    fn commit(&mut self, commit: &Published) -> Result<(), &'static str> {
        for (event, stream) in commit.events.iter().zip(&commit.streams) {
            let version = self.versions.entry(*stream).or_default();
            *version += 1;
            if event.version.0 != *version {
                return Err("the versions of a stream have a gap");
            }
        }
        for advance in &commit.offsets {
            let offset =
                self.offsets.entry((self.marker.topic(&advance.topic), advance.partition)).or_default();
            if advance.next_offset != *offset + advance.records {
                return Err("the offsets of a partition have a gap");
            }
            *offset = advance.next_offset;
        }
        Ok(())
    }

    /// The index may be behind the journal, but not ahead of it, and not of another opinion.
    fn index(&mut self, uuid: [u8; 16], folder: &Path) {
        let disagrees = |what: String| {
            Error::new(Code::CORRUPT, format!("the index disagrees with the journal: {what}"))
                .with_fix("delete the `index` folder; it is rebuilt from the journal")
        };
        let index = match Index::open(folder, 1 << 20) {
            Ok(index) => index,
            Err(error) => return self.report.findings.push(error),
        };
        let applied = match index.applied() {
            Ok(applied) => applied.unwrap_or(Applied { uuid, ..Applied::default() }),
            Err(error) => return self.report.findings.push(error),
        };
        self.report.indexed = Position(applied.position);
        if applied.uuid != uuid {
            return self.report.findings.push(disagrees("it is of another store".to_owned()));
        }
        if applied.position > self.report.head.0 || applied.tail.sequence > self.report.frames {
            let what =
                format!("it reaches to position {}, the journal to {}", applied.position, self.report.head);
            return self.report.findings.push(disagrees(what));
        }
        if let Err(error) = self.streams(&index, applied.position == self.report.head.0, &disagrees) {
            self.report.findings.push(error);
        }
    }

    fn streams(
        &self,
        index: &Index,
        is_complete: bool,
        disagrees: &dyn Fn(String) -> Error,
    ) -> Result<(), Error> {
        for (stream, version) in &self.versions {
            let count = index.list(*stream)?.map_or(0, |list| list.count);
            if count > *version || (is_complete && count != *version) {
                return Err(disagrees(format!("a stream has {version} events, {count} of them indexed")));
            }
        }
        for ((topic, partition), indexed) in index.offsets(&self.marker)? {
            let known = self.offsets.get(&(topic, partition)).copied().unwrap_or_default();
            if indexed > known {
                return Err(disagrees(format!(
                    "partition {partition} of a topic ends at {known}, not {indexed}"
                )));
            }
        }
        Ok(())
    }
}
