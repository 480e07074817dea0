//! What the server and the connection say, in Ensue's words.

use std::io::ErrorKind;
use std::time::Duration;

use ensue_core::{Code, Error};
use tokio_postgres::error::{DbError, SqlState};

use crate::foreign::Refusal;

/// What to do where others keep something for too long.
pub(crate) const FIX_HELD: &str =
    "`ensue store holds` names transactions that were left open; the same call may succeed later";

/// The error for something that was tried and refused.
pub(crate) fn of(trying: &str, cause: tokio_postgres::Error) -> Error {
    let reason = match cause.as_db_error() {
        Some(refusal) => said(refusal),
        None if cause.is_closed() => "the connection is closed".to_owned(),
        None if is_insecure(&cause) => {
            let reason = std::error::Error::source(&cause).map(ToString::to_string);
            format!("no TLS: {}", reason.unwrap_or_default())
        }
        None => cause.to_string(),
    };
    let code = code(&cause);
    let error = Error::new(code, format!("{trying}: {reason}"));
    let error = match fix(code, cause.code()) {
        Some(fix) => error.with_fix(fix),
        None => error,
    };
    error.with_source(cause)
}

/// The error for something to which the server has not said a word for so long, although the connection stands.
pub(crate) fn silent(trying: &str, limit: Duration) -> Error {
    let message = format!("{trying}: the server does not answer, for {} ms", limit.as_millis());
    Error::new(Code::DATABASE_UNREACHABLE, message)
        .with_fix("look whether the machine of the server stands still or is out of memory; the same call succeeds later")
}

/// The server's own words. Where it says besides which key is there twice, that too: it names the row.
fn said(refusal: &DbError) -> String {
    let named = refusal.detail().filter(|_| *refusal.code() == SqlState::UNIQUE_VIOLATION);
    match named {
        Some(detail) => format!("{}: {detail}", refusal.message()),
        None => refusal.message().to_owned(),
    }
}

/// What to do, where more is known than the code says.
fn fix(code: Code, state: Option<&SqlState>) -> Option<&'static str> {
    let state = state?;
    if *state == SqlState::UNDEFINED_DATABASE {
        Some("check the name in the address, or make the database with `CREATE DATABASE`")
    } else if *state == SqlState::TOO_MANY_CONNECTIONS {
        Some(
            "lower `Config::connections_max`, put a pooler in between, or raise `max_connections` of the server",
        )
    } else if code == Code::CORRUPT {
        Some(
            "rows of the schema `ensue` were written by hand: its owner takes back the one that the message names, with the trigger \
             `events_never_change` disabled in that transaction",
        )
    } else if code == Code::NOT_A_STORE {
        Some("run `ensue store migrate`")
    } else if code == Code::DATABASE_TIMEOUT {
        Some(FIX_HELD)
    } else {
        None
    }
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
    let error = match fix(code, state.as_ref()) {
        Some(fix) => error.with_fix(fix),
        None => error,
    };
    match refusal.cause {
        Some(cause) => error.with_source(cause),
        None => error,
    }
}

fn code(cause: &tokio_postgres::Error) -> Code {
    if is_insecure(cause) {
        return Code::DATABASE_TLS;
    }
    if cause.code().is_none() && is_about_the_address(cause) {
        return Code::DATABASE_DENIED;
    }
    match code_of(cause.code()) {
        // A table of the application has rules of its own.
        Code::CORRUPT if cause.as_db_error().and_then(DbError::schema) != Some("ensue") => {
            Code::DATABASE_REFUSED
        }
        code => code,
    }
}

/// Whether the driver itself cannot come in with what the address holds, such as without a password: to try again is no use. Where the
/// connection cannot be made or breaks, the system says why.
fn is_about_the_address(cause: &tokio_postgres::Error) -> bool {
    !cause.is_closed() && std::error::Error::source(cause).is_some_and(|cause| !cause.is::<std::io::Error>())
}

