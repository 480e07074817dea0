//! What the service and its driver say, in Ensue's words.

use std::error::Error as StdError;
use std::time::Duration;

use ensue_core::{Code, Error};
use tonic::{Code as Said, Status};

/// Why a call had no result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The service, or the way to it, said so.
    Status(Box<Status>),
    /// Nobody said anything in this time.
    Late(Duration),
    /// There is no login to call with.
    Login(Error),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl Failure {
    fn is(&self, said: Said) -> bool {
        matches!(self, Self::Status(status) if status.code() == said)
    }

    /// The service says that there is no such thing; any other failure says nothing about it.
    pub(crate) fn is_missing(&self) -> bool {
        self.is(Said::NotFound)
    }

    /// Somebody else has made it in the meantime.
    pub(crate) fn is_there_already(&self) -> bool {
        self.is(Said::AlreadyExists)
    }
}

/// The error for something that was tried and failed.
pub(crate) fn failed(trying: &str, failure: Failure) -> Error {
    match failure {
        Failure::Login(error) => Error::new(error.code(), format!("{trying}: {}", error.message()))
            .with_fix(error.fix().to_owned())
            .with_source(error),
        Failure::Late(limit) => {
            Error::new(Code::BUS_TIMEOUT, format!("{trying}: no answer within {limit:?}"))
        }
        Failure::Status(status) => {
            let message = format!("{trying}: {}", said(&status));
            Error::new(code(&status), message).with_source(*status)
        }
    }
}

/// The message of the service; where the way to it has failed, what was wrong with that.
fn said(status: &Status) -> String {
    let text = status.message();
    let mut text = if text.is_empty() { status.code().description() } else { text }.to_owned();
    let mut cause = StdError::source(status);
    while let Some(deeper) = cause {
        let more = deeper.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = deeper.source();
    }
    text
}

fn code(status: &Status) -> Code {
    match status.code() {
        // Trying again makes no certificate better.
        _ if is_of_tls(status) => Code::BUS_ADDRESS,
        Said::Unauthenticated | Said::PermissionDenied => Code::BUS_DENIED,
        Said::NotFound => Code::BUS_UNROUTABLE,
        Said::DeadlineExceeded => Code::BUS_TIMEOUT,
        // Quotas are counted by the minute: the same call succeeds later.
        Said::Unavailable | Said::ResourceExhausted | Said::Aborted | Said::Internal | Said::Cancelled => {
            Code::BUS_UNREACHABLE
        }
        // A connection that broke in the middle has no code of its own.
        Said::Unknown if StdError::source(status).is_some() => Code::BUS_UNREACHABLE,
        _ => Code::BUS_REFUSED,
    }
}

fn is_of_tls(status: &Status) -> bool {
    let mut cause = StdError::source(status);
    while let Some(deeper) = cause {
        let of_tls = |cause: &(dyn StdError + 'static)| cause.downcast_ref::<rustls::Error>().is_some();
        let inner = deeper.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if of_tls(deeper) || inner.is_some_and(|inner| inner.downcast_ref::<rustls::Error>().is_some()) {
            return true;
        }
        cause = deeper.source();
    }
    false
}

/// The error for a message that is too large for the service.
pub(crate) fn too_large(channel: &str, reason: &str) -> Error {
    Error::new(Code::TOO_LARGE, format!("cannot publish to `{channel}`: {reason}"))
}

/// The error for what can no longer be settled.
pub(crate) fn too_late() -> Error {
    Error::new(Code::BUS_TOO_LATE, "the delivery is not open any more: it was settled, or its time was over")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_succeed_later_is_tried_again_and_nothing_else() {
        let retryable = [
            Said::Unavailable,
            Said::ResourceExhausted,
            Said::Aborted,
            Said::Internal,
            Said::Cancelled,
            Said::DeadlineExceeded,
        ];
        let of = |said: Said| failed("cannot try", Status::new(said, "because").into());
        for said in retryable {
            assert!(of(said).is_retryable(), "{said:?}");
        }
        let wanted = [
            (Said::Unauthenticated, Code::BUS_DENIED),
            (Said::PermissionDenied, Code::BUS_DENIED),
            (Said::NotFound, Code::BUS_UNROUTABLE),
            (Said::InvalidArgument, Code::BUS_REFUSED),
            (Said::FailedPrecondition, Code::BUS_REFUSED),
            (Said::Unknown, Code::BUS_REFUSED),
        ];
        for (said, code) in wanted {
            assert_eq!(of(said).code(), code, "{said:?}");
            assert!(of(said).message().contains("cannot try: because"), "{said:?}");
        }
    }

    #[test]
    fn a_connection_that_broke_in_the_middle_is_tried_again() {
        let broken = Status::from_error(Box::new(std::io::Error::other("broken pipe")));
        let error = failed("cannot try", broken.into());
        assert!(error.is_retryable() && error.message().contains("broken pipe"), "{error:?}");
    }
}
