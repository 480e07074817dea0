//! The file: `[links.NAME]` tables in TOML. Other tables are somebody else's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ensue::core::bus::Mode;
use ensue::core::{Error, EventType, Key};
use ensue::runtime::Pick;
use serde::Deserialize;
use toml::Table;

use super::backend::{self, Connection, Login};
use super::{secret, wrong};

/// What the file says of links.
#[derive(Deserialize, Debug)]
pub(crate) struct File {
    #[serde(default)]
    pub(crate) links: BTreeMap<String, Link>,
}

/// One link.
#[derive(Deserialize, Debug)]
pub(crate) struct Link {
    pub(crate) backend: String,
    url: String,
    user: Option<String>,
    password_env: Option<String>,
    password_file: Option<PathBuf>,
    token_env: Option<String>,
    token_file: Option<PathBuf>,
    credentials_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    certificate_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) mode: Shape,
    #[serde(default = "yes")]
    pub(super) declare: bool,
    pub(super) group: Option<String>,
    window_seconds: Option<u64>,
    redelivered_within_seconds: Option<u64>,
    #[serde(default)]
    pub(super) relay: Vec<Out>,
    #[serde(default)]
    pub(super) intake: Vec<In>,
    /// What is said for this broker alone. Its file refuses what it does not know.
    #[serde(flatten)]
    pub(super) own: Table,
}

fn yes() -> bool {
    true
}

/// How events are written.
#[derive(Deserialize, Debug, Clone, Copy, Default)]
#[serde(rename_all = "lowercase")]
pub(super) enum Shape {
    #[default]
    Binary,
    Structured,
}

impl From<Shape> for Mode {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::Binary => Self::Binary,
            Shape::Structured => Self::Structured,
        }
    }
}

/// What goes out.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct Out {
    pub(super) topic: String,
    pub(super) to: String,
}

/// What comes in.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct In {
    pub(super) from: String,
    pub(super) topic: Option<String>,
    #[serde(rename = "type")]
    pub(super) event_type: Option<Pick>,
    pub(super) key: Option<Pick>,
    pub(super) id: Option<Pick>,
    pub(super) source: Option<String>,
    pub(super) group: Option<String>,
    pub(super) fed_by: Option<String>,
    pub(super) filter: Option<String>,
}

impl In {
    /// A type or key that is the same for every message and that no event can have would make each of them unreadable.
    fn check(&self, name: &str) -> Result<(), Error> {
        let refused = |error: Error| {
            let message = format!("link {name}, from `{}`: {}", self.from, error.message());
            wrong(message, error.fix())
        };
        if let Some(Pick::Const(text)) = &self.event_type {
            EventType::new(text).map_err(refused)?;
        }
        if let Some(Pick::Const(text)) = &self.key {
            Key::new(text).map_err(refused)?;
        }
        Ok(())
    }
}

impl File {
    /// Reads the file. Errors: `E0414` if it is not there, `E0510` if it says something wrongly.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = secret::read(path)?;
        let file: Self = toml::from_str(&text)
            .map_err(|cause| wrong(format!("{}{}", path.display(), said(&text, &cause)), backend::FIX))?;
        if file.links.is_empty() {
            let message = format!("{} holds no link", path.display());
            return Err(wrong(
                message,
                "write a table `[links.NAME]` with `backend`, `url` and `relay` or `intake`",
            ));
        }
        for (name, link) in &file.links {
            link.check(name)?;
        }
        Ok(file)
    }
}

/// What the parser says, behind the name of the file: the line by its number and never as it stands, because it may hold a password.
fn said(text: &str, cause: &toml::de::Error) -> String {
    let before = cause.span().and_then(|span| text.get(..span.start));
    let line = before.map(|before| format!(", line {}", before.matches('\n').count() + 1));
    format!("{}: {}", line.unwrap_or_default(), without_text(cause.message()))
}

/// The words of the parser in one line, without the text that it repeats where it wanted something else.
pub(super) fn without_text(said: &str) -> String {
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((before, rest)) = said.split_once("string \"") else { return said };
    match rest.rsplit_once("\", expected") {
        Some((_, after)) => format!("{before}string, expected{after}"),
        None => format!("{before}string"),
    }
}

