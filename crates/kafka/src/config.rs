//! Where the cluster is, who we are, and how topics are declared.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ensue_core::{Code, Error};
use krafka::auth::{AuthConfig, TlsConfig};

use crate::client::KafkaBus;

/// How a cluster is connected to and used.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) url: String,
    pub(crate) login: Login,
    pub(crate) authorities: Option<PathBuf>,
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    pub(crate) answer_within: Duration,
    pub(crate) settle_within: Duration,
    pub(crate) prefix: String,
    pub(crate) instance: Option<String>,
    pub(crate) partitions: Option<i32>,
    pub(crate) replicas: Option<i16>,
    pub(crate) retention: Option<Duration>,
    pub(crate) message_bytes_max: usize,
}

/// How user and password are proved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mechanism {
    /// They are sent as they are: only with TLS.
    Plain,
    /// SCRAM-SHA-256.
    Scram256,
    /// SCRAM-SHA-512.
    Scram512,
}

/// Who we are.
#[derive(Clone)]
pub(crate) enum Login {
    Nobody,
    Password { mechanism: Mechanism, user: String, password: String },
    Token(String),
}

/// Says which sort, never the secret.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "Nobody",
            Self::Password { .. } => "Password",
            Self::Token(_) => "Token",
        })
    }
}

const SCHEME: &str = "kafka://";
const SCHEME_TLS: &str = "kafka+tls://";

impl Config {
    /// From an address such as `kafka://one:9092,two:9092`; `kafka+tls://` asks for TLS, and without a scheme it is a list of hosts and
    /// ports.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            login: Login::Nobody,
            authorities: None,
            certificate: None,
            answer_within: Duration::from_secs(5),
            settle_within: Duration::from_mins(5),
            prefix: String::new(),
            instance: None,
            partitions: None,
            replicas: None,
            retention: None,
            message_bytes_max: 1_000_000,
        }
    }

    /// Logs in with user and password.
    #[must_use]
    pub fn password(
        mut self,
        mechanism: Mechanism,
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Self {
        self.login = Login::Password { mechanism, user: user.into(), password: password.into() };
        self
    }

    /// Logs in with a token (OAUTHBEARER).
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.login = Login::Token(token.into());
        self
    }

    /// Trusts the authorities of this PEM file instead of those of the machine.
    #[must_use]
    pub fn authorities(mut self, file: impl Into<PathBuf>) -> Self {
        self.authorities = Some(file.into());
        self
    }

    /// Shows a certificate of our own, from two PEM files.
    #[must_use]
    pub fn certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.certificate = Some((certificate.into(), key.into()));
        self
    }

    /// How long the cluster may take to answer, all tries together; 5 s where nothing is said.
    #[must_use]
    pub fn answer_within(mut self, time: Duration) -> Self {
        self.answer_within = time;
        self
    }

    /// After which time a message that was not settled is delivered again: to its member, or, where that asks for nothing more, to
    /// another one, because it is then taken out of its group; 5 min where nothing is said.
    #[must_use]
    pub fn settle_within(mut self, time: Duration) -> Self {
        self.settle_within = time;
        self
    }

    /// Puts this in front of the names of topics and groups, for those who share a cluster.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Names this process in its groups (static membership): one of the same name that comes back in time gets its partitions again
    /// without a rebalance. No two processes may have the same name, and no process two members of one group on one topic.
    #[must_use]
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.instance = Some(name.into());
        self
    }

    /// How many partitions topics have. With it, one that is made here gets so many, and one that has another number is refused, because
    /// keys would be elsewhere. Without it the cluster decides.
    #[must_use]
    pub fn partitions(mut self, partitions: u16) -> Self {
        self.partitions = Some(i32::from(partitions.max(1)));
        self
    }

    /// How many brokers keep a topic that is made here; without it the cluster decides.
    #[must_use]
    pub fn replicas(mut self, brokers: u8) -> Self {
        self.replicas = Some(i16::from(brokers.max(1)));
        self
    }

    /// For how long topics keep messages. One that keeps them for another time is refused. Without it the cluster decides.
    #[must_use]
    pub fn retention(mut self, time: Duration) -> Self {
        self.retention = Some(time);
        self
    }

    /// Largest message that is sent, headers and body; 1,000,000 where nothing is said, which fits into what a topic takes by default.
    #[must_use]
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }

    /// Makes the bus. A cluster that is not there yet is no error: calls fail as unreachable until it is. Wants to be called on a runtime
    /// of tokio. Fails with `E0440` where the address or a file is not understood, and with `E0442` where the login is refused.
    pub async fn open(self) -> Result<KafkaBus, Error> {
        KafkaBus::open(self).await
    }

    /// Hosts and ports, and whether TLS was asked for.
    pub(crate) fn servers(&self) -> Result<(&str, bool), Error> {
        let (servers, with_tls) = match (self.url.strip_prefix(SCHEME_TLS), self.url.strip_prefix(SCHEME)) {
            (Some(servers), _) => (servers, true),
            (None, Some(servers)) => (servers, false),
            (None, None) => (self.url.as_str(), false),
        };
        let servers = servers.trim_end_matches('/');
        if servers.contains('@') {
            return Err(Error::new(Code::BUS_ADDRESS, "the address of Kafka holds credentials")
                .with_fix("leave them out of the address and give them with `password(..)`"));
        }
        if servers.contains("://") || servers.is_empty() {
            let message = format!("`{}` is no address of Kafka", self.url);
            return Err(
                Error::new(Code::BUS_ADDRESS, message).with_fix("write `kafka://host:9092,host:9092`")
            );
        }
        Ok((servers, with_tls))
    }

    /// What the driver needs to know of TLS and login.
    pub(crate) fn security(&self) -> Result<AuthConfig, Error> {
        let (_, asked) = self.servers()?;
        let security = match &self.login {
            Login::Nobody => AuthConfig::plaintext(),
            Login::Token(token) => AuthConfig::sasl_oauthbearer(token),
            Login::Password { mechanism, user, password } => match mechanism {
                Mechanism::Plain => AuthConfig::sasl_plain(user, password),
                Mechanism::Scram256 => AuthConfig::sasl_scram_sha256(user, password),
                Mechanism::Scram512 => AuthConfig::sasl_scram_sha512(user, password),
            },
        };
        if !asked && self.authorities.is_none() && self.certificate.is_none() {
            return Ok(security);
        }
        let tls = match &self.authorities {
            Some(file) => TlsConfig::new().with_ca_cert(readable(file)?),
            None => TlsConfig::new().with_native_roots(),
        };
        let tls = match &self.certificate {
            Some((certificate, key)) => tls.with_client_cert(readable(certificate)?, readable(key)?),
            None => tls,
        };
        Ok(match self.login {
            Login::Nobody => AuthConfig::ssl(tls),
            _ => security.with_tls(tls),
        })
    }
}

