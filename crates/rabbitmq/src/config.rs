//! Where the broker is, who we are, and how exchanges and queues are declared.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ensue_core::{Code, Error};
use lapin::uri::{AMQPUri, SASLMechanism};

use crate::client::RabbitmqBus;
use crate::tls::Trust;

/// How often each side says that it lives, where the address does not say otherwise.
const HEARTBEAT_SECONDS: u16 = 10;

/// How a broker is connected to and used.
#[derive(Clone)]
pub struct Config {
    url: String,
    login: Login,
    pub(crate) trust: Trust,
    pub(crate) answer_within: Duration,
    pub(crate) settle_within: Duration,
    pub(crate) in_flight_max: u16,
    pub(crate) replicas: Option<u32>,
    pub(crate) delivery_limit: u32,
    pub(crate) exchange: Exchange,
    pub(crate) route: Route,
    pub(crate) message_bytes_max: usize,
}

/// Who we are, where the address does not say so.
#[derive(Clone)]
enum Login {
    InAddress,
    Password { user: String, password: String },
    Token(String),
}

/// The sort of an exchange that is made here; one that is there already may be of any sort.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Exchange {
    /// Routes by patterns over the routing key.
    #[default]
    Topic,
    /// Routes by the whole routing key.
    Direct,
    /// Routes to every queue.
    FanOut,
    /// Routes by headers.
    Headers,
}

/// What the routing key of a message is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Route {
    /// `TOPIC.TYPE`, such as `Order.OrderPlaced`.
    #[default]
    TopicAndType,
    /// The type of the event.
    Type,
    /// The key of the stream.
    Key,
    /// Always this.
    Fixed(String),
}

impl Config {
    /// From an address such as `amqp://user:password@host:5672/vhost`. The virtual host `/` is written `%2f`; `?heartbeat=SECONDS` may
    /// follow; `amqps://` asks for TLS.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            login: Login::InAddress,
            trust: Trust::default(),
            answer_within: Duration::from_secs(5),
            settle_within: Duration::from_secs(30),
            in_flight_max: 1024,
            replicas: None,
            delivery_limit: 100_000,
            exchange: Exchange::default(),
            route: Route::default(),
            message_bytes_max: 16 * 1024 * 1024,
        }
    }

    /// Logs in with user and password.
    #[must_use]
    pub fn password(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.login = Login::Password { user: user.into(), password: password.into() };
        self
    }

    /// Logs in with a token of OAuth 2, which the broker's plugin takes in the place of a password.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.login = Login::Token(token.into());
        self
    }

    /// Trusts the authorities in a PEM file instead of those of the machine. Wants an `amqps://` address.
    #[must_use]
    pub fn authorities(mut self, file: impl Into<PathBuf>) -> Self {
        self.trust.authorities = Some(file.into());
        self
    }

    /// Shows a certificate of our own, from two PEM files. Wants an `amqps://` address.
    #[must_use]
    pub fn certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.trust.certificate = Some((certificate.into(), key.into()));
        self
    }

    /// How long the broker may take to answer; 5 s where nothing is said.
    #[must_use]
    pub fn answer_within(mut self, time: Duration) -> Self {
        self.answer_within = time;
        self
    }

    /// After which time a message that was not settled is handed back to be delivered again; 30 s where nothing is said. A process that
    /// stands still as a whole is cut off by the broker: it misses its heartbeats.
    #[must_use]
    pub fn settle_within(mut self, time: Duration) -> Self {
        self.settle_within = time;
        self
    }

    /// How many messages a member may have in hand; 1,024 where nothing is said, so that some arrive while others are taken in. With 1, and
    /// only then, the order of keys holds through
    /// redeliveries and with several members: queues that are made then have a single active consumer.
    #[must_use]
    pub fn in_flight_max(mut self, messages: u16) -> Self {
        self.in_flight_max = messages.max(1);
        self
    }

    /// How many brokers of a cluster keep a queue that is made here; as the broker decides where nothing is said.
    #[must_use]
    pub fn replicas(mut self, brokers: u32) -> Self {
        self.replicas = Some(brokers.max(1));
        self
    }

    /// How often a message may come back before the broker moves it to the dead letters by itself; 100,000 where nothing is said,
    /// because giving up is for the application to decide. It is written into the queue when that is made, and cannot be left out: a
    /// queue without it puts what comes back at its end (and RabbitMQ 4 limits it to 20).
    #[must_use]
    pub fn delivery_limit(mut self, deliveries: u32) -> Self {
        self.delivery_limit = deliveries;
        self
    }

    /// Of which sort an exchange is that is made here; [`Exchange::Topic`] where nothing is said.
    #[must_use]
    pub fn exchange(mut self, exchange: Exchange) -> Self {
        self.exchange = exchange;
        self
    }

    /// What the routing key of a message is; [`Route::TopicAndType`] where nothing is said.
    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        self.route = route;
        self
    }

    /// Largest message that is sent, headers and body; 16 MiB where nothing is said, as is `max_message_size` of RabbitMQ 4.
    #[must_use]
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }

    /// Makes the bus. A broker that is not there yet is no error: calls fail as unreachable until it is. Wants to be called on a runtime
    /// of tokio. Fails with `E0440` where the address, a file or the certificate of the broker is
    /// no good, and with `E0442` where it does not let us in.
    pub async fn open(self) -> Result<RabbitmqBus, Error> {
        RabbitmqBus::open(self).await
    }

    /// The address with the login in it.
    pub(crate) fn uri(&self) -> Result<AMQPUri, Error> {
        // What the driver says of an address that it does not understand holds the password.
        let mut uri: AMQPUri = self.url.parse().map_err(|_| {
            Error::new(Code::BUS_ADDRESS, format!("`{}` is no address of RabbitMQ", shown(&self.url)))
                .with_fix(
                    "write it as amqp://user:password@host:5672/vhost, with %2f for the virtual host `/`",
                )
        })?;
        let login = &mut uri.authority.userinfo;
        match &self.login {
            Login::InAddress => {}
            Login::Password { user, password } => {
                (login.username, login.password) = (user.clone(), password.clone());
            }
            Login::Token(token) => {
                (login.username, login.password) = (String::new(), token.clone());
                uri.query.auth_mechanism = Some(SASLMechanism::Plain);
            }
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        Ok(uri)
    }
}

