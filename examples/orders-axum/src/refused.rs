//! Why something was not done, as the one who asked is told. A transaction that is dropped with one of these has changed nothing.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ensue::core::CommitError;
use ensue::{Error, Kind};
use serde_json::json;

use crate::sqlx;
use crate::sqlx::error::DatabaseError;

/// The answer to a request that was not carried out.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    message: String,
}

impl Refused {
    pub(crate) fn not_found(message: String) -> Self {
        Self { status: StatusCode::NOT_FOUND, message }
    }

    pub(crate) fn conflict(message: String) -> Self {
        Self { status: StatusCode::CONFLICT, message }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            Kind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::Conflict => StatusCode::CONFLICT,
            kind if kind.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, message: format!("{}: {}", error.code(), error.message()) }
    }
}

impl From<CommitError> for Refused {
    fn from(error: CommitError) -> Self {
        Error::from(error).into()
    }
}

impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        let is_ours = error.as_database_error().is_some_and(DatabaseError::is_check_violation);
        let status = if is_ours { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::SERVICE_UNAVAILABLE };
        Self { status, message: error.to_string() }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.message }))).into_response()
    }
}
