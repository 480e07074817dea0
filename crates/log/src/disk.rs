//! The seam to the disk: the few operations that the journal and the superblock need.
//!
//! [`FileSystem`] is the real one. Tests hand in a disk that loses what was not synced, tears writes, fails, or is full.
//! The index is not behind this seam: it is derived, and rebuilt when it is gone.
//!
//! Invariant: nothing outside this module and the index opens a file.

use std::io;
use std::sync::Arc;

mod aligned;
mod file_system;

pub use aligned::AlignedBuffer;
pub use file_system::FileSystem;

/// How writes become durable on this disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteMode {
    /// Past the page cache, synced by the write itself: `O_DIRECT|O_DSYNC`.
    Direct,
    /// Through the page cache, then `fdatasync`.
    Buffered,
}

impl WriteMode {
    /// The mode as people know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "O_DIRECT|O_DSYNC",
            Self::Buffered => "write+fdatasync",
        }
    }
}

/// Whether a write waits until it is safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sync {
    /// It survives the loss of power once the call returns; so does everything written to this file before.
    Now,
    /// A later sync makes it safe.
    Later,
}

/// A folder on a disk. Names are relative to it, with `/` between folder and file.
pub trait Disk: Send + std::marker::Sync {
    /// Where it is, for messages.
    fn path(&self) -> String;
    /// The names in a folder, sorted; of a folder that does not exist, none.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    /// Makes a folder and its parents, if they are missing.
    fn create_folder(&self, folder: &str) -> io::Result<()>;
    /// Makes a file of this size that reads as zeros, without claiming the room yet. Replaces one of the same name.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file to read and write. One that cannot be written is opened to read; writing to it fails as read-only.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name, in place of what had that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes the names in a folder survive the loss of power.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;
}

/// An open file. Offsets and lengths of writes are multiples of 4 KiB, and their memory is aligned.
pub trait DiskFile: Send + std::marker::Sync {
    /// Its size.
    fn size(&self) -> io::Result<u64>;
    /// Fills the buffer from here on; returns how many bytes there were.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of it, or fails.
    fn write_at(&self, bytes: &[u8], offset: u64, sync: Sync) -> io::Result<()>;
    /// Makes everything written so far safe.
    fn sync(&self) -> io::Result<()>;
    /// How it is written.
    fn mode(&self) -> WriteMode;
}

/// Reads a range of which every byte must be there.
pub(crate) fn read_exactly(file: &dyn DiskFile, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let got = file.read_at(&mut bytes, offset)?;
    if got < length {
        let message = format!("{length} bytes were asked for at {offset}, {got} are there");
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
    }
    Ok(bytes)
}
