//! What the driver says, in Ensue's words.

use std::error::Error as StdError;

use async_nats::connection::State;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use ensue_core::{Code, Error};

use crate::client::Link;

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
        if self.is_denied() {
            let message = format!("{trying}: the server does not let us in");
            return Error::new(Code::BUS_DENIED, message).with_source(cause);
        }
        if self.client.connection_state() != State::Connected {
            return Error::new(Code::BUS_UNREACHABLE, format!("{trying}: not connected")).with_source(cause);
        }
        Error::new(code, format!("{trying}: {cause}")).with_source(cause)
    }

    /// The error for a message that was not confirmed.
    pub(crate) fn unpublished(&self, channel: &str, cause: PublishError) -> Error {
        let trying = format!("cannot publish to `{channel}`");
        match cause.kind() {
            PublishErrorKind::MaxPayloadExceeded => {
                too_large(channel, "the server takes no message of this size")
            }
            PublishErrorKind::StreamNotFound if !self.is_down() => {
                Error::new(Code::BUS_UNROUTABLE, format!("{trying}: no stream keeps this subject"))
            }
            PublishErrorKind::Other => self.failed(&trying, Code::BUS_REFUSED, cause),
            _ => self.failed(&trying, Code::BUS_TIMEOUT, cause),
        }
    }
}

/// The error for a message that is too large for the broker.
pub(crate) fn too_large(channel: &str, reason: &str) -> Error {
    Error::new(Code::TOO_LARGE, format!("cannot publish to `{channel}`: {reason}"))
        .with_fix("raise `max_payload` of the server and `message_bytes_max` of the bus, or keep the data elsewhere and publish its place")
}
