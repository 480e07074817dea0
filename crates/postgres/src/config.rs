//! How a database is opened.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ensue_core::{Code, Error};
use tokio_postgres::config::{Host, SslMode};

use crate::address::{self, Mode};
use crate::outage::{Outage, Tell};
#[cfg(not(feature = "tls"))]
use crate::plain::{Connector, connector};
use crate::store::PostgresStore;
#[cfg(feature = "tls")]
use crate::tls::{Connector, connector};

/// How long it may take to reach one host, where the address does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the database is and how it is used.
#[derive(Clone)]
pub struct Config {
    pub(crate) server: tokio_postgres::Config,
    pub(crate) connector: Connector,
    pub(crate) connections_max: usize,
    pub(crate) poll_interval: Duration,
    pub(crate) patience: Duration,
    pub(crate) statement_timeout: Duration,
    pub(crate) migration: Migration,
    pub(crate) on_outage: Option<Tell>,
}

/// What opening does about the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Migration {
    /// Brings it up to date.
    Run,
    /// Refuses one that is not.
    Check,
    /// The same, and does not ask whether anything can be written.
    ToRead,
}

impl Config {
    /// From a URL such as `postgres://user:password@host:5432/database` or a line of `key=value` pairs.
    ///
    /// `sslmode`, `sslrootcert`, `sslcert` and `sslkey` mean what they mean to libpq; where nothing is said, TLS is used if the
    /// server has it and nothing is verified. Certificates are read now. Fails with `E0420`, or with `E0428` where they cannot be.
    pub fn new(url: &str) -> Result<Self, Error> {
        let (driver, security) = address::parse(url)?;
        let mut server: tokio_postgres::Config = driver.parse().map_err(|cause: tokio_postgres::Error| {
            Error::new(Code::DATABASE_URL, "the address of the database is not understood").with_source(cause)
        })?;
        if server.get_hosts().is_empty() {
            // The driver looks for the name in a certificate among the hosts alone.
            let addresses: Vec<String> = server.get_hostaddrs().iter().map(ToString::to_string).collect();
            for address in addresses {
                server.host(address);
            }
        }
        let is_local = server.get_hosts().iter().all(|host| !matches!(host, Host::Tcp(_)));
        server.ssl_mode(match security.mode {
            Mode::Prefer if !is_local => SslMode::Prefer,
            // A socket of this machine needs none, as libpq has it.
            Mode::Disable | Mode::Prefer => SslMode::Disable,
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
        });
        let connector = connector(&security)?;
        if server.get_connect_timeout().is_none() {
            server.connect_timeout(CONNECT_TIMEOUT);
        }
        Ok(Self {
            server,
            connector,
            connections_max: 8,
            poll_interval: Duration::from_millis(20),
            patience: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(30),
            migration: Migration::Run,
            on_outage: None,
        })
    }

    /// Where the servers are, to name them in an error.
    pub(crate) fn place(&self) -> String {
        let ports = self.server.get_ports();
        let hosts = self.server.get_hosts().iter().enumerate().map(|(nth, host)| {
            let host = match host {
                // Before an `@` that was not written `%40` stands a part of the password.
                Host::Tcp(name) => name.rsplit('@').next().unwrap_or_default().to_owned(),
                #[cfg(unix)]
                Host::Unix(folder) => folder.display().to_string(),
            };
            let port = ports.get(nth).or(ports.first()).copied().unwrap_or(5432);
            format!("{host}:{port}")
        });
        hosts.collect::<Vec<_>>().join(", ")
    }

    /// At most so many connections at once; at least two, and eight where nothing is said.
    #[must_use]
    pub fn connections_max(mut self, connections: usize) -> Self {
        self.connections_max = connections.max(2);
        self
    }

    /// How often a reader at the tail looks for what other processes have appended; 20 ms where nothing is said.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// How long a call goes on trying while the server is away or others hold what it needs; 10 s where nothing is said.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long one statement may take; 30 s where nothing is said.
    #[must_use]
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// Leaves the schema alone: one that is absent or older than this program is an error.
    #[must_use]
    pub fn without_migration(mut self) -> Self {
        self.migration = Migration::Check;
        self
    }

    /// Opens the store also where nothing can be written, such as on a hot standby, and leaves the schema alone. Commits are refused
    /// with `E0424` until the server takes writes.
    #[must_use]
    pub fn to_read(mut self) -> Self {
        self.migration = Migration::ToRead;
        self
    }

    /// Who is told, once each, that the server can no longer be reached and that it can again: a line in a log, or on the terminal.
    /// It is called where connections are made, so it should return at once.
    #[must_use]
    pub fn on_outage(mut self, tell: impl Fn(&Outage) + Send + Sync + 'static) -> Self {
        self.on_outage = Some(Arc::new(tell));
        self
    }

    /// How long it may take until a connection is made and the server has let us in. A server that stands still keeps its ports open, so
    /// that the time of the driver, which ends with TCP, does not end.
    pub(crate) fn connect_max(&self) -> Duration {
        let hosts = u32::try_from(self.server.get_hosts().len()).unwrap_or(u32::MAX);
        let each = self.server.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
        each.saturating_mul(hosts.max(1)).saturating_add(self.patience)
    }

    /// How long no answer may come to the statements of one flight: some wait for others and some for the log, and the server itself ends
    /// each after its time.
    pub(crate) fn silence_max(&self) -> Duration {
        self.statement_timeout.saturating_mul(2).saturating_add(self.connect_max())
    }

    /// What makes a connection secure, or leaves it as it is.
    pub(crate) fn connector(&self) -> Connector {
        Connector::clone(&self.connector)
    }

    /// Connects and opens the store. Wants to be called on a runtime of tokio.
    pub async fn open(self) -> Result<PostgresStore, Error> {
        PostgresStore::open(self).await
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("server", &self.server).finish_non_exhaustive()
    }
}
