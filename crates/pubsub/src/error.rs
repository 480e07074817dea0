//! What the service and its driver say, in Ensue's words.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::time::Duration;

use ensue_core::{Code, Error};
use prost::Message;
use tonic::{Code as Said, Status};

use crate::wire::{AckFailures, Details};

/// How the detail is called by which the service says what became of each acknowledgement, and its words for those that failed.
const ACK_FAILURES: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const TOO_LATE: &str = "PERMANENT_FAILURE_INVALID_ACK_ID";
const NOT_NOW: &str = "TRANSIENT_FAILURE_";

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

/// What became of the deliveries of a call to acknowledge them that has failed.
pub(crate) struct Refused {
    /// Those that the service speaks of, where it does; others have been acknowledged.
    by_ack_id: Option<BTreeMap<String, String>>,
    error: Error,
}

impl Refused {
    pub(crate) fn new(trying: &str, failure: Failure) -> Self {
        let by_ack_id = match &failure {
            Failure::Status(status) => by_ack_id(status.details()),
            Failure::Late(_) | Failure::Login(_) => None,
        };
        Self { by_ack_id, error: failed(trying, failure) }
    }

    pub(crate) fn answer(&self, ack_id: &str) -> Result<(), Error> {
        let Some(by_ack_id) = &self.by_ack_id else { return Err(self.error.clone()) };
        match by_ack_id.get(ack_id) {
            None => Ok(()),
            Some(said) if said == TOO_LATE => Err(too_late()),
            Some(said) if said.starts_with(NOT_NOW) => {
                let message = format!("the service could not acknowledge it at the moment: {said}");
                Err(Error::new(Code::BUS_UNREACHABLE, message))
            }
            Some(said) => {
                Err(Error::new(Code::BUS_REFUSED, format!("the service refused to acknowledge it: {said}")))
            }
        }
    }
}

fn by_ack_id(details: &[u8]) -> Option<BTreeMap<String, String>> {
    let said = Details::decode(details).ok()?;
    let info = said.details.iter().find(|detail| detail.sort == ACK_FAILURES)?;
    let by_ack_id = AckFailures::decode(info.value.clone()).ok()?.metadata;
    let is_of_acks = by_ack_id.values().any(|said| said == TOO_LATE || said.contains("_FAILURE_"));
    is_of_acks.then_some(by_ack_id)
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
    use crate::wire::Detail;

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
    fn of_several_acknowledgements_each_is_told_what_became_of_it() {
        let said =
            [("late", TOO_LATE), ("busy", "TRANSIENT_FAILURE_UNKNOWN"), ("odd", "PERMANENT_FAILURE_OTHER")];
        let metadata = said.map(|(ack_id, said)| (ack_id.to_owned(), said.to_owned())).into();
        let info = AckFailures { metadata }.encode_to_vec().into();
        let details = Details { details: vec![Detail { sort: ACK_FAILURES.to_owned(), value: info }] };
        let status = Status::with_details(Said::FailedPrecondition, "some", details.encode_to_vec().into());
        let refused = Refused::new("cannot acknowledge", status.into());
        let of = |ack_id: &str| refused.answer(ack_id).map_err(|error| error.code());
        assert_eq!(of("good"), Ok(()));
        assert_eq!(of("late"), Err(Code::BUS_TOO_LATE));
        assert_eq!(of("busy"), Err(Code::BUS_UNREACHABLE));
        assert_eq!(of("odd"), Err(Code::BUS_REFUSED));
    }

    #[test]
    fn where_nothing_is_said_of_each_none_is_acknowledged() {
        let other = AckFailures { metadata: [("service".to_owned(), "pubsub".to_owned())].into() };
        let detail = Detail { sort: ACK_FAILURES.to_owned(), value: other.encode_to_vec().into() };
        for details in [Vec::new(), vec![detail]] {
            let details = Details { details }.encode_to_vec();
            let status = Status::with_details(Said::Unavailable, "not now", details.into());
            let refused = Refused::new("cannot acknowledge", status.into());
            assert_eq!(refused.answer("any").map_err(|error| error.code()), Err(Code::BUS_UNREACHABLE));
        }
    }

    #[test]
    fn a_connection_that_broke_in_the_middle_is_tried_again() {
        let broken = Status::from_error(Box::new(std::io::Error::other("broken pipe")));
        let error = failed("cannot try", broken.into());
        assert!(error.is_retryable() && error.message().contains("broken pipe"), "{error:?}");
    }
}
