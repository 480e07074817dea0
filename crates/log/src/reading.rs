//! A store that can only be read, such as a read-only mount or somebody else's copy.
//!
//! Nothing is written into its folder. The index cannot be used without writing to it, so a copy of it is opened, in a folder
//! of our own among the temporary files that is gone afterwards. What the index lacks is replayed from the journal, as always.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ensue_core::{Code, Error};

use crate::errors;

/// Copies that one process may have at the same time.
const COPIES_MAX: u32 = 1_000;

/// A copy of an index, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct IndexCopy(PathBuf);

impl IndexCopy {
    /// Copies the index in this folder. Of one that is not there an empty one, to be filled from the journal.
    pub(crate) fn of(index: &Path) -> Result<Self, Error> {
        let failed = |error: io::Error| {
            let message = format!(
                "cannot copy the index {} to {}: {error}",
                index.display(),
                std::env::temp_dir().display()
            );
            Error::new(errors::code_of(&error), message)
                .with_source(error)
                .with_fix("the store cannot be written, so its index is copied: set TMPDIR to a folder with room for it")
        };
        let copy = Self(make_folder().map_err(failed)?);
        match copy_into(index, &copy.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !index.exists() => Ok(copy),
            copied => copied.map(|()| copy).map_err(failed),
        }
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }
}

impl Drop for IndexCopy {
    fn drop(&mut self) {
        // What cannot be removed is for whoever tidies the temporary files.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A folder that nobody else reads.
fn make_folder() -> io::Result<PathBuf> {
    let base = std::env::temp_dir();
    let process = std::process::id();
    for number in 0..COPIES_MAX {
        let folder = base.join(format!("ensue-index-{process}-{number}"));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| folder),
        }
    }
    Err(io::Error::other("too many copies are there already"))
}

/// Contents only: whoever may not write the files may well write the copies.
fn copy_into(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy_into(&entry.path(), &target)?;
        } else {
            io::copy(&mut File::open(entry.path())?, &mut File::create(&target)?)?;
        }
    }
    Ok(())
}

/// The refusal of a commit.
pub(crate) fn refused(folder: &str) -> Error {
    Error::new(Code::READ_ONLY, format!("{folder} cannot be written, so it was opened to be read only"))
}
