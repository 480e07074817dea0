//! What the broker and its driver say, in Ensue's words.

use ensue_core::{Code, Error};
use lapin::ErrorKind;
use lapin::types::ShortString;

/// Replies of the protocol, by their numbers.
const CONTENT_TOO_LARGE: u16 = 311;
const CONNECTION_FORCED: u16 = 320;
const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const RESOURCE_LOCKED: u16 = 405;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;

/// The error for something that was tried and failed.
pub(crate) fn failed(trying: &str, cause: lapin::Error) -> Error {
    let code = code(&cause);
    let said = match cause.kind() {
        ErrorKind::ProtocolError(reply) => reply.get_message().to_string(),
        _ => cause.to_string(),
    };
    Error::new(code, format!("{trying}: {said}")).with_source(cause)
}

fn code(cause: &lapin::Error) -> Code {
    match cause.kind() {
        ErrorKind::ProtocolError(reply) => of_reply(reply.get_id(), reply.get_message().as_str()),
        ErrorKind::AuthProviderError(_) => Code::BUS_DENIED,
        ErrorKind::InvalidProtocolVersion(_) => Code::BUS_ADDRESS,
        // Trying again makes no certificate better.
        ErrorKind::IOError(cause) if is_of_tls(cause) => Code::BUS_ADDRESS,
        ErrorKind::ChannelsLimitReached | ErrorKind::SerialisationError(_) => Code::BUS_REFUSED,
        _ => Code::BUS_UNREACHABLE,
    }
}

fn is_of_tls(cause: &std::io::Error) -> bool {
    cause.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()).is_some()
}

fn of_reply(reply: u16, text: &str) -> Code {
    match reply {
        ACCESS_REFUSED | NOT_ALLOWED => Code::BUS_DENIED,
        // A queue whose broker is down or still starting is `not found` to the others.
        NOT_FOUND if text.contains("is down or inaccessible") || text.contains("is stopped") => {
            Code::BUS_UNREACHABLE
        }
        NOT_FOUND => Code::BUS_UNROUTABLE,
        RESOURCE_LOCKED | PRECONDITION_FAILED => Code::BUS_TOPOLOGY,
        CONTENT_TOO_LARGE => Code::TOO_LARGE,
        CONNECTION_FORCED => Code::BUS_UNREACHABLE,
        _ => Code::BUS_REFUSED,
    }
}

/// Whether the thing that was asked for is not there.
pub(crate) fn is_missing(cause: &lapin::Error) -> bool {
    code(cause) == Code::BUS_UNROUTABLE
}

/// Whether trying again changes nothing.
pub(crate) fn is_final(cause: &lapin::Error) -> bool {
    matches!(code(cause), Code::BUS_DENIED | Code::BUS_ADDRESS)
}

/// What the broker says is otherwise: the name of the setting, and what it is there.
pub(crate) fn difference(cause: &lapin::Error) -> Option<(String, String)> {
    let ErrorKind::ProtocolError(reply) = cause.kind() else { return None };
    if reply.get_id() != PRECONDITION_FAILED {
        return None;
    }
    let text = reply.get_message().as_str();
    let (_, rest) = text.split_once("inequivalent arg '")?;
    let (setting, rest) = rest.split_once('\'')?;
    let (_, current) = rest.split_once("but current is ")?;
    Some((setting.to_owned(), current.trim_matches('\'').to_owned()))
}

/// Whether we may not do this.
pub(crate) fn is_denied(cause: &lapin::Error) -> bool {
    code(cause) == Code::BUS_DENIED
}

/// The error for a message that is too large for the broker.
pub(crate) fn too_large(channel: &str, reason: &str) -> Error {
    Error::new(Code::TOO_LARGE, format!("cannot publish to `{channel}`: {reason}"))
        .with_fix("raise `max_message_size` of the broker and `message_bytes_max` of the bus, or keep the data elsewhere and publish its place")
}

/// The error for a message that reached no queue.
pub(crate) fn unroutable(exchange: &str, routing_key: &str) -> Error {
    let message = format!(
        "cannot publish to `{exchange}`: the exchange routes the routing key `{routing_key}` to no queue"
    );
    Error::new(Code::BUS_UNROUTABLE, message).with_fix(
        "bind a queue to the exchange: declare a source that is fed by it, or use the broker's own tools",
    )
}

/// The error for what can no longer be settled.
pub(crate) fn too_late(why: &str) -> Error {
    Error::new(Code::BUS_TOO_LATE, format!("the delivery is not open any more: {why}"))
}

/// A name as the protocol carries it.
pub(crate) fn short(what: &str, text: &str) -> Result<ShortString, Error> {
    ShortString::try_new(text).map_err(|_| {
        let message = format!("the {what} `{text:.60}…` has {} bytes, AMQP carries at most 255", text.len());
        Error::new(Code::INVALID_NAME, message).with_fix("use a shorter name, or another `route` of the bus")
    })
}
