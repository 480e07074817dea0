//! What the server and the connection say, in Ensue's words.

use ensue_core::{Code, Error};
use tokio_postgres::error::SqlState;

use crate::foreign::Refusal;

/// The error for something that was tried and refused.
pub(crate) fn of(trying: &str, cause: tokio_postgres::Error) -> Error {
    let reason = match cause.as_db_error() {
        Some(refusal) => refusal.message().to_owned(),
        None if cause.is_closed() => "the connection is closed".to_owned(),
        None => cause.to_string(),
    };
    Error::new(code(&cause), format!("{trying}: {reason}")).with_source(cause)
}

/// The error for a commit that was refused in a transaction of the application's own.
pub(crate) fn of_foreign(refusal: Refusal) -> Error {
    let state = refusal.sqlstate.as_deref().map(SqlState::from_code);
    let code = match &state {
        // The schema is there, but the function is not.
        Some(state) if *state == SqlState::UNDEFINED_FUNCTION => Code::NOT_A_STORE,
        state => code_of(state.as_ref()),
    };
    let error = Error::new(code, format!("cannot commit in this transaction: {}", refusal.message));
    let error = if code == Code::NOT_A_STORE { error.with_fix("run `ensue store migrate`") } else { error };
    match refusal.cause {
        Some(cause) => error.with_source(cause),
        None => error,
    }
}

fn code(cause: &tokio_postgres::Error) -> Code {
    code_of(cause.code())
}

fn code_of(state: Option<&SqlState>) -> Code {
    let Some(state) = state else { return Code::DATABASE_UNREACHABLE };
    if *state == SqlState::QUERY_CANCELED || *state == SqlState::LOCK_NOT_AVAILABLE {
        Code::DATABASE_TIMEOUT
    } else if *state == SqlState::DISK_FULL {
        Code::FULL
    } else if *state == SqlState::READ_ONLY_SQL_TRANSACTION {
        Code::DATABASE_READ_ONLY
    } else if *state == SqlState::INSUFFICIENT_PRIVILEGE {
        Code::DATABASE_DENIED
    } else if *state == SqlState::UNDEFINED_DATABASE || *state == SqlState::INVALID_SCHEMA_NAME {
        Code::NOT_A_STORE
    } else {
        match state.code().get(..2) {
            Some("08" | "53" | "57") => Code::DATABASE_UNREACHABLE,
            Some("28") => Code::DATABASE_DENIED,
            Some("40") => Code::BUSY,
            _ => Code::DATABASE_REFUSED,
        }
    }
}
