//! The real disk, through rustix.
//!
//! A file is opened up to three times: for reading through the page cache, for direct writes that sync themselves, and for
//! direct writes that do not. Where direct writes are refused (tmpfs, some overlays, macOS) one handle does all.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Disk, DiskFile, Sync, WriteMode};

/// A folder of the operating system.
pub struct FileSystem {
    root: PathBuf,
}

impl FileSystem {
    /// The folder; it need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn at(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }
}

impl Disk for FileSystem {
    fn path(&self) -> String {
        self.root.display().to_string()
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.at(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = entries
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        fs::create_dir_all(self.at(folder))
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.at(name);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        file.set_len(bytes)?;
        let file = OsFile::new(file, &path);
        file.allocate(bytes)?;
        file.file.sync_all()?;
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.at(name);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if is_refused(&error) => return Ok(Arc::new(ReadOnly(File::open(&path)?))),
            file => file?,
        };
        Ok(Arc::new(OsFile::new(file, &path)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.at(from), self.at(to))
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        File::open(self.at(folder))?.sync_all()
    }
}

/// Whether a file is there but cannot be written.
fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// A file that cannot be written.
struct ReadOnly(File);

impl DiskFile for ReadOnly {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        read_at(&self.0, buffer, offset)
    }

    fn write_at(&self, _bytes: &[u8], _offset: u64, _sync: Sync) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn mode(&self) -> WriteMode {
        WriteMode::Buffered
    }
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0usize;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + got as u64) {
            Ok(0) => break,
            Ok(read) => got += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

struct OsFile {
    file: File,
    direct: Option<Direct>,
}

struct Direct {
    synced: File,
    plain: File,
    /// Whether something was written through `plain` that no sync has covered yet: a self-syncing write covers only itself.
    has_unsynced: AtomicBool,
}

impl OsFile {
    fn new(file: File, path: &Path) -> Self {
        let direct = Direct::open(&file, path);
        Self { file, direct }
    }
}

impl OsFile {
    /// Finds blocks for the whole file at once. Room that is found later would be found under a lock that holds up every
    /// write to the file. Not where files live in memory: there, room is taken when it is written.
    #[cfg(target_os = "linux")]
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        if self.direct.is_none() {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            allocated => Ok(allocated?),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn allocate(&self, _bytes: u64) -> io::Result<()> {
        Ok(())
    }
}

impl Direct {
    #[cfg(target_os = "linux")]
    fn open(file: &File, path: &Path) -> Option<Self> {
        use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
        let granted = StatxFlags::from_bits_retain(0x2000); // STATX_DIOALIGN
        let stat = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, granted).ok()?;
        let largest = crate::frame::ALIGNMENT as u64;
        let fits = |alignment: u32| alignment != 0 && largest.is_multiple_of(u64::from(alignment));
        if !fits(stat.stx_dio_mem_align) || !fits(stat.stx_dio_offset_align) {
            return None;
        }
        let open = |flags| rustix::fs::open(path, OFlags::WRONLY | OFlags::DIRECT | flags, Mode::empty());
        Some(Self {
            synced: open(OFlags::DSYNC).ok()?.into(),
            plain: open(OFlags::empty()).ok()?.into(),
            has_unsynced: AtomicBool::new(false),
        })
    }

    #[cfg(not(target_os = "linux"))]
    fn open(_file: &File, _path: &Path) -> Option<Self> {
        None
    }
}

impl DiskFile for OsFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        read_at(&self.file, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64, sync: Sync) -> io::Result<()> {
        match (&self.direct, sync) {
            (None, Sync::Later) => self.file.write_all_at(bytes, offset),
            (None, Sync::Now) => {
                self.file.write_all_at(bytes, offset)?;
                self.sync()
            }
            (Some(direct), Sync::Later) => {
                direct.has_unsynced.store(true, Ordering::Release);
                direct.plain.write_all_at(bytes, offset)
            }
            (Some(direct), Sync::Now) => {
                if direct.has_unsynced.load(Ordering::Acquire) {
                    direct.plain.write_all_at(bytes, offset)?;
                    return self.sync();
                }
                direct.synced.write_all_at(bytes, offset)
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        // On macOS the standard library issues F_FULLFSYNC here.
        self.file.sync_data()?;
        if let Some(direct) = &self.direct {
            direct.has_unsynced.store(false, Ordering::Release);
        }
        Ok(())
    }

    fn mode(&self) -> WriteMode {
        if self.direct.is_some() { WriteMode::Direct } else { WriteMode::Buffered }
    }
}
