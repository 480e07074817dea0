//! The brokers: one entry in the table and one file for each.

use std::path::PathBuf;
use std::sync::Arc;

use ensue::core::{BoxFuture, Bus, Code, Error};
use serde::de::DeserializeOwned;
use toml::Table;

use super::wrong;

#[cfg(feature = "eventbridge")]
mod eventbridge;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "pubsub")]
mod pubsub;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;

/// A broker by the name that files call it, which is also that of its feature.
macro_rules! backend {
    ($name:tt, $file:ident) => {{
        #[cfg(feature = $name)]
        let driver = Some(driver::<$file::Options>());
        #[cfg(not(feature = $name))]
        let driver = None;
        Backend { name: $name, driver }
    }};
}

const BACKENDS: &[Backend] = &[
    backend!("kafka", kafka),
    backend!("rabbitmq", rabbitmq),
    backend!("nats", nats),
    backend!("pubsub", pubsub),
    backend!("eventbridge", eventbridge),
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

/// A broker. Without a driver, this program was built without the feature of its name.
struct Backend {
    name: &'static str,
    driver: Option<(Check, Open)>,
}

impl Backend {
    /// How it is connected to.
    fn open(&self, link: &str) -> Result<Open, Error> {
        self.driver.map(|(_, open)| open).ok_or_else(|| {
            let name = self.name;
            let message =
                format!("link {link} is over {name}, and this program was built without its driver");
            Error::new(Code::UNSUPPORTED, message)
                .with_fix(format!("build `ensue-cli` with `--features {name}`"))
        })
    }
}

#[cfg_attr(
    not(any(
        feature = "eventbridge",
        feature = "kafka",
        feature = "nats",
        feature = "pubsub",
        feature = "rabbitmq"
    )),
    expect(dead_code, reason = "a program without drivers")
)]
const fn driver<D: Driver>() -> (Check, Open) {
    (|own| read::<D>(own).map(drop), open_with::<D>)
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
        let message =
            format!("link {link}: {said}: for {name}, besides `relay`, `intake` and what every link may say");
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
    let open = find(link, name)?.open(link)?;
    open(own, connection).await
}

/// The error for a setting that a broker has no use for.
fn useless(backend: &str, setting: &str) -> Error {
    wrong(format!("a link over {backend} has no use for `{setting}`"), "leave it out")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_this_program_was_built_without_is_refused_with_the_feature_that_brings_it() {
        let error = Backend { name: "pigeon", driver: None }.open("a").expect_err("it has no driver");
        assert_eq!(error.code(), Code::UNSUPPORTED);
        assert!(error.fix().contains("--features pigeon"), "{}", error.fix());
    }
}
