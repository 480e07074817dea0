//! Where `EventBridge` is, who we are, and how queues are declared and held.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ensue_core::{Code, Error};

use crate::client::EventbridgeBus;

/// For how long a queue may hide a message at most.
pub(crate) const HIDDEN_MAX: Duration = Duration::from_hours(12);
/// For how long a queue hides a message at least, in whole seconds: half of it is for waiting until there is one.
const HIDDEN_MIN: Duration = Duration::from_secs(2);
/// The most deliveries that a queue counts before it moves a message to the dead letters.
const DELIVERY_LIMIT_MAX: u32 = 1000;

/// How `EventBridge` is reached and used.
#[derive(Clone)]
pub struct Config {
    url: String,
    pub(crate) login: Login,
    pub(crate) authorities: Option<PathBuf>,
    pub(crate) answer_within: Duration,
    pub(crate) settle_within: Duration,
    pub(crate) hidden_for: Duration,
    pub(crate) delivery_limit: u32,
    pub(crate) entry_bytes_max: usize,
}

/// Who we are.
#[derive(Clone)]
pub(crate) enum Login {
    /// As the environment says: variables, the files of the profile, the container, the machine.
    Environment,
    Profile(String),
    Keys {
        id: String,
        secret: String,
        session: Option<String>,
    },
}

/// What the address says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Place {
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
}

impl Config {
    /// From an address such as `aws://eu-central-1`; without a region it is `aws://`, and the region comes from the environment or the
    /// profile. `?endpoint=http://127.0.0.1:5000` goes elsewhere than to Amazon, for both services: to a fake, or to an endpoint inside a
    /// private network.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            login: Login::Environment,
            authorities: None,
            answer_within: Duration::from_secs(5),
            settle_within: Duration::from_mins(15),
            hidden_for: Duration::from_secs(30),
            delivery_limit: DELIVERY_LIMIT_MAX,
            entry_bytes_max: 256 * 1024,
        }
    }

    /// Logs in as this profile of the files that Amazon's tools share.
    #[must_use]
    pub fn profile(mut self, name: impl Into<String>) -> Self {
        self.login = Login::Profile(name.into());
        self
    }

    /// Logs in with an access key.
    #[must_use]
    pub fn keys(mut self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.login = Login::Keys { id: id.into(), secret: secret.into(), session: None };
        self
    }

    /// Adds the token of a session to an access key; without a key it changes nothing.
    #[must_use]
    pub fn session(mut self, token: impl Into<String>) -> Self {
        if let Login::Keys { session, .. } = &mut self.login {
            *session = Some(token.into());
        }
        self
    }

    /// Trusts the authorities in a PEM file instead of those of the machine.
    #[must_use]
    pub fn authorities(mut self, file: impl Into<PathBuf>) -> Self {
        self.authorities = Some(file.into());
        self
    }

    /// How long Amazon may take to answer; 5 s where nothing is said.
    #[must_use]
    pub fn answer_within(mut self, time: Duration) -> Self {
        self.answer_within = time;
        self
    }

    /// How long a member may have a message in hand; 15 min where nothing is said, 12 hours at most. For so long it is kept hidden from
    /// others, as long as the member lives.
    #[must_use]
    pub fn settle_within(mut self, time: Duration) -> Self {
        self.settle_within = time.clamp(HIDDEN_MIN, HIDDEN_MAX);
        self
    }

    /// After which time a message comes again whose member is gone without a word; 30 s where nothing is said. Queues count in whole
    /// seconds; 2 s is the least.
    #[must_use]
    pub fn hidden_for(mut self, time: Duration) -> Self {
        self.hidden_for = Duration::from_secs(time.as_secs()).clamp(HIDDEN_MIN, HIDDEN_MAX);
        self
    }

    /// How often a message may be delivered before the queue moves it to the dead letters by itself; 1,000 where nothing is said, which is
    /// the most there is, because giving up is for the application to decide. It is written into the queue when that is made.
    #[must_use]
    pub fn delivery_limit(mut self, deliveries: u32) -> Self {
        self.delivery_limit = deliveries.clamp(1, DELIVERY_LIMIT_MAX);
        self
    }

    /// Largest entry, which is also the largest request: 256 KiB where nothing is said, which Amazon takes in all regions.
    #[must_use]
    pub fn entry_bytes_max(mut self, bytes: usize) -> Self {
        self.entry_bytes_max = bytes;
        self
    }

    /// Makes the bus. Amazon being out of reach is no error: calls fail as unreachable until it is there. Wants to be called on a runtime of
    /// tokio. Fails with `E0440` where the address or a file is not understood, or no region is known.
    pub async fn open(self) -> Result<EventbridgeBus, Error> {
        EventbridgeBus::open(self).await
    }

    /// What fits into an entry even if every byte of it must be written in Base64.
    pub(crate) fn message_bytes_max(&self) -> usize {
        self.entry_bytes_max / 4 * 3
    }

    /// What the address says.
    pub(crate) fn place(&self) -> Result<Place, Error> {
        let wrong = |why: &str| {
            // Whoever has put a secret into the address shall not find it in a log.
            Error::new(Code::BUS_ADDRESS, format!("the address of EventBridge {why}")).with_fix(
                "write it as aws://REGION or aws://REGION?endpoint=URL; keys are configured beside it",
            )
        };
        let rest = self.url.strip_prefix("aws://").ok_or_else(|| wrong("does not begin with `aws://`"))?;
        let (region, query) = rest.split_once('?').unwrap_or((rest, ""));
        let region = region.trim_end_matches('/');
        if region.bytes().any(|byte| !byte.is_ascii_alphanumeric() && byte != b'-') {
            return Err(wrong("holds something else than a region where the region is expected"));
        }
        let mut place = Place { region: (!region.is_empty()).then(|| region.to_owned()), endpoint: None };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("endpoint", url)) if url.starts_with("http://") || url.starts_with("https://") => {
                    place.endpoint = Some(url.to_owned());
                }
                Some(("endpoint", _)) => return Err(wrong("names an endpoint that is no http or https URL")),
                _ => return Err(wrong("has a parameter other than `endpoint`")),
            }
        }
        Ok(place)
    }
}

