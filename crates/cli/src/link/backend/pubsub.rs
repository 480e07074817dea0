//! Google Cloud Pub/Sub.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use ensue::core::{BoxFuture, Bus, Error};
use ensue_pubsub::Config;
use serde::Deserialize;

use super::{Connection, Driver, Login, useless};

/// What a link may say for Pub/Sub alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    in_flight: Option<NonZeroUsize>,
    order: Option<Order>,
    delivery: Option<Delivery>,
    delivery_limit: Option<NonZeroU32>,
    lease_seconds: Option<NonZeroU64>,
    settle_within_seconds: Option<NonZeroU64>,
    message_bytes_max: Option<NonZeroUsize>,
}

/// Whether subscriptions that are made keep the order of keys.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Order {
    Key,
    None,
}

/// What the service promises of subscriptions that are made.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Delivery {
    AtLeastOnce,
    ExactlyOnce,
}

impl Driver for Options {
    fn open(self, connection: Connection) -> BoxFuture<'static, Result<Arc<dyn Bus>, Error>> {
        Box::pin(async move { Ok(Arc::new(self.config(connection)?.open().await?) as Arc<dyn Bus>) })
    }
}

impl Options {
    fn config(self, connection: Connection) -> Result<Config, Error> {
        let Connection { url, login, authorities, certificate } = connection;
        if certificate.is_some() {
            return Err(useless("pubsub", "certificate_file"));
        }
        let mut config = Config::new(url);
        if let Some(file) = authorities {
            config = config.authorities(file);
        }
        config = match login {
            Login::Unsaid => config,
            Login::Token(token) => config.token(token),
            Login::Credentials(file) => config.service_account(file),
            Login::Password { .. } => return Err(useless("pubsub", "user")),
        };
        Ok(self.declared(self.member(config)))
    }

    /// What a member of a group has in hand, and for how long.
    fn member(&self, mut config: Config) -> Config {
        if let Some(messages) = self.in_flight {
            config = config.in_flight_max(messages.get());
        }
        if let Some(seconds) = self.lease_seconds {
            config = config.lease(Duration::from_secs(seconds.get()));
        }
        match self.settle_within_seconds {
            Some(seconds) => config.settle_within(Duration::from_secs(seconds.get())),
            None => config,
        }
    }

    /// How subscriptions are made, and topics written to.
    fn declared(&self, mut config: Config) -> Config {
        if self.order == Some(Order::None) {
            config = config.without_order();
        }
        if self.delivery == Some(Delivery::ExactlyOnce) {
            config = config.exactly_once();
        }
        if let Some(deliveries) = self.delivery_limit {
            config = config.delivery_limit(deliveries.get());
        }
        match self.message_bytes_max {
            Some(bytes) => config.message_bytes_max(bytes.get()),
            None => config,
        }
    }
}
