//! Amazon `EventBridge`.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use ensue::core::{BoxFuture, Bus, Error};
use ensue_eventbridge::Config;
use serde::Deserialize;

use super::{Connection, Driver, Login, useless};

/// What a link may say for EventBridge alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    profile: Option<String>,
    delivery_limit: Option<NonZeroU32>,
    settle_within_seconds: Option<NonZeroU64>,
    hidden_for_seconds: Option<NonZeroU64>,
    entry_bytes_max: Option<NonZeroUsize>,
}

impl Driver for Options {
    fn open(self, connection: Connection) -> BoxFuture<'static, Result<Arc<dyn Bus>, Error>> {
        Box::pin(async move { Ok(Arc::new(self.config(connection)?.open().await?) as Arc<dyn Bus>) })
    }
}

impl Options {
    fn config(mut self, connection: Connection) -> Result<Config, Error> {
        let Connection { url, login, authorities, certificate } = connection;
        let mut config = Config::new(url);
        config = match (login, self.profile.take()) {
            (Login::Unsaid, None) => config,
            (Login::Unsaid, Some(profile)) => config.profile(profile),
            (Login::Password { user, password }, None) => config.keys(user, password),
            (Login::Password { .. }, Some(_)) => {
                return Err(useless("eventbridge with an access key", "profile"));
            }
            (Login::Token(_), _) => return Err(useless("eventbridge", "token")),
            (Login::Credentials(_), _) => return Err(useless("eventbridge", "credentials_file")),
        };
        if certificate.is_some() {
            return Err(useless("eventbridge", "certificate_file"));
        }
        if let Some(file) = authorities {
            config = config.authorities(file);
        }
        Ok(self.declared(config))
    }

    /// How queues are made and used.
    fn declared(self, mut config: Config) -> Config {
        if let Some(deliveries) = self.delivery_limit {
            config = config.delivery_limit(deliveries.get());
        }
        if let Some(seconds) = self.settle_within_seconds {
            config = config.settle_within(Duration::from_secs(seconds.get()));
        }
        if let Some(seconds) = self.hidden_for_seconds {
            config = config.hidden_for(Duration::from_secs(seconds.get()));
        }
        if let Some(bytes) = self.entry_bytes_max {
            config = config.entry_bytes_max(bytes.get());
        }
        config
    }
}
