//! What the driver says, in Ensue's words.

use std::error::Error as StdError;

use async_nats::connection::State;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::{self, ErrorCode};
use ensue_core::{Code, Error};

use crate::client::Link;

/// What the server says where it has no room or no leader, as HTTP does.
const UNAVAILABLE: usize = 503;

impl Link {
    /// The error for something that was tried and had no answer, or one that says nothing about the reason. Where there is no
    /// connection that is the reason, or what was wrong when it was last tried.
    pub(crate) fn failed(
        &self,
        trying: &str,
        code: Code,
        cause: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Error {
        let cause = cause.into();
        if let Some((code, why)) = self.unwelcome() {
            return Error::new(code, format!("{trying}: {why}")).with_source(cause);
        }
        if self.client.connection_state() != State::Connected {
            return Error::new(Code::BUS_UNREACHABLE, format!("{trying}: not connected")).with_source(cause);
        }
        Error::new(code, format!("{trying}: {cause}")).with_source(cause)
    }

    /// The error for a message that was not confirmed.
    pub(crate) async fn unpublished(&self, channel: &str, cause: PublishError) -> Error {
        let trying = format!("cannot publish to `{channel}`");
        match cause.kind() {
            PublishErrorKind::MaxPayloadExceeded => {
                too_large(channel, "the server takes no message of this size")
            }
            PublishErrorKind::StreamNotFound if !self.is_down() => self.unheard(channel, cause).await,
            PublishErrorKind::Other => {
                let answer = cause.source().and_then(|answer| answer.downcast_ref::<jetstream::Error>());
                let code = answer.map_or(Code::BUS_REFUSED, refusal);
                if code == Code::TOO_LARGE {
                    return too_large(channel, "the stream takes no message of this size");
                }
                self.failed(&trying, code, cause)
            }
            _ => self.failed(&trying, Code::BUS_TIMEOUT, cause),
        }
    }

    /// The error for a message that nobody listened to. That is so where no stream keeps the subject, and also for as long as one that
    /// does has no leader, because a server is down. Another one knows which it is.
    async fn unheard(&self, channel: &str, cause: PublishError) -> Error {
        let trying = format!("cannot publish to `{channel}`");
        match self.stream_of(channel).await {
            Ok(None) => Error::new(Code::BUS_UNROUTABLE, format!("{trying}: no stream keeps this subject")),
            Ok(Some(name)) => {
                let message = format!("{trying}: the stream `{name}` has no leader at the moment");
                Error::new(Code::BUS_UNREACHABLE, message).with_source(cause)
            }
            Err(unknown) => unknown,
        }
    }
}

/// What an answer of the server is that refuses a message. Where there is no room, or nobody who may answer, there may be later; the
/// same is said of a full queue of any other broker.
fn refusal(answer: &jetstream::Error) -> Code {
    match answer.error_code() {
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM => {
            Code::TOO_LARGE
        }
        ErrorCode::STREAM_STORE_FAILED
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::MEMORY_RESOURCES_EXCEEDED
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::STREAM_OFFLINE
        | ErrorCode::CLUSTER_NOT_AVAILABLE
        | ErrorCode::CLUSTER_NOT_LEADER => Code::BUS_TIMEOUT,
        _ if answer.code() == UNAVAILABLE => Code::BUS_TIMEOUT,
        _ => Code::BUS_REFUSED,
    }
}

/// The error for a message that is too large for the broker.
pub(crate) fn too_large(channel: &str, reason: &str) -> Error {
    Error::new(Code::TOO_LARGE, format!("cannot publish to `{channel}`: {reason}"))
        .with_fix("raise `max_payload` of the server, `max_msg_size` of the stream and `message_bytes_max` of the bus, or keep the data elsewhere and publish its place")
}
