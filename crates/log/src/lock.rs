//! The advisory lock that makes one process the owner of a folder, and names that process to everyone else.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use ensue_core::{Code, Error};

use crate::errors;

/// Its name in the folder.
pub(crate) const FILE: &str = "lock";

/// Between two tries to get the lock, and how many there are: a second and a half in all.
const PAUSE: Duration = Duration::from_millis(30);
const TRIES: u32 = 50;

/// Held as long as the store is open; the operating system releases it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let refused = |error: std::io::Error| {
            let code = errors::code_of(&error);
            Error::new(code, format!("cannot lock {}: {error}", folder.display())).with_source(error)
        };
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(&path).map_err(refused)?;
        match wait_for(|| file.try_lock()) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(folder, &mut file)),
            Err(TryLockError::Error(error)) => return Err(refused(error)),
        }
        let sign = |file: &mut File| -> std::io::Result<()> {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            writeln!(file, "{}", std::process::id())
        };
        sign(&mut file).map_err(refused)?;
        Ok(Self { _file: file })
    }

    /// Keeps owners out of a folder that cannot be written, beside others who read it. `None` if it has no lock: then nobody
    /// has ever owned it where it is now.
    pub(crate) fn share(folder: &Path) -> Result<Option<Self>, Error> {
        let refused = |error: std::io::Error| {
            let code = errors::code_of(&error);
            Error::new(code, format!("cannot lock {}: {error}", folder.display())).with_source(error)
        };
        let mut file = match File::open(folder.join(FILE)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(refused)?,
        };
        match wait_for(|| file.try_lock_shared()) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Err(in_use(folder, &mut file)),
            Err(TryLockError::Error(error)) => Err(refused(error)),
        }
    }
}

/// Takes the lock, with a little patience: a process that was killed keeps its lock until the kernel has ended its last
/// write, and whoever restarts it at once should not have to try twice.
fn wait_for(try_lock: impl Fn() -> Result<(), TryLockError>) -> Result<(), TryLockError> {
    for _ in 1..TRIES {
        match try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
    try_lock()
}

fn in_use(folder: &Path, file: &mut File) -> Error {
    let mut owner = String::new();
    let owner = match file.read_to_string(&mut owner) {
        Ok(_) if !owner.trim().is_empty() => format!("process {}", owner.trim()),
        _ => "another process".to_owned(),
    };
    Error::new(Code::IN_USE, format!("{} is in use by {owner}", folder.display()))
}