/// Says where to and what sort of login it is, never a secret.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = match self.login {
            Login::Environment => "environment",
            Login::Profile(_) => "profile",
            Login::Keys { .. } => "keys",
        };
        f.debug_struct("Config")
            .field("place", &self.place().ok())
            .field("login", &login)
            .field("settle_within", &self.settle_within)
            .field("delivery_limit", &self.delivery_limit)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_in_no_message() {
        for url in ["aws://eu-central-1", "aws://AKIA:s3cret@eu-central-1", "aws://x?s3cret=1", "s3cret"] {
            let config = Config::new(url).keys("AKIA", "s3cret").session("s3cret");
            let error = config.place().err().map(|error| format!("{error} {error:?} {}", error.fix()));
            assert!(!format!("{config:?} {error:?}").contains("s3cret"), "{url}");
        }
    }

    #[test]
    fn what_is_no_address_of_eventbridge_is_refused() {
        for url in ["", "eu-central-1", "aws://a b", "aws://x?endpoint=127.0.0.1", "aws://x?profile=me"] {
            let error = Config::new(url).place().expect_err(url);
            assert_eq!(error.code(), Code::BUS_ADDRESS, "{url}");
        }
    }

    #[test]
    fn the_address_says_region_and_endpoint() {
        let place = |url: &str| {
            let place = Config::new(url).place().expect("a valid address");
            (place.region.unwrap_or_default(), place.endpoint.unwrap_or_default())
        };
        assert_eq!(place("aws://"), (String::new(), String::new()));
        assert_eq!(place("aws://eu-central-1"), ("eu-central-1".into(), String::new()));
        let fake = "aws://us-east-1?endpoint=http://127.0.0.1:5000";
        assert_eq!(place(fake), ("us-east-1".into(), "http://127.0.0.1:5000".into()));
    }
}
