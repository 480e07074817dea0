//! Where the server is, who we are, and how streams and consumers are declared.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ensue_core::{Code, Error};

use crate::client::NatsBus;

/// How a server is connected to and used.
#[derive(Clone)]
pub struct Config {
    pub(crate) url: String,
    pub(crate) login: Login,
    pub(crate) authorities: Option<PathBuf>,
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    pub(crate) answer_within: Duration,
    pub(crate) settle_within: Duration,
    pub(crate) duplicate_window: Duration,
    pub(crate) in_flight_max: usize,
    pub(crate) replicas: usize,
    pub(crate) retention: Option<Duration>,
    pub(crate) message_bytes_max: usize,
}

/// Who we are, where the address does not say so.
#[derive(Clone)]
pub(crate) enum Login {
    InAddress,
    Token(String),
    Password { user: String, password: String },
    Nkey(String),
    Credentials(PathBuf),
}

/// Says which sort, never the secret.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InAddress => "InAddress",
            Self::Token(_) => "Token",
            Self::Password { .. } => "Password",
            Self::Nkey(_) => "Nkey",
            Self::Credentials(_) => "Credentials",
        })
    }
}

/// Says where to, never the login that an address may hold.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.url.split(',').map(|url| url.rsplit_once('@').map_or(url, |(_, host)| host));
        f.debug_struct("Config")
            .field("hosts", &hosts.collect::<Vec<_>>())
            .field("login", &self.login)
            .field("settle_within", &self.settle_within)
            .field("in_flight_max", &self.in_flight_max)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// From an address such as `nats://user:password@host:4222`, several of one cluster separated by commas; `tls://` asks for TLS.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            login: Login::InAddress,
            authorities: None,
            certificate: None,
            answer_within: Duration::from_secs(5),
            settle_within: Duration::from_secs(30),
            duplicate_window: Duration::from_mins(10),
            in_flight_max: 1024,
            replicas: 1,
            retention: None,
            message_bytes_max: 1024 * 1024,
        }
    }

    /// Logs in with a token.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.login = Login::Token(token.into());
        self
    }

    /// Logs in with user and password.
    #[must_use]
    pub fn password(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.login = Login::Password { user: user.into(), password: password.into() };
        self
    }

    /// Logs in with the seed of an nkey.
    #[must_use]
    pub fn nkey(mut self, seed: impl Into<String>) -> Self {
        self.login = Login::Nkey(seed.into());
        self
    }

    /// Logs in with a file of credentials, as `nsc` writes it.
    #[must_use]
    pub fn credentials(mut self, file: impl Into<PathBuf>) -> Self {
        self.login = Login::Credentials(file.into());
        self
    }

    /// Trusts the authorities of this PEM file besides those of the machine. Wants a `tls://` address.
    #[must_use]
    pub fn authorities(mut self, file: impl Into<PathBuf>) -> Self {
        self.authorities = Some(file.into());
        self
    }

    /// Shows a certificate of our own, from two PEM files. Wants a `tls://` address.
    #[must_use]
    pub fn certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.certificate = Some((certificate.into(), key.into()));
        self
    }

    /// How long the server may take to answer; 5 s where nothing is said.
    #[must_use]
    pub fn answer_within(mut self, time: Duration) -> Self {
        self.answer_within = time;
        self
    }

    /// After which time a message that was not settled is delivered again; 30 s where nothing is said. It is written into the
    /// consumer when that is made.
    #[must_use]
    pub fn settle_within(mut self, time: Duration) -> Self {
        self.settle_within = time;
        self
    }

    /// For how long a stream that is made here knows ids again; 10 min where nothing is said.
    #[must_use]
    pub fn duplicate_window(mut self, window: Duration) -> Self {
        self.duplicate_window = window;
        self
    }

    /// How many messages of one group are delivered and not settled at any time; 1,024 where nothing is said, so that some arrive while
    /// others are taken in. With 1, and only then,
    /// the order of keys holds through redeliveries and with several members.
    #[must_use]
    pub fn in_flight_max(mut self, messages: usize) -> Self {
        self.in_flight_max = messages.max(1);
        self
    }

    /// How many servers keep a stream that is made here; 1 where nothing is said.
    #[must_use]
    pub fn replicas(mut self, servers: usize) -> Self {
        self.replicas = servers.max(1);
        self
    }

    /// For how long a stream that is made here keeps messages; for ever where nothing is said. Ids are then known again for as long at most.
    #[must_use]
    pub fn retention(mut self, time: Duration) -> Self {
        self.retention = Some(time);
        self
    }

    /// Largest message that is sent, headers and body; 1 MiB where nothing is said, as is `max_payload` of the server.
    #[must_use]
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }

    /// Makes the bus. A server that is not there yet is no error: calls fail as unreachable until it is. Wants to be called on a runtime
    /// of tokio. Fails with `E0440` where the address or a file is not understood.
    pub async fn open(self) -> Result<NatsBus, Error> {
        self.check_files()?;
        NatsBus::open(self).await
    }

    /// Without TLS the files would say nothing, and somebody would believe in a secured connection. The driver names one that cannot be
    /// read only to itself, and tries again for ever.
    fn check_files(&self) -> Result<(), Error> {
        let pair = self.certificate.iter().flat_map(|(certificate, key)| [certificate, key]);
        let mut files = self.authorities.iter().chain(pair).peekable();
        let is_secured = self.url.split(',').all(|server| server.trim().starts_with("tls://"));
        if files.peek().is_some() && !is_secured {
            let message = "there are files for TLS, and an address that does not ask for it";
            return Err(Error::new(Code::BUS_ADDRESS, message)
                .with_fix("write the address as `tls://host:4222`, or leave the files out"));
        }
        files.try_for_each(|file| check_readable(file))
    }
}

fn check_readable(file: &Path) -> Result<(), Error> {
    std::fs::File::open(file).map(drop).map_err(|cause| {
        let message = format!("cannot read {}: {cause}", file.display());
        Error::new(Code::BUS_ADDRESS, message).with_source(cause)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let config = Config::new("nats://user:secret@one:4222,tls://user:secret@two:4222").token("secret");
        let text = format!("{config:?}");
        assert!(text.contains("one:4222") && text.contains("two:4222") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn files_for_tls_want_an_address_that_asks_for_it_and_must_be_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let there = folder.path().join("ca.pem");
        std::fs::write(&there, "").expect("the folder is ours");
        let refused = |url: &str, file: &Path| {
            let authorities = Config::new(url).authorities(file).check_files();
            let certificate = Config::new(url).certificate(file, &there).check_files();
            let errors = [authorities, certificate]
                .map(|checked| checked.err().map(|error| (error.code(), error.message().to_owned())));
            let [one, other] = errors;
            assert_eq!(one, other, "{url}");
            one
        };
        for url in ["nats://h", "h:4222", "tls://h,nats://h"] {
            let (code, message) = refused(url, &there).expect(url);
            assert!(code == Code::BUS_ADDRESS && message.contains("does not ask"), "{url}: {message}");
        }
        assert_eq!(refused("tls://h, tls://i", &there), None);
        let (code, message) = refused("tls://h", Path::new("/nowhere/ca.pem")).expect("it is not there");
        assert!(code == Code::BUS_ADDRESS && message.contains("/nowhere/ca.pem"), "{message}");
        Config::new("nats://h").check_files().expect("there are no files");
    }
}
