//! Apache Kafka.

use std::num::{NonZeroU8, NonZeroU16, NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use ensue::core::{BoxFuture, Bus, Error};
use ensue_kafka::{Config, Mechanism};
use serde::Deserialize;

use super::{Connection, Driver, Login, useless};
use crate::link::wrong;

/// What a link may say for Kafka alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    mechanism: Option<Proof>,
    prefix: Option<String>,
    instance: Option<String>,
    partitions: Option<NonZeroU16>,
    replicas: Option<NonZeroU8>,
    retention_seconds: Option<NonZeroU64>,
    settle_within_seconds: Option<NonZeroU64>,
    message_bytes_max: Option<NonZeroUsize>,
}

/// How user and password are proved, as Kafka calls it.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum Proof {
    Plain,
    #[serde(rename = "scram-sha-256")]
    Scram256,
    #[serde(rename = "scram-sha-512")]
    Scram512,
}

impl From<Proof> for Mechanism {
    fn from(proof: Proof) -> Self {
        match proof {
            Proof::Plain => Self::Plain,
            Proof::Scram256 => Self::Scram256,
            Proof::Scram512 => Self::Scram512,
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
        let mut config = self.login(login, Config::new(url))?;
        if let Some(file) = authorities {
            config = config.authorities(file);
        }
        if let Some((certificate, key)) = certificate {
            config = config.certificate(certificate, key);
        }
        Ok(self.declared(self.member(config)))
    }

    /// No mechanism is assumed: one of them sends the password as it is.
    fn login(&self, login: Login, config: Config) -> Result<Config, Error> {
        match (login, self.mechanism) {
            (Login::Unsaid, None) => Ok(config),
            (Login::Password { user, password }, Some(proof)) => {
                Ok(config.password(proof.into(), user, password))
            }
            (Login::Password { .. }, None) => Err(wrong(
                "a link over kafka has a user, and does not say how the password is proved".to_owned(),
                "add `mechanism`: `scram-sha-256`, `scram-sha-512`, or `plain`, which sends it as it is and wants TLS",
            )),
            (Login::Token(token), None) => Ok(config.token(token)),
            (Login::Credentials(_), None) => Err(useless("kafka", "credentials_file")),
            (Login::Unsaid | Login::Token(_) | Login::Credentials(_), Some(_)) => Err(wrong(
                "a link over kafka has a `mechanism` and no user".to_owned(),
                "add `user`, or leave it out",
            )),
        }
    }

    /// Who we are among the members of groups.
    fn member(&self, mut config: Config) -> Config {
        if let Some(prefix) = &self.prefix {
            config = config.prefix(prefix);
        }
        if let Some(instance) = &self.instance {
            config = config.instance(instance);
        }
        match self.settle_within_seconds {
            Some(seconds) => config.settle_within(Duration::from_secs(seconds.get())),
            None => config,
        }
    }

    /// How topics are made and written to.
    fn declared(&self, mut config: Config) -> Config {
        if let Some(partitions) = self.partitions {
            config = config.partitions(partitions.get());
        }
        if let Some(brokers) = self.replicas {
            config = config.replicas(brokers.get());
        }
        if let Some(seconds) = self.retention_seconds {
            config = config.retention(Duration::from_secs(seconds.get()));
        }
        match self.message_bytes_max {
            Some(bytes) => config.message_bytes_max(bytes.get()),
            None => config,
        }
    }
}
