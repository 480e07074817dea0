//! RabbitMQ.

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use ensue::core::{BoxFuture, Bus, Error};
use ensue_rabbitmq::{Config, Exchange, Route};
use serde::Deserialize;

use super::{Connection, Driver, Login, useless};

/// What a link may say for RabbitMQ alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    in_flight: Option<NonZeroU16>,
    exchange: Option<Sort>,
    route: Option<Key>,
    replicas: Option<NonZeroU32>,
    delivery_limit: Option<NonZeroU32>,
    settle_within_seconds: Option<NonZeroU64>,
    message_bytes_max: Option<NonZeroUsize>,
}

/// The sort of an exchange, as RabbitMQ calls it.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sort {
    Topic,
    Direct,
    FanOut,
    Headers,
}

impl From<Sort> for Exchange {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Topic => Self::Topic,
            Sort::Direct => Self::Direct,
            Sort::FanOut => Self::FanOut,
            Sort::Headers => Self::Headers,
        }
    }
}

/// What the routing key is.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Key(Route);

impl TryFrom<String> for Key {
    type Error = String;

    fn try_from(said: String) -> Result<Self, String> {
        match (said.as_str(), said.strip_prefix("const:")) {
            ("topic.type", _) => Ok(Self(Route::TopicAndType)),
            ("type", _) => Ok(Self(Route::Type)),
            ("key", _) => Ok(Self(Route::Key)),
            (_, Some(fixed)) => Ok(Self(Route::Fixed(fixed.to_owned()))),
            _ => Err(format!("`{said}` is no route: write `topic.type`, `type`, `key` or `const:TEXT`")),
        }
    }
}

impl Driver for Options {
    fn open(self, connection: Connection) -> BoxFuture<'static, Result<Arc<dyn Bus>, Error>> {
        Box::pin(async move { Ok(Arc::new(self.config(connection)?.open().await?) as Arc<dyn Bus>) })
    }
}

impl Options {
    fn config(self, connection: Connection) -> Result<Config, Error> {
        let Connection { url, login, authorities, certificate } = connection;
        let mut config = Config::new(url);
        config = match login {
            Login::Unsaid => config,
            Login::Password { user, password } => config.password(user, password),
            Login::Token(token) => config.token(token),
            Login::Credentials(_) => return Err(useless("rabbitmq", "credentials_file")),
        };
        if let Some(file) = authorities {
            config = config.authorities(file);
        }
        if let Some((certificate, key)) = certificate {
            config = config.certificate(certificate, key);
        }
        Ok(self.declared(config))
    }

    /// How exchanges and queues are made and used.
    fn declared(self, mut config: Config) -> Config {
        if let Some(messages) = self.in_flight {
            config = config.in_flight_max(messages.get());
        }
        if let Some(sort) = self.exchange {
            config = config.exchange(sort.into());
        }
        if let Some(Key(route)) = self.route {
            config = config.route(route);
        }
        if let Some(brokers) = self.replicas {
            config = config.replicas(brokers.get());
        }
        if let Some(deliveries) = self.delivery_limit {
            config = config.delivery_limit(deliveries.get());
        }
        if let Some(seconds) = self.settle_within_seconds {
            config = config.settle_within(Duration::from_secs(seconds.get()));
        }
        if let Some(bytes) = self.message_bytes_max {
            config = config.message_bytes_max(bytes.get());
        }
        config
    }
}
