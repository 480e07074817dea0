//! The device floor: what one synced 4 KiB write costs here, written as the journal writes. A latency means something
//! beside this number, and nothing without it.

use std::path::Path;

use ensue_core::{Clock, Error};

use crate::disk::{AlignedBuffer, Disk, FileSystem, Sync, WriteMode};
use crate::errors;
use crate::frame::ALIGNMENT;

/// Writes that are measured.
const WRITES: u64 = 200;

/// What the device takes for a synced write of 4 KiB to a file that was written before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Floor {
    /// Half of the writes were at most so slow, in microseconds.
    pub sync_write_4k_us_p50: u64,
    /// How they were written.
    pub mode: WriteMode,
}

/// Measures the floor in this folder, which must exist; leaves nothing behind. Blocks for some tens of milliseconds.
pub fn floor(folder: &Path, clock: &dyn Clock) -> Result<Floor, Error> {
    let disk = FileSystem::new(folder);
    let name = format!("floor-{}.tmp", std::process::id());
    let measured = measure(&disk, &name, clock).map_err(|error| errors::io(&disk, "measure the disk", error));
    // A file that was never made need not be removed.
    drop(std::fs::remove_file(folder.join(&name)));
    measured
}

fn measure(disk: &FileSystem, name: &str, clock: &dyn Clock) -> std::io::Result<Floor> {
    let file = disk.create(name, WRITES * ALIGNMENT as u64)?;
    let mut buffer = AlignedBuffer::default();
    let zeros = vec![0; usize::try_from(WRITES).expect("a few") * ALIGNMENT];
    file.write_at(buffer.fill(&zeros), 0, Sync::Later)?;
    file.sync()?;
    let content = vec![0xa5; ALIGNMENT];
    let mut costs = Vec::new();
    for index in 0..WRITES {
        let content = buffer.fill(&content);
        let start = clock.monotonic();
        file.write_at(content, index * ALIGNMENT as u64, Sync::Now)?;
        costs.push(clock.monotonic().saturating_sub(start).as_micros());
    }
    costs.sort_unstable();
    let median = costs.get(costs.len() / 2).copied().unwrap_or_default();
    Ok(Floor { sync_write_4k_us_p50: u64::try_from(median).unwrap_or(u64::MAX), mode: file.mode() })
}
