//! Where the service is, who we are, and how subscriptions are declared.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ensue_core::{Code, Error};

use crate::client::PubsubBus;

/// What the service itself calls the limits.
const LEASE_SECONDS: std::ops::RangeInclusive<u64> = 10..=600;
const ATTEMPTS: std::ops::RangeInclusive<u32> = 5..=100;
const SERVICE: &str = "pubsub.googleapis.com:443";

/// How the service is connected to and used.
#[derive(Clone)]
pub struct Config {
    url: String,
    pub(crate) login: Login,
    pub(crate) authorities: Option<PathBuf>,
    pub(crate) answer_within: Duration,
    pub(crate) settle_within: Duration,
    pub(crate) lease: Duration,
    pub(crate) in_flight_max: usize,
    pub(crate) order: Order,
    pub(crate) guarantee: Guarantee,
    pub(crate) delivery_limit: Option<u32>,
    pub(crate) message_bytes_max: usize,
}

/// Who we are.
#[derive(Clone)]
pub(crate) enum Login {
    /// As Google's own tools find it: the file that `GOOGLE_APPLICATION_CREDENTIALS` names. Nobody towards an emulator.
    Found,
    Token(String),
    ServiceAccount(PathBuf),
}

/// Says which sort, never the secret.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found => f.write_str("Found"),
            Self::Token(_) => f.write_str("Token"),
            Self::ServiceAccount(file) => f.debug_tuple("ServiceAccount").field(file).finish(),
        }
    }
}

/// Whether subscriptions that are made keep the order of each key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    ByKey,
    None,
}

/// What the service promises of subscriptions that are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Guarantee {
    AtLeastOnce,
    /// What is in hand is delivered to nobody else, and whoever acknowledges too late is told.
    ExactlyOnce,
}

/// Where calls go to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Target {
    pub(crate) project: String,
    /// Host and port.
    pub(crate) endpoint: String,
    pub(crate) is_emulator: bool,
}

impl Config {
    /// From an address such as `pubsub://PROJECT`. `pubsub://PROJECT?emulator=HOST:PORT` goes to an emulator, without TLS and, where no
    /// token is given, without a login; `pubsub://PROJECT?endpoint=HOST:PORT` to another endpoint of the service, such as one of a region.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            login: Login::Found,
            authorities: None,
            answer_within: Duration::from_secs(10),
            settle_within: Duration::from_secs(30),
            lease: Duration::from_secs(30),
            in_flight_max: 256,
            order: Order::ByKey,
            guarantee: Guarantee::AtLeastOnce,
            delivery_limit: Some(*ATTEMPTS.end()),
            message_bytes_max: 9 * 1024 * 1024,
        }
    }

    /// Logs in with a token of OAuth 2, which is not renewed.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.login = Login::Token(token.into());
        self
    }

    /// Logs in as a service account, by the JSON file of its key. Tokens are signed here and renewed in time.
    #[must_use]
    pub fn service_account(mut self, file: impl Into<PathBuf>) -> Self {
        self.login = Login::ServiceAccount(file.into());
        self
    }

    /// Trusts the authorities in a PEM file instead of those of the machine. An emulator has no TLS.
    #[must_use]
    pub fn authorities(mut self, file: impl Into<PathBuf>) -> Self {
        self.authorities = Some(file.into());
        self
    }

    /// How long the service may take to answer; 10 s where nothing is said.
    #[must_use]
    pub fn answer_within(mut self, time: Duration) -> Self {
        self.answer_within = time;
        self
    }

    /// After which time a message that was not settled is handed back to be delivered again; 30 s where nothing is said. Until then the
    /// member extends its lease, so it may be longer than the service lets a lease be.
    #[must_use]
    pub fn settle_within(mut self, time: Duration) -> Self {
        self.settle_within = time;
        self
    }

    /// After which time the service delivers again what a member had in hand that is gone without a word; 30 s where nothing is said,
    /// and from 10 s to 600 s. Members that live extend it.
    #[must_use]
    pub fn lease(mut self, time: Duration) -> Self {
        let seconds = time.as_secs().clamp(*LEASE_SECONDS.start(), *LEASE_SECONDS.end());
        self.lease = Duration::from_secs(seconds);
        self
    }

    /// How many messages a member may have in hand or in front of it; 256 where nothing is said.
    #[must_use]
    pub fn in_flight_max(mut self, messages: usize) -> Self {
        self.in_flight_max = messages.max(1);
        self
    }

    /// Makes subscriptions without the order of keys, which are quicker for keys with many messages.
    #[must_use]
    pub fn without_order(mut self) -> Self {
        self.order = Order::None;
        self
    }

    /// Makes subscriptions with what the service calls exactly-once delivery: while its lease lasts, a message is delivered to nobody
    /// else, and acknowledging it afterwards is refused. It costs the service time, and holds for members in one region. What is taken
    /// into a log is there once either way.
    #[must_use]
    pub fn exactly_once(mut self) -> Self {
        self.guarantee = Guarantee::ExactlyOnce;
        self
    }

    /// How often a message may be delivered before the service itself moves it to the dead letters; 100 where nothing is said, which is
    /// the most that it offers, because giving up is for the application to decide. From 5 on.
    #[must_use]
    pub fn delivery_limit(mut self, deliveries: u32) -> Self {
        self.delivery_limit = Some(deliveries.clamp(*ATTEMPTS.start(), *ATTEMPTS.end()));
        self
    }

    /// Makes subscriptions without dead letters. Then the service does not count deliveries, and what is refused for good is gone.
    #[must_use]
    pub fn without_dead_letters(mut self) -> Self {
        self.delivery_limit = None;
        self
    }

    /// Largest message that is sent, attributes and body; 9 MiB where nothing is said, because the service takes requests of 10 MB.
    #[must_use]
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }

    /// Makes the bus. A service that cannot be reached yet is no error: calls fail as unreachable until it can. Wants to be called on a
    /// runtime of tokio. Fails with `E0440` where the address or a file is not understood.
    #[expect(clippy::unused_async, reason = "buses are opened alike")]
    pub async fn open(self) -> Result<PubsubBus, Error> {
        PubsubBus::open(self)
    }

    pub(crate) fn lease_seconds(&self) -> i32 {
        i32::try_from(self.lease.as_secs()).unwrap_or(i32::MAX)
    }

    pub(crate) fn target(&self) -> Result<Target, Error> {
        read(&self.url).ok_or_else(|| {
            let message = format!("`{}` is no address of Pub/Sub", self.url);
            Error::new(Code::BUS_ADDRESS, message).with_fix(
                "write it as pubsub://PROJECT, pubsub://PROJECT?emulator=HOST:PORT or pubsub://PROJECT?endpoint=HOST:PORT",
            )
        })
    }
}