/// The driver names a file that cannot be read only when it connects.
fn readable(file: &PathBuf) -> Result<String, Error> {
    let failed = |cause: String| {
        Error::new(Code::BUS_ADDRESS, format!("cannot read the certificate {}: {cause}", file.display()))
    };
    std::fs::metadata(file).map_err(|cause| failed(cause.to_string()))?;
    let text = file.to_str().ok_or_else(|| failed("its path is no text".to_owned()))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_hosts_and_whether_tls_is_asked_for() {
        let servers = |url: &str| Config::new(url).servers().map(|(s, tls)| (s.to_owned(), tls)).ok();
        assert_eq!(servers("kafka://a:1,b:2/"), Some(("a:1,b:2".to_owned(), false)));
        assert_eq!(servers("kafka+tls://a:1"), Some(("a:1".to_owned(), true)));
        assert_eq!(servers("a:1"), Some(("a:1".to_owned(), false)));
        assert_eq!(servers("amqp://a:1"), None);
    }

    #[test]
    fn no_secret_is_shown() {
        let config = Config::new("kafka://user:hunter2@a:1").password(Mechanism::Plain, "user", "hunter3");
        let error = config.servers().expect_err("credentials do not belong there");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        assert!(!format!("{config:?}").contains("hunter3"), "{config:?}");
    }

    #[test]
    fn a_certificate_that_is_not_there_is_named() {
        let config = Config::new("kafka+tls://a:1").authorities("/nowhere/ca.pem");
        let error = config.security().map(|_| ()).expect_err("there is no such file");
        assert_eq!(error.code(), Code::BUS_ADDRESS);
        assert!(error.message().contains("/nowhere/ca.pem"), "{error:?}");
    }
}
