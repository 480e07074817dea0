//! `RabbitMQ` by `lapin`: publisher confirms in flight on one channel, a consumer with prefetch that acknowledges each message.

use std::sync::Arc;

use bytes::Bytes;
use ensue::core::Bus;
use futures_util::future::try_join_all;
use futures_util::{FutureExt, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};

use crate::Failure;
use crate::client::{COUNTED_MAX, Client, Haste, Reader};
use crate::message::ItemMade;

/// Survives a restart of the broker.
const PERSISTENT: u8 = 2;
const PREFETCH: u16 = 1024;

/// See the module.
pub(crate) struct Rabbitmq {
    connection: Connection,
    publishing: Channel,
}

impl Rabbitmq {
    async fn consuming(&self, from: &str, group: &str) -> Result<Consuming, Failure> {
        let channel = self.connection.create_channel().await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let queue = Self::consumed(from, group);
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
        Ok(Consuming { consumer, _channel: channel })
    }
}

impl Client for Rabbitmq {
    const IN_FLIGHT: usize = 256;
    const IS_FED: bool = true;
    type Reader = Consuming;

    async fn connect(url: &str) -> Result<Self, Failure> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let publishing = connection.create_channel().await?;
        publishing.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { connection, publishing })
    }

    async fn bus(url: &str) -> Result<Arc<dyn Bus>, Failure> {
        Ok(Arc::new(ensue_rabbitmq::Config::new(url).open().await?))
    }

    async fn send(&self, to: &str, item: &ItemMade, _haste: Haste) -> Result<(), Failure> {
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let body = item.body();
        let publishing =
            self.publishing.basic_publish(to.into(), "Item.ItemMade".into(), options, &body, properties);
        let confirmation = publishing.await?.await?;
        if confirmation.is_ack() { Ok(()) } else { Err("the broker has not kept a message".into()) }
    }

    async fn readers(&self, from: &[String], group: &str) -> Result<Vec<Consuming>, Failure> {
        try_join_all(from.iter().map(|channel| self.consuming(channel, group))).await
    }

    fn consumed(channel: &str, group: &str) -> String {
        format!("{channel}.{group}")
    }
}

/// A consumer and its channel, which ends with it.
pub(crate) struct Consuming {
    consumer: Consumer,
    _channel: Channel,
}

impl Reader for Consuming {
    async fn next(&mut self) -> Result<Vec<Bytes>, Failure> {
        let mut bodies = Vec::new();
        let mut next = Some(self.consumer.next().await);
        while let Some(delivery) = next {
            let delivery = delivery.ok_or("the consumer has ended")??;
            delivery.ack(BasicAckOptions::default()).await?;
            bodies.push(delivery.data.into());
            next = if bodies.len() < COUNTED_MAX { self.consumer.next().now_or_never() } else { None };
        }
        Ok(bodies)
    }
}