fn read(url: &str) -> Option<Target> {
    let rest = url.strip_prefix("pubsub://")?;
    let (project, query) =
        rest.split_once('?').map_or((rest, None), |(project, query)| (project, Some(query)));
    let project = project.trim_end_matches('/');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':');
    if project.is_empty() || !project.chars().all(is_plain) {
        return None;
    }
    let (name, endpoint) = match query {
        None => ("endpoint", SERVICE),
        Some(query) => query.split_once('=')?,
    };
    let is_emulator = match name {
        "emulator" => true,
        "endpoint" => false,
        _ => return None,
    };
    let (host, port) = match endpoint.rsplit_once(':') {
        None if !is_emulator => (endpoint, 443),
        None => return None,
        Some((host, port)) => (host, port.parse::<u16>().ok()?),
    };
    let is_host = !host.is_empty() && host.chars().all(|c| is_plain(c) || matches!(c, '[' | ']' | '_'));
    is_host.then(|| Target { project: project.to_owned(), endpoint: format!("{host}:{port}"), is_emulator })
}

/// Without secrets.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("url", &self.url)
            .field("login", &self.login)
            .field("settle_within", &self.settle_within)
            .field("lease", &self.lease)
            .field("in_flight_max", &self.in_flight_max)
            .field("order", &self.order)
            .field("guarantee", &self.guarantee)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_project_and_endpoint() {
        let target = |url: &str| Config::new(url).target().expect("an address");
        let wanted = |project: &str, endpoint: &str, is_emulator| Target {
            project: project.to_owned(),
            endpoint: endpoint.to_owned(),
            is_emulator,
        };
        assert_eq!(target("pubsub://shop-1"), wanted("shop-1", SERVICE, false));
        assert_eq!(target("pubsub://example.com:shop"), wanted("example.com:shop", SERVICE, false));
        assert_eq!(target("pubsub://shop?emulator=localhost:8085"), wanted("shop", "localhost:8085", true));
        let region = "europe-west1-pubsub.googleapis.com";
        assert_eq!(
            target(&format!("pubsub://shop?endpoint={region}")),
            wanted("shop", &format!("{region}:443"), false)
        );
    }

    #[test]
    fn what_is_no_address_of_pubsub_is_refused() {
        for url in [
            "",
            "shop",
            "nats://shop",
            "pubsub://",
            "pubsub://a/b",
            "pubsub://shop?emulator",
            "pubsub://shop?emulator=localhost",
            "pubsub://shop?emulator=localhost:none",
            "pubsub://shop?port=1",
        ] {
            let refused = Config::new(url).target().map_err(|error| error.code());
            assert_eq!(refused, Err(Code::BUS_ADDRESS), "{url}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let text = format!("{:?}", Config::new("pubsub://shop").token("s3cret"));
        assert!(text.contains("shop") && !text.contains("s3cret"), "{text}");
    }

    #[test]
    fn limits_of_the_service_are_kept() {
        let config = Config::new("pubsub://shop").lease(Duration::from_secs(1)).delivery_limit(1);
        assert_eq!((config.lease, config.delivery_limit), (Duration::from_secs(10), Some(5)));
        let config = config.lease(Duration::from_hours(1)).delivery_limit(1000);
        assert_eq!((config.lease, config.delivery_limit), (Duration::from_mins(10), Some(100)));
    }
}
