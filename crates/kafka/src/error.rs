//! What the driver says, in Ensue's words.

use std::io;

use ensue_core::{Code, Error};
use krafka::error::ErrorCode;
use krafka::{KrafkaError, ProtocolErrorKind};

/// The error for something that was tried.
pub(crate) fn failed(trying: &str, cause: KrafkaError) -> Error {
    Error::new(code(&cause), format!("{trying}: {cause}")).with_source(cause)
}

fn code(cause: &KrafkaError) -> Code {
    match cause {
        KrafkaError::Auth { .. } if is_of_tls(cause) => Code::BUS_ADDRESS,
        KrafkaError::Auth { .. } => Code::BUS_DENIED,
        KrafkaError::Config { .. } => Code::BUS_ADDRESS,
        KrafkaError::Timeout { .. } | KrafkaError::DeliveryTimeout { possibly_written: true, .. } => {
            Code::BUS_TIMEOUT
        }
        KrafkaError::UnknownTopic { .. } => Code::BUS_UNROUTABLE,
        KrafkaError::Broker { code, .. } => of_broker(*code),
        KrafkaError::Protocol { kind: ProtocolErrorKind::FrameTooLarge, .. } => Code::TOO_LARGE,
        KrafkaError::Protocol { kind: ProtocolErrorKind::UnknownApiVersion, .. } => Code::UNSUPPORTED,
        KrafkaError::Protocol { kind, .. } if !kind.is_retriable() => Code::BUS_REFUSED,
        KrafkaError::Network(_)
        | KrafkaError::DeliveryTimeout { .. }
        | KrafkaError::Protocol { .. }
        // What follows ends with the client, which is then made anew.
        | KrafkaError::Closed { .. }
        | KrafkaError::Fenced { .. }
        | KrafkaError::OutOfOrderSequence { .. }
        | KrafkaError::Wakeup => Code::BUS_UNREACHABLE,
        _ => Code::BUS_REFUSED,
    }
}

/// Whether it is about certificates, not about who we are.
fn is_of_tls(cause: &KrafkaError) -> bool {
    let first: &(dyn std::error::Error + 'static) = cause;
    std::iter::successors(Some(first), |cause| cause.source()).any(|cause| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause.is::<rustls::Error>() || inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some()
    })
}

fn of_broker(code: ErrorCode) -> Code {
    match code {
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => Code::BUS_UNROUTABLE,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => Code::TOO_LARGE,
        ErrorCode::TopicAuthorizationFailed
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed
        | ErrorCode::SaslAuthenticationFailed => Code::BUS_DENIED,
        ErrorCode::UnknownMemberId
        | ErrorCode::IllegalGeneration
        | ErrorCode::FencedMemberEpoch
        | ErrorCode::StaleMemberEpoch
        | ErrorCode::FencedInstanceId
        | ErrorCode::RebalanceInProgress => Code::BUS_TOO_LATE,
        ErrorCode::UnreleasedInstanceId => Code::BUS_TOPOLOGY,
        code if code.is_retriable() => Code::BUS_UNREACHABLE,
        _ => Code::BUS_REFUSED,
    }
}

/// Whether a topic is not there, which is no failure but an answer.
pub(crate) fn is_missing(cause: &KrafkaError) -> bool {
    code(cause) == Code::BUS_UNROUTABLE
}

/// The error for a message that is too large for the broker.
pub(crate) fn too_large(channel: &str, bytes: usize, bytes_max: usize) -> Error {
    let message =
        format!("cannot publish to `{channel}`: it has {bytes} bytes, at most {bytes_max} are allowed");
    Error::new(Code::TOO_LARGE, message)
        .with_fix("raise `max.message.bytes` of the topic and `message_bytes_max` of the bus, or keep the data elsewhere and publish its place")
}
