//! The brokers: one entry in the table and one file for each.

use std::path::PathBuf;
use std::sync::Arc;

use ensue::core::{BoxFuture, Bus, Code, Error};
use serde::de::DeserializeOwned;
use toml::Table;

use super::wrong;

#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "pubsub")]
mod pubsub;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;

const BACKENDS: &[Backend] = &[
    #[cfg(feature = "kafka")]
    Backend::of::<kafka::Options>("kafka"),
    #[cfg(not(feature = "kafka"))]
    Backend::without_driver("kafka"),
    #[cfg(feature = "rabbitmq")]
    Backend::of::<rabbitmq::Options>("rabbitmq"),
    #[cfg(not(feature = "rabbitmq"))]
    Backend::without_driver("rabbitmq"),
    #[cfg(feature = "nats")]
    Backend::of::<nats::Options>("nats"),
    #[cfg(not(feature = "nats"))]
    Backend::without_driver("nats"),
    #[cfg(feature = "pubsub")]
    Backend::of::<pubsub::Options>("pubsub"),
    #[cfg(not(feature = "pubsub"))]
    Backend::without_driver("pubsub"),
    Backend::without_driver("eventbridge"),
];

/// What every link may say of its broker. What a broker has no use for is refused by its file.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) url: String,
    pub(crate) login: Login,
    pub(crate) authorities: Option<PathBuf>,
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
}

/// How a link logs in.
pub(crate) enum Login {
    /// The address may say it.
    Unsaid,
    Password {
        user: String,
        password: String,
    },
    Token(String),
    Credentials(PathBuf),
}

/// Says which sort, never the secret.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unsaid => "Unsaid",
            Self::Password { .. } => "Password",
            Self::Token(_) => "Token",
            Self::Credentials(_) => "Credentials",
        })
    }
}

/// What a link may say for one broker alone, and how it is connected to.
trait Driver: DeserializeOwned + Send + 'static {
    /// Connects. A broker that is away is found later.
    fn open(self, connection: Connection) -> BoxFuture<'static, Result<Arc<dyn Bus>, Error>>;
}

/// Reads what is said for one broker alone.
type Check = fn(Table) -> Result<(), String>;
/// Connects to a broker.
type Open = fn(Table, Connection) -> BoxFuture<'static, Result<Arc<dyn Bus>, Error>>;

/// A broker by the name that files call it. Without a driver, this program was built without the feature of that name.
struct Backend {
    name: &'static str,
    driver: Option<(Check, Open)>,
}

impl Backend {
    #[cfg_attr(
        not(any(feature = "kafka", feature = "nats", feature = "pubsub", feature = "rabbitmq")),
        expect(dead_code, reason = "a program without drivers")
    )]
    const fn of<D: Driver>(name: &'static str) -> Self {
        Self { name, driver: Some((|own| read::<D>(own).map(drop), open_with::<D>)) }
    }

    const fn without_driver(name: &'static str) -> Self {
        Self { name, driver: None }
    }
}

fn read<D: Driver>(own: Table) -> Result<D, String> {
    own.try_into().map_err(|error: toml::de::Error| super::file::without_text(&error.to_string()))
}

fn open_with<D: Driver>(
    own: Table,
    connection: Connection,
) -> BoxFuture<'static, Result<Arc<dyn Bus>, Error>> {
    match read::<D>(own) {
        Ok(driver) => driver.open(connection),
        Err(said) => Box::pin(async move { Err(wrong(said, FIX)) }),
    }
}

/// Where it stands what a file may say.
pub(super) const FIX: &str = "docs/guides/linking-a-broker.md has what a link may say, and for which broker";

fn find(link: &str, name: &str) -> Result<&'static Backend, Error> {
    BACKENDS.iter().find(|backend| backend.name == name).ok_or_else(|| {
        let names: Vec<&str> = BACKENDS.iter().map(|backend| backend.name).collect();
        let message = format!("link {link} is over `{}`, which is no broker known here", name.escape_debug());
        wrong(message, &format!("use one of {}", names.join(", ")))
    })
}

/// Whether a link over this broker may say this. Errors: `E0510` for a broker of no known name and for what it has no use for; what is
/// said for a broker that this program was built without is not looked at.
pub(super) fn check(link: &str, name: &str, own: &Table) -> Result<(), Error> {
    let Some((check, _)) = find(link, name)?.driver else { return Ok(()) };
    check(own.clone()).map_err(|said| {
        let message = format!("link {link}: {said}: for {name}, besides what every link may say");
        wrong(message, FIX)
    })
}

/// Connects. Errors: `E0506` for a broker that this program was built without, and what the driver says.
pub(super) async fn open(
    link: &str,
    name: &str,
    own: Table,
    connection: Connection,
) -> Result<Arc<dyn Bus>, Error> {
    let Some((_, open)) = find(link, name)?.driver else {
        let message = format!("link {link} is over {name}, and this program was built without its driver");
        return Err(Error::new(Code::UNSUPPORTED, message).with_fix(format!(
            "build `ensue-cli` with `--features {name}`, if this version has that feature"
        )));
    };
    open(own, connection).await
}

/// The error for a setting that a broker has no use for.
fn useless(backend: &str, setting: &str) -> Error {
    wrong(format!("a link over {backend} has no use for `{setting}`"), "leave it out")
}
