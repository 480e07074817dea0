//! What Amazon and its library say, in Ensue's words.

use std::error::Error as StdError;
use std::io;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sqs::types::BatchResultErrorEntry;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use ensue_core::{Code, Error};

/// What says that our login or our rights are no good.
const DENIED: [&str; 13] = [
    "AccessDenied",
    "AccessDeniedException",
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "NotAuthorizedForSource",
    "OptInRequired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];
/// What says that there is no such thing.
const MISSING: [&str; 4] = [
    "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDoesNotExist",
    "ResourceNotFoundException",
    "com.amazonaws.sqs#QueueDoesNotExist",
];
/// What says that it is somebody else's fault or that we ask for too much, so that the same may succeed later.
const LATER: [&str; 11] = [
    "InternalError",
    "InternalException",
    "InternalFailure",
    "InternalFailureException",
    "KmsThrottled",
    "RequestLimitExceeded",
    "RequestThrottled",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];

/// The error for something that was tried and failed.
pub(crate) fn failed<E>(trying: &str, cause: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let (code, said) = match &cause {
        SdkError::TimeoutError(_) => (Code::BUS_TIMEOUT, "no answer in time".to_owned()),
        SdkError::ServiceError(service) => {
            let name = service.err().code().unwrap_or_default();
            (of_answer(service.raw().status().as_u16(), name), said(service.err().message(), name))
        }
        _ if has(&cause, is_of_tls) => {
            // Trying again makes no certificate better.
            (Code::BUS_ADDRESS, "no TLS that can be trusted".to_owned())
        }
        SdkError::ConstructionFailure(_) => (Code::BUS_REFUSED, "the request cannot be made".to_owned()),
        _ => (Code::BUS_UNREACHABLE, "no connection, or it was cut before the answer".to_owned()),
    };
    if has_no_login(&cause) {
        let message = format!("{trying}: no credentials of AWS are found");
        return Error::new(Code::BUS_DENIED, message).with_source(cause).with_fix(
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile, or run where AWS gives the process a role",
        );
    }
    Error::new(code, format!("{trying}: {said}")).with_source(cause)
}

/// The error for one entry of a request that was answered for by itself.
pub(crate) fn of_entry(trying: &str, name: &str, message: &str) -> Error {
    Error::new(of_name(name), format!("{trying}: {message} ({name})"))
}

/// The answers for all entries of a request to a queue, from those that failed. Entries are numbered from 0.
pub(crate) fn by_entry(
    trying: &str,
    count: usize,
    failed: &[BatchResultErrorEntry],
) -> Vec<Result<(), Error>> {
    let answer = |number: usize| match failed.iter().find(|entry| entry.id() == number.to_string()) {
        Some(entry) => {
            Err(of_entry(trying, entry.code(), entry.message().unwrap_or("refused without a reason")))
        }
        None => Ok(()),
    };
    (0..count).map(answer).collect()
}

/// Whether the thing that was asked for is not there.
pub(crate) fn is_missing<E: ProvideErrorMetadata>(cause: &SdkError<E, HttpResponse>) -> bool {
    matches!(cause, SdkError::ServiceError(service) if service.err().code().is_some_and(|name| MISSING.contains(&name)))
}

/// Whether somebody else has made it in the meantime.
pub(crate) fn is_there_already<E: ProvideErrorMetadata>(cause: &SdkError<E, HttpResponse>) -> bool {
    matches!(cause, SdkError::ServiceError(service) if service.err().code() == Some("ResourceAlreadyExistsException"))
}

fn said(message: Option<&str>, name: &str) -> String {
    match (message, name) {
        (Some(message), name) => format!("{message} ({name})"),
        (None, "") => "refused without a reason".to_owned(),
        (None, name) => name.to_owned(),
    }
}

/// An answer may come from something in between, which knows the words of HTTP only.
fn of_answer(status: u16, name: &str) -> Code {
    match (of_name(name), status) {
        (Code::BUS_REFUSED, 401 | 403) => Code::BUS_DENIED,
        (Code::BUS_REFUSED, 429 | 500..) => Code::BUS_UNREACHABLE,
        (code, _) => code,
    }
}

fn of_name(name: &str) -> Code {
    let is = |names: &[&str]| names.contains(&name);
    match name {
        _ if is(&DENIED) => Code::BUS_DENIED,
        _ if is(&MISSING) => Code::BUS_UNROUTABLE,
        _ if is(&LATER) => Code::BUS_UNREACHABLE,
        "ReceiptHandleIsInvalid" | "MessageNotInflight" => Code::BUS_TOO_LATE,
        _ => Code::BUS_REFUSED,
    }
}

/// Whether nobody could say who we are. The library reports it as one of several other failures.
fn has_no_login<E: StdError + 'static>(cause: &SdkError<E, HttpResponse>) -> bool {
    !matches!(cause, SdkError::ServiceError(_) | SdkError::TimeoutError(_))
        && has(cause, <dyn StdError>::is::<CredentialsError>)
}

/// An error of the system says what is inside of it, but not as its cause.
fn is_of_tls(error: &(dyn StdError + 'static)) -> bool {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.is::<rustls::Error>() || inner.is_some_and(|inner| is_of_tls(inner) || has(inner, is_of_tls))
}

/// Whether one of the causes behind this is such.
fn has(cause: &(dyn StdError + 'static), is_such: fn(&(dyn StdError + 'static)) -> bool) -> bool {
    let mut next = cause.source();
    while let Some(error) = next {
        if is_such(error) {
            return true;
        }
        next = error.source();
    }
    false
}

/// The error for a message that is too large.
pub(crate) fn too_large(channel: &str, bytes: usize, bytes_max: usize) -> Error {
    let message = format!(
        "cannot publish to `{channel}`: its entry has {bytes} bytes, at most {bytes_max} are allowed"
    );
    Error::new(Code::TOO_LARGE, message).with_fix(
        "raise `entry_bytes_max` of the bus as far as Amazon allows, or keep the data elsewhere and publish its place",
    )
}

/// The error for what can no longer be settled.
pub(crate) fn too_late(why: &str) -> Error {
    Error::new(Code::BUS_TOO_LATE, format!("the delivery is not open any more: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_a_name_is_read_by_its_status() {
        assert_eq!(of_answer(403, ""), Code::BUS_DENIED);
        assert_eq!(of_answer(503, ""), Code::BUS_UNREACHABLE);
        assert_eq!(of_answer(400, "ValidationException"), Code::BUS_REFUSED);
        assert_eq!(of_answer(400, "ThrottlingException"), Code::BUS_UNREACHABLE);
        assert_eq!(of_answer(400, "QueueDoesNotExist"), Code::BUS_UNROUTABLE);
    }

    #[test]
    fn an_entry_that_is_throttled_may_be_sent_again_and_one_that_is_no_good_may_not() {
        for name in ["ThrottlingException", "InternalFailure"] {
            assert!(of_entry("cannot publish", name, "later").is_retryable(), "{name}");
        }
        assert_eq!(of_entry("cannot publish", "MalformedDetail", "no").code(), Code::BUS_REFUSED);
        assert_eq!(of_entry("cannot publish", "NotAuthorizedForSource", "no").code(), Code::BUS_DENIED);
    }
}