/// The address without what stands before the host.
fn shown(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        (None, Some((_, host))) => format!("…@{host}"),
        (_, None) => url.to_owned(),
    }
}

/// Without secrets.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = match self.login {
            Login::InAddress => "in the address",
            Login::Password { .. } => "password",
            Login::Token(_) => "token",
        };
        f.debug_struct("Config")
            .field("url", &shown(&self.url))
            .field("login", &login)
            .field("in_flight_max", &self.in_flight_max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_in_no_message() {
        for url in [
            "amqp://me:s3cret@host/%2f",
            "http://me:s3cret@host",
            "me:s3cret@host",
            "amqp://me:s3cret@@ho st",
        ] {
            let config = Config::new(url).token("s3cret");
            let error = config.uri().err().map(|error| format!("{error} {error:?} {}", error.fix()));
            assert!(!format!("{config:?} {error:?}").contains("s3cret"), "{url}");
        }
    }

    #[test]
    fn what_is_no_address_of_rabbitmq_is_refused() {
        for url in ["", "host:5672", "nats://host", "amqp://host?heartbeat=often"] {
            assert_eq!(Config::new(url).uri().map_err(|error| error.code()), Err(Code::BUS_ADDRESS), "{url}");
        }
    }

    #[test]
    fn the_login_goes_into_the_address() {
        let uri = Config::new("amqp://host/shop").password("me", "s3cret").uri().expect("a valid address");
        let login = (uri.authority.userinfo.username.as_str(), uri.authority.userinfo.password.as_str());
        assert_eq!((login, uri.vhost.as_str(), uri.query.heartbeat), (("me", "s3cret"), "shop", Some(10)));
    }
}
