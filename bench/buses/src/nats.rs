//! NATS by `async-nats`: publishing with acknowledgements in flight, a durable pull consumer.

use std::sync::Arc;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::context::Context;
use bytes::Bytes;
use ensue::core::Bus;
use futures_util::future::try_join_all;
use futures_util::{FutureExt, StreamExt};

use crate::Failure;
use crate::client::{COUNTED_MAX, Client, Haste, Reader};
use crate::message::ItemMade;

/// See the module.
pub(crate) struct Nats(Context);

impl Nats {
    async fn pulling(&self, from: &str, group: &str) -> Result<Pulling, Failure> {
        let stream = self.0.stream_by_subject(from).await?;
        let stream = self.0.get_stream(stream).await?;
        let wanted = pull::Config {
            durable_name: Some(group.to_owned()),
            ack_policy: AckPolicy::Explicit,
            max_ack_pending: 4096,
            ..pull::Config::default()
        };
        let consumer: PullConsumer = stream.get_or_create_consumer(group, wanted).await?;
        Ok(Pulling(consumer.stream().max_messages_per_batch(1024).messages().await?))
    }
}

impl Client for Nats {
    const IN_FLIGHT: usize = 256;
    const IS_FED: bool = false;
    type Reader = Pulling;

    async fn connect(url: &str) -> Result<Self, Failure> {
        Ok(Self(async_nats::jetstream::new(async_nats::connect(url).await?)))
    }

    async fn bus(url: &str) -> Result<Arc<dyn Bus>, Failure> {
        Ok(Arc::new(ensue_nats::Config::new(url).open().await?))
    }

    async fn send(&self, to: &str, item: &ItemMade, _haste: Haste) -> Result<(), Failure> {
        self.0.publish(to.to_owned(), item.body()).await?.await?;
        Ok(())
    }

    async fn readers(&self, from: &[String], group: &str) -> Result<Vec<Pulling>, Failure> {
        try_join_all(from.iter().map(|channel| self.pulling(channel, group))).await
    }

    fn consumed(channel: &str, _group: &str) -> String {
        channel.to_owned()
    }
}

/// A pull that is renewed by the client.
pub(crate) struct Pulling(pull::Stream);

impl Reader for Pulling {
    async fn next(&mut self) -> Result<Vec<Bytes>, Failure> {
        let mut bodies = Vec::new();
        let mut next = Some(self.0.next().await);
        while let Some(message) = next {
            let message = message.ok_or("the pull has ended")??;
            message.ack().await?;
            bodies.push(message.payload.clone());
            next = if bodies.len() < COUNTED_MAX { self.0.next().now_or_never() } else { None };
        }
        Ok(bodies)
    }
}