impl Link {
    fn check(&self, name: &str) -> Result<(), Error> {
        backend::check(name, &self.backend, &self.own)?;
        if self.relay.is_empty() && self.intake.is_empty() {
            return Err(wrong(
                format!("link {name} has neither `relay` nor `intake`"),
                "write `relay = [{ topic = \"Order\", to = \"orders\" }]`, or `intake = [{ from = \"orders\", topic = \"Order\" }]`",
            ));
        }
        self.intake.iter().try_for_each(|entry| entry.check(name))?;
        let is_filter_for_nothing = |intake: &&In| intake.filter.is_some() && intake.fed_by.is_none();
        if let Some(intake) = self.intake.iter().find(is_filter_for_nothing) {
            return Err(wrong(
                format!(
                    "link {name} has a `filter` for `{}`, and does not say what that is fed by",
                    intake.from
                ),
                "add `fed_by`, or leave the filter out",
            ));
        }
        let mut topics: Vec<&str> = self.relay.iter().map(|out| out.topic.as_str()).collect();
        topics.sort_unstable();
        match topics.array_windows().find(|[one, next]| one == next) {
            Some([topic, _]) => Err(wrong(
                format!("link {name} relays topic {topic} to two places"),
                "give the second place a link of its own: each relay has a checkpoint of its own",
            )),
            None => Ok(()),
        }
    }

    /// What a driver needs to know.
    pub(super) fn connection(&self, name: &str) -> Result<Connection, Error> {
        Ok(Connection {
            url: secret::value(name, "url", &self.url)?,
            login: self.login(name)?,
            authorities: self.ca_file.clone(),
            certificate: self.certificate(name)?,
        })
    }

    fn login(&self, name: &str) -> Result<Login, Error> {
        let secret = |what, variable: &Option<String>, file: &Option<PathBuf>| {
            secret::of(name, what, variable.as_deref(), file.as_deref())
        };
        let password = secret("password", &self.password_env, &self.password_file)?;
        let token = secret("token", &self.token_env, &self.token_file)?;
        match (self.user.clone(), password, token, self.credentials_file.clone()) {
            (None, None, None, None) => Ok(Login::Unsaid),
            (Some(user), Some(password), None, None) => Ok(Login::Password { user, password }),
            (None, None, Some(token), None) => Ok(Login::Token(token)),
            (None, None, None, Some(file)) => Ok(Login::Credentials(file)),
            (_, _, None, None) => Err(wrong(
                format!("link {name} has a user or a password, and not both"),
                "write `user` with `password_env` or `password_file`",
            )),
            _ => Err(wrong(
                format!("link {name} logs in in more than one way"),
                "keep one of user with password, token and credentials_file",
            )),
        }
    }

    fn certificate(&self, name: &str) -> Result<Option<(PathBuf, PathBuf)>, Error> {
        match (&self.certificate_file, &self.key_file) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some((certificate.clone(), key.clone()))),
            _ => Err(wrong(
                format!("link {name} has a certificate or its key, and not both"),
                "write `certificate_file` with `key_file`",
            )),
        }
    }

    pub(super) fn window(&self) -> Option<Duration> {
        self.window_seconds.map(Duration::from_secs)
    }

    pub(super) fn redelivered_within(&self) -> Option<Duration> {
        self.redelivered_within_seconds.map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<File, Error> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ensue.toml");
        std::fs::write(&path, text).expect("the folder is ours");
        File::read(&path)
    }

    #[test]
    fn a_file_says_what_comes_in_and_what_goes_out() {
        let file = parsed(
            r#"
            [server]
            port = 1

            [links.legacy]
            backend = "nats"
            url = "nats://localhost:4222"
            intake = [{ from = "orders", topic = "Order", type = "header:ce_type", key = "field:data.order_id" }]

            [links.out]
            backend = "kafka"
            url = "env:KAFKA"
            relay = [{ topic = "Order", to = "orders" }]
            "#,
        )
        .expect("it is understood");
        assert_eq!(file.links.keys().collect::<Vec<_>>(), ["legacy", "out"]);
        let intake = file.links.get("legacy").and_then(|link| link.intake.first()).expect("one intake");
        assert_eq!(intake.event_type, Some(Pick::Header("ce_type".into())));
        assert_eq!(intake.key, Some(Pick::Field("data.order_id".into())));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let link = |rest: &str| format!("[links.a]\nbackend = \"nats\"\nurl = \"nats://h\"\n{rest}");
        for (text, wanted) in [
            (String::new(), "holds no link"),
            ("[links.a]\nurl = \"x\"".into(), "backend"),
            (link(""), "neither `relay` nor `intake`"),
            (link("relai = []"), "relai"),
            (link("intake = [{ from = \"q\", type = \"heder:x\" }]"), "heder:x"),
            (link("relay = [{ topic = \"A\", to = \"x\" }, { topic = \"A\", to = \"y\" }]"), "two places"),
        ] {
            let error = parsed(&text).expect_err(wanted);
            assert!(error.message().contains(wanted), "{wanted}: {error}");
        }
    }
}
