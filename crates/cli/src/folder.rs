//! The folder of the store: opened if it is there, made only by a command that brings something to put into it.

use std::path::{Path, PathBuf};

use ensue::core::{Code, Error, Host};
use ensue::log::{Config, Log};

/// Where the store is, or would be.
pub(crate) struct Folder {
    path: PathBuf,
    host: Host,
}

impl Folder {
    /// This folder, whether it exists or not.
    pub(crate) fn new(path: PathBuf, host: Host) -> Self {
        Self { path, host }
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the store; `E0406` if there is none.
    pub(crate) fn open(&self) -> Result<Log, Error> {
        if !self.path.exists() {
            return Err(Error::new(Code::NOT_A_STORE, format!("there is no folder {}", self.path.display())));
        }
        Log::open_existing(&self.path, Config::new(self.host.clone()))
    }

    /// Opens the store if there is one.
    pub(crate) fn open_if_there(&self) -> Result<Option<Log>, Error> {
        match self.open() {
            Ok(log) => Ok(Some(log)),
            Err(error) if error.code() == Code::NOT_A_STORE => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the store, or makes one if the folder is missing or empty; `E0406` if it holds other files.
    pub(crate) fn open_or_make(&self) -> Result<Log, Error> {
        Log::open(&self.path, Config::new(self.host.clone()))
    }
}
