//! Amazon `EventBridge`, with the queues of SQS behind it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use ensue::core::{BoxFuture, Bus, Error};
use ensue_eventbridge::Config;
use serde::Deserialize;

use super::{Connection, Driver, Login, useless};
use crate::link::wrong;

/// What a link may say for `EventBridge` alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    profile: Option<String>,
    delivery_limit: Option<Within<1, 1_000>>,
    hidden_for_seconds: Option<Within<2, 43_200>>,
    settle_within_seconds: Option<Within<2, 43_200>>,
    entry_bytes_max: Option<NonZeroUsize>,
}

/// A number that Amazon takes. The driver would take the nearest one for another, and nobody would be told.
#[derive(Deserialize, Clone, Copy)]
#[serde(try_from = "u32")]
struct Within<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> TryFrom<u32> for Within<MIN, MAX> {
    type Error = String;

    fn try_from(said: u32) -> Result<Self, String> {
        if (MIN..=MAX).contains(&said) {
            Ok(Self(said))
        } else {
            Err(format!("{said} is not from {MIN} to {MAX}"))
        }
    }
}

impl<const MIN: u32, const MAX: u32> Within<MIN, MAX> {
    fn seconds(self) -> Duration {
        Duration::from_secs(self.0.into())
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
        if certificate.is_some() {
            return Err(useless("eventbridge", "certificate_file"));
        }
        let config = self.login(login, Config::new(url))?;
        let config = match authorities {
            Some(file) => config.authorities(file),
            None => config,
        };
        Ok(self.declared(config))
    }

    /// An access key is a user, and its secret a password. Where nothing is said the environment is asked.
    fn login(&self, login: Login, config: Config) -> Result<Config, Error> {
        match (login, &self.profile) {
            (Login::Unsaid, None) => Ok(config),
            (Login::Unsaid, Some(profile)) => Ok(config.profile(profile)),
            (Login::Password { user, password }, None) => Ok(config.keys(user, password)),
            (Login::Password { .. }, Some(_)) => Err(wrong(
                "a link over eventbridge has a user and a profile".to_owned(),
                "keep one of them: the id of an access key as `user` with its secret as password, or `profile`",
            )),
            (Login::Token(_), _) => Err(useless("eventbridge", "token")),
            (Login::Credentials(_), _) => Err(useless("eventbridge", "credentials_file")),
        }
    }

    /// How queues are made and held, and event buses written to.
    fn declared(&self, mut config: Config) -> Config {
        if let Some(deliveries) = self.delivery_limit {
            config = config.delivery_limit(deliveries.0);
        }
        if let Some(time) = self.hidden_for_seconds {
            config = config.hidden_for(time.seconds());
        }
        if let Some(time) = self.settle_within_seconds {
            config = config.settle_within(time.seconds());
        }
        match self.entry_bytes_max {
            Some(bytes) => config.entry_bytes_max(bytes.get()),
            None => config,
        }
    }
}
