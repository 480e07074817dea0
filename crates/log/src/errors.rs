//! The engine's failures as coded errors, each naming the place.

use std::io;

use ensue_core::{Code, Error};

use crate::disk::Disk;

/// A failed operation on a disk.
pub(crate) fn io(disk: &dyn Disk, action: &str, error: io::Error) -> Error {
    Error::new(code_of(&error), format!("cannot {action} in {}: {error}", disk.path())).with_source(error)
}

/// Full, read-only and a path that is no folder have codes of their own.
pub(crate) fn code_of(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::FULL,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Code::READ_ONLY,
        // A file is where the folder should be.
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => Code::NOT_A_STORE,
        _ => Code::IO,
    }
}

/// A failed operation of the index, which is rebuilt from the journal when it is damaged.
pub(crate) fn index(error: fjall::Error) -> Error {
    let code = match &error {
        fjall::Error::Locked => Code::IN_USE,
        fjall::Error::Io(cause) | fjall::Error::Storage(fjall::LsmError::Io(cause)) => code_of_index(cause),
        _ => Code::CORRUPT,
    };
    let failed = Error::new(code, format!("the index failed: {error}")).with_source(error);
    if code != Code::CORRUPT {
        return failed;
    }
    failed.with_fix("close the store and delete its `index` folder; it is rebuilt from the journal")
}

/// Files that are missing, cut or half made, as a kill may leave them, are damage; everything else is the operating
/// system's to say.
fn code_of_index(cause: &io::Error) -> Code {
    match cause.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::InvalidData => Code::CORRUPT,
        _ => code_of(cause),
    }
}

/// Damage in acknowledged data, with its exact range.
pub(crate) fn corrupt(file: &str, from: u64, until: u64, why: &str) -> Error {
    Error::new(Code::CORRUPT, format!("{file}, bytes {from}..{until}: {why}"))
}

pub(crate) fn closed() -> Error {
    Error::new(Code::CLOSED, "the store is closed")
}