/// Whether there can be no TLS with this server, so that to try again is no use. A connection that broke meanwhile is another
/// thing, which the driver calls by the same words.
fn is_insecure(cause: &tokio_postgres::Error) -> bool {
    // The driver tells the kinds of its errors by their texts alone.
    let is_about_tls = cause.to_string().starts_with("error performing TLS handshake");
    let io = std::error::Error::source(cause).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    is_about_tls && io.is_none_or(|io| matches!(io.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput))
}

/// States of our own: more waits for its position than is given one in a step.
const BEHIND: &str = "EN003";
/// A rule of names, events or records was broken.
const RULE_BROKEN: &str = "EN004";

/// Whether a commit was refused because a backlog has to be worked off first.
pub(crate) fn is_behind(error: &Error) -> bool {
    state(error).is_some_and(|state| state.code() == BEHIND)
}

/// Whether somebody else was in the way who may be gone the next time.
pub(crate) fn is_of_lock(error: &Error) -> bool {
    match state(error) {
        None => error.code() == Code::DATABASE_TIMEOUT,
        Some(state) => [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED].contains(state),
    }
}

/// Whether a table that was named is not there.
pub(crate) fn is_of_missing_table(error: &Error) -> bool {
    state(error) == Some(&SqlState::UNDEFINED_TABLE)
}

fn state(error: &Error) -> Option<&SqlState> {
    let cause = std::error::Error::source(error)?.downcast_ref::<tokio_postgres::Error>()?;
    cause.code()
}

fn code_of(state: Option<&SqlState>) -> Code {
    let Some(state) = state else { return Code::DATABASE_UNREACHABLE };
    if let Some((_, code)) = CODES.iter().find(|(known, _)| known == state) {
        return *code;
    }
    match state.code() {
        BEHIND => Code::DATABASE_TIMEOUT,
        RULE_BROKEN => Code::INVALID_COMMIT,
        code => match code.get(..2) {
            Some("08" | "53" | "57") => Code::DATABASE_UNREACHABLE,
            Some("28") => Code::DATABASE_DENIED,
            Some("40") => Code::BUSY,
            // Nothing that is committed by the rules breaks a constraint of these tables.
            Some("23") => Code::CORRUPT,
            _ => Code::DATABASE_REFUSED,
        },
    }
}

/// What is meant by states whose class says too little.
const CODES: [(SqlState, Code); 8] = [
    (SqlState::QUERY_CANCELED, Code::DATABASE_TIMEOUT),
    (SqlState::LOCK_NOT_AVAILABLE, Code::DATABASE_TIMEOUT),
    (SqlState::DISK_FULL, Code::FULL),
    (SqlState::CONFIGURATION_LIMIT_EXCEEDED, Code::FULL),
    (SqlState::READ_ONLY_SQL_TRANSACTION, Code::DATABASE_READ_ONLY),
    (SqlState::INSUFFICIENT_PRIVILEGE, Code::DATABASE_DENIED),
    (SqlState::UNDEFINED_DATABASE, Code::NOT_A_STORE),
    (SqlState::INVALID_SCHEMA_NAME, Code::NOT_A_STORE),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_in_a_foreign_transaction_says_what_it_is() {
        for (state, code, fix) in [
            ("EN004", Code::INVALID_COMMIT, ""),
            ("42883", Code::NOT_A_STORE, "ensue store migrate"),
            ("3F000", Code::NOT_A_STORE, "ensue store migrate"),
            ("23505", Code::CORRUPT, "by hand"),
            ("40P01", Code::BUSY, ""),
            ("53100", Code::FULL, ""),
            ("53300", Code::DATABASE_UNREACHABLE, "connections_max"),
            ("25006", Code::DATABASE_READ_ONLY, ""),
            ("57014", Code::DATABASE_TIMEOUT, "ensue store holds"),
            ("57P01", Code::DATABASE_UNREACHABLE, ""),
            ("22P02", Code::DATABASE_REFUSED, ""),
        ] {
            let error = of_foreign(Refusal::new("so it is").with_state(state, None));
            assert_eq!(error.code(), code, "{state}");
            assert!(error.fix().contains(fix), "{state}: {}", error.fix());
        }
        assert_eq!(of_foreign(Refusal::new("it broke")).code(), Code::DATABASE_UNREACHABLE);
    }
}
