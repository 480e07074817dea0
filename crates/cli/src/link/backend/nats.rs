//! NATS `JetStream`.

use std::num::{NonZeroU8, NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use ensue::core::{BoxFuture, Bus, Error};
use ensue_nats::Config;
use serde::Deserialize;

use super::{Connection, Driver, Login};

/// What a link may say for NATS alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    in_flight: Option<NonZeroUsize>,
    replicas: Option<NonZeroU8>,
    retention_seconds: Option<NonZeroU64>,
    settle_within_seconds: Option<NonZeroU64>,
    duplicate_window_seconds: Option<NonZeroU64>,
    message_bytes_max: Option<NonZeroUsize>,
}

impl Driver for Options {
    fn open(self, connection: Connection) -> BoxFuture<'static, Result<Arc<dyn Bus>, Error>> {
        Box::pin(async move { Ok(Arc::new(self.config(connection).open().await?) as Arc<dyn Bus>) })
    }
}

impl Options {
    fn config(self, connection: Connection) -> Config {
        let Connection { url, login, authorities, certificate } = connection;
        let mut config = Config::new(url);
        config = match login {
            Login::Unsaid => config,
            Login::Password { user, password } => config.password(user, password),
            Login::Token(token) => config.token(token),
            Login::Credentials(file) => config.credentials(file),
        };
        if let Some(file) = authorities {
            config = config.authorities(file);
        }
        if let Some((certificate, key)) = certificate {
            config = config.certificate(certificate, key);
        }
        self.declared(config)
    }

    /// How streams and consumers are made and used.
    fn declared(self, mut config: Config) -> Config {
        if let Some(messages) = self.in_flight {
            config = config.in_flight_max(messages.get());
        }
        if let Some(servers) = self.replicas {
            config = config.replicas(servers.get().into());
        }
        if let Some(seconds) = self.retention_seconds {
            config = config.retention(Duration::from_secs(seconds.get()));
        }
        if let Some(seconds) = self.settle_within_seconds {
            config = config.settle_within(Duration::from_secs(seconds.get()));
        }
        if let Some(seconds) = self.duplicate_window_seconds {
            config = config.duplicate_window(Duration::from_secs(seconds.get()));
        }
        if let Some(bytes) = self.message_bytes_max {
            config = config.message_bytes_max(bytes.get());
        }
        config
    }
}
