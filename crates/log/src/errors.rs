//! The engine's failures as coded errors, each naming the place.

use std::io;

use ensue_core::{Code, Error};

use crate::disk::Disk;

/// A failed operation on a disk: full, read-only and missing have codes of their own.
pub(crate) fn io(disk: &dyn Disk, action: &str, error: io::Error) -> Error {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::FULL,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Code::READ_ONLY,
        _ => Code::IO,
    };
    Error::new(code, format!("cannot {action} in {}: {error}", disk.path())).with_source(error)
}

/// A failed operation of the index, which is rebuilt from the journal when it is deleted.
pub(crate) fn index(error: fjall::Error) -> Error {
    let message = format!("the index failed: {error}");
    Error::new(Code::IO, message)
        .with_fix("close the store and delete its `index` folder; it is rebuilt from the journal")
        .with_source(error)
}

/// Damage in acknowledged data, with its exact range.
pub(crate) fn corrupt(file: &str, from: u64, until: u64, why: &str) -> Error {
    Error::new(Code::CORRUPT, format!("{file}, bytes {from}..{until}: {why}"))
}

pub(crate) fn closed() -> Error {
    Error::new(Code::CLOSED, "the store is closed")
}
