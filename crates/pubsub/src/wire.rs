//! The calls of Pub/Sub that are used here, and their messages: a part of `google.pubsub.v1`, with the numbers of its fields.
//!
//! Fields that are of no use here are left out; the service's own rule is that those who do not know a field pass over it.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

/// What can be called, and how the service names what a call is about.
pub(crate) struct Call {
    pub(crate) path: &'static str,
    /// The field by which the service routes the call.
    pub(crate) routed_by: &'static str,
}

pub(crate) const PUBLISH: Call = call("/google.pubsub.v1.Publisher/Publish", "topic");
pub(crate) const GET_TOPIC: Call = call("/google.pubsub.v1.Publisher/GetTopic", "topic");
pub(crate) const CREATE_TOPIC: Call = call("/google.pubsub.v1.Publisher/CreateTopic", "name");
pub(crate) const GET_SUBSCRIPTION: Call =
    call("/google.pubsub.v1.Subscriber/GetSubscription", "subscription");
pub(crate) const CREATE_SUBSCRIPTION: Call = call("/google.pubsub.v1.Subscriber/CreateSubscription", "name");
pub(crate) const ACKNOWLEDGE: Call = call("/google.pubsub.v1.Subscriber/Acknowledge", "subscription");
pub(crate) const MODIFY_ACK_DEADLINE: Call =
    call("/google.pubsub.v1.Subscriber/ModifyAckDeadline", "subscription");
pub(crate) const STREAMING_PULL: Call = call("/google.pubsub.v1.Subscriber/StreamingPull", "subscription");

const fn call(path: &'static str, routed_by: &'static str) -> Call {
    Call { path, routed_by }
}

/// A point in time.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

/// A length of time.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Span {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

/// What nothing is said about.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Topic {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GetTopic {
    #[prost(string, tag = "1")]
    pub(crate) topic: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PubsubMessage {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) data: Bytes,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(crate) attributes: BTreeMap<String, String>,
    #[prost(string, tag = "3")]
    pub(crate) message_id: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) publish_time: Option<Timestamp>,
    #[prost(string, tag = "5")]
    pub(crate) ordering_key: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Publish {
    #[prost(string, tag = "1")]
    pub(crate) topic: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) messages: Vec<PubsubMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Published {
    #[prost(string, repeated, tag = "1")]
    pub(crate) message_ids: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Subscription {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) topic: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) push: Option<Push>,
    #[prost(int32, tag = "5")]
    pub(crate) ack_deadline_seconds: i32,
    #[prost(bool, tag = "10")]
    pub(crate) enable_message_ordering: bool,
    #[prost(message, optional, tag = "11")]
    pub(crate) expiration: Option<Expiration>,
    #[prost(string, tag = "12")]
    pub(crate) filter: String,
    #[prost(message, optional, tag = "13")]
    pub(crate) dead_letter: Option<DeadLetterPolicy>,
    #[prost(bool, tag = "15")]
    pub(crate) detached: bool,
    #[prost(bool, tag = "16")]
    pub(crate) enable_exactly_once_delivery: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Push {
    #[prost(string, tag = "1")]
    pub(crate) endpoint: String,
}

/// After how long without a consumer a subscription goes; never where no time is said.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Expiration {
    #[prost(message, optional, tag = "1")]
    pub(crate) after: Option<Span>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct DeadLetterPolicy {
    #[prost(string, tag = "1")]
    pub(crate) topic: String,
    #[prost(int32, tag = "2")]
    pub(crate) max_delivery_attempts: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GetSubscription {
    #[prost(string, tag = "1")]
    pub(crate) subscription: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Acknowledge {
    #[prost(string, tag = "1")]
    pub(crate) subscription: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) ack_ids: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ModifyAckDeadline {
    #[prost(string, tag = "1")]
    pub(crate) subscription: String,
    #[prost(int32, tag = "3")]
    pub(crate) ack_deadline_seconds: i32,
    #[prost(string, repeated, tag = "4")]
    pub(crate) ack_ids: Vec<String>,
}

/// The first and only request of a stream: settling has calls of its own, which answer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StreamingPull {
    #[prost(string, tag = "1")]
    pub(crate) subscription: String,
    #[prost(int32, tag = "5")]
    pub(crate) stream_ack_deadline_seconds: i32,
    #[prost(string, tag = "6")]
    pub(crate) client_id: String,
    #[prost(int64, tag = "7")]
    pub(crate) max_outstanding_messages: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Pulled {
    #[prost(message, repeated, tag = "1")]
    pub(crate) received: Vec<Received>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Received {
    #[prost(string, tag = "1")]
    pub(crate) ack_id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) message: Option<PubsubMessage>,
    #[prost(int32, tag = "3")]
    pub(crate) delivery_attempt: i32,
}

/// What stands behind an error: `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Details {
    #[prost(message, repeated, tag = "3")]
    pub(crate) details: Vec<Detail>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Detail {
    #[prost(string, tag = "1")]
    pub(crate) sort: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: Bytes,
}

/// `google.rpc.ErrorInfo`, by which the service says what became of each acknowledgement.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AckFailures {
    #[prost(btree_map = "string, string", tag = "3")]
    pub(crate) metadata: BTreeMap<String, String>,
}
