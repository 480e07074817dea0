//! A store to measure or to try something on: beside the folder of `--data`, on the same file system, and gone afterwards.
//! A store in `--data` itself is not touched.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ensue::core::{Code, Error};

/// A folder of our own that is gone afterwards, also when the command fails.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes it.
    pub(crate) fn beside(folder: &Path) -> Result<Self, Error> {
        let mut name = folder.file_name().map_or_else(|| OsString::from("ensue"), OsString::from);
        name.push(format!(".scratch-{}", std::process::id()));
        Self::make(folder.parent().unwrap_or(Path::new("")).join(name))
    }

    /// Beside the folder or, where that cannot be written, among the temporary files: for what is not measured.
    pub(crate) fn anywhere(folder: &Path) -> Result<Self, Error> {
        Self::beside(folder).or_else(|_| {
            Self::make(std::env::temp_dir().join(format!("ensue.scratch-{}", std::process::id())))
        })
    }

    fn make(path: PathBuf) -> Result<Self, Error> {
        std::fs::create_dir_all(&path).map_err(|cause| {
            Error::new(Code::READ_ONLY, format!("cannot make {}: {cause}", path.display())).with_source(cause)
        })?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(cause) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} is left over: {cause}", self.0.display());
        }
    }
}
