//! The brokers: one entry in the table and one file for each.

use std::path::PathBuf;
use std::sync::Arc;

use ensue::core::{BoxFuture, Bus, Code, Error};

use super::wrong;

#[cfg(feature = "nats")]
mod nats;

/// What a driver needs to know. What a broker has no use for is refused by its file.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) url: String,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) credentials: Option<PathBuf>,
    pub(crate) authorities: Option<PathBuf>,
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    pub(crate) in_flight: Option<usize>,
}

/// Connects to a broker.
type Open = fn(Connection) -> BoxFuture<'static, Result<Arc<dyn Bus>, Error>>;

/// A broker by the name that files call it. Without a driver, this program was built without the feature of that name.
struct Backend {
    name: &'static str,
    open: Option<Open>,
}

const BACKENDS: &[Backend] = &[
    Backend { name: "kafka", open: None },
    Backend { name: "rabbitmq", open: None },
    #[cfg(feature = "nats")]
    Backend { name: "nats", open: Some(nats::open) },
    #[cfg(not(feature = "nats"))]
    Backend { name: "nats", open: None },
    Backend { name: "pubsub", open: None },
    Backend { name: "eventbridge", open: None },
];

/// Connects. Errors: `E0510` for a broker of no known name, `E0506` for one that this program was built without, and what the
/// driver says.
pub(super) async fn open(link: &str, name: &str, connection: Connection) -> Result<Arc<dyn Bus>, Error> {
    let Some(backend) = BACKENDS.iter().find(|backend| backend.name == name) else {
        let names: Vec<&str> = BACKENDS.iter().map(|backend| backend.name).collect();
        let message = format!("link {link} is over `{}`, which is no broker known here", name.escape_debug());
        return Err(wrong(message, &format!("use one of {}", names.join(", "))));
    };
    let Some(open) = backend.open else {
        let message = format!("link {link} is over {name}, and this program was built without its driver");
        return Err(Error::new(Code::UNSUPPORTED, message).with_fix(format!(
            "build `ensue-cli` with `--features {name}`, if this version has that feature"
        )));
    };
    open(connection).await
}

/// The error for settings that a broker has no use for.
fn refuse(backend: &str, unused: &[(&str, bool)]) -> Result<(), Error> {
    unused.iter().find(|(_, is_set)| *is_set).map_or(Ok(()), |(name, _)| {
        Err(wrong(format!("a link over {backend} has no use for `{name}`"), "leave it out"))
    })
}
