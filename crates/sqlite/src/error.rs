//! What SQLite says, in Ensue's words.

use ensue_core::{Code, Error};
use rusqlite::ErrorCode;

/// What to do where there is no store.
pub(crate) const FIX_NO_STORE: &str = "check the path; `ensue store migrate --store sqlite:FILE` makes a store there, and so does `ensue_sqlite::open`";

/// The error for something that was tried and failed.
pub(crate) fn of(trying: &str, cause: rusqlite::Error) -> Error {
    let error = Error::new(code(&cause), format!("{trying}: {cause}"));
    let error = match code(&cause) {
        Code::DATABASE_LOCKED => error.with_fix(
            "begin the transaction with `TransactionBehavior::Immediate`, and keep transactions of other programs short",
        ),
        Code::NOT_A_STORE => error.with_fix("check the path: the file is there, and is no database of SQLite"),
        Code::CORRUPT => {
            error.with_fix("`PRAGMA integrity_check` shows the damage; restore the file from a backup")
        }
        _ => error,
    };
    error.with_source(cause)
}

fn code(cause: &rusqlite::Error) -> Code {
    match cause.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Code::DATABASE_LOCKED,
        Some(ErrorCode::DiskFull) => Code::FULL,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Code::DATABASE_READ_ONLY,
        Some(ErrorCode::DatabaseCorrupt) => Code::CORRUPT,
        Some(ErrorCode::NotADatabase) => Code::NOT_A_STORE,
        Some(ErrorCode::CannotOpen | ErrorCode::SystemIoFailure | ErrorCode::FileLockingProtocolFailed) => {
            Code::IO
        }
        _ => Code::DATABASE_REFUSED,
    }
}
