//! `ensue projection state|diff|blame NAME KEY`: a document of a read model as it was, folded anew from the log.

use std::sync::Arc;

use clap::Args;
use ensue::core::{Code, Error, Store};
use ensue::runtime::Moment;
use ensue::runtime::blame::{Blamed, differences};
use ensue::runtime::projection::{blame, collection, document_at};
use serde_json::value::RawValue;

use crate::command::Session;
use crate::failure::Failure;
use crate::history::{ChangedLine, print_blame};
use crate::known::{self, WithProjection};

/// Keys that are named where one does not exist.
const KEYS_SHOWN: usize = 3;

/// A document as it was
#[derive(Args)]
pub(crate) struct State {
    #[command(flatten)]
    document: Document,
    /// At a position such as 1234, or a time such as 2024-01-15T10:30:00Z
    #[arg(long, value_name = "POSITION|TIME", default_value = "now")]
    at: String,
}

/// What changed in a document between two moments
#[derive(Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    document: Document,
    /// From here: a position or a time
    from: String,
    /// To here: a position, a time, or now
    #[arg(default_value = "now")]
    to: String,
}

/// Which event last changed a field of a document
#[derive(Args)]
pub(crate) struct Blame {
    #[command(flatten)]
    document: Document,
    /// A field, or the JSON Pointer of a value inside it, such as /items/0/qty; every field without it
    field: Option<String>,
    /// As it was at a position such as 1234, or a time such as 2024-01-15T10:30:00Z
    #[arg(long, value_name = "POSITION|TIME", default_value = "now")]
    at: String,
}

/// Which document.
#[derive(Args)]
struct Document {
    /// The read model, such as `orders_view`
    name: String,
    /// The key of the document
    key: String,
}

impl Document {
    /// Its JSON at a moment; `None` if it did not exist.
    async fn at(&self, store: &Arc<dyn Store>, moment: &str) -> Result<Option<Vec<u8>>, Error> {
        let look = Look { store, key: &self.key, moment: moment.parse()? };
        known::projection(&self.name, look).await
    }
}

struct Look<'a> {
    store: &'a Arc<dyn Store>,
    key: &'a str,
    moment: Moment,
}

impl WithProjection for Look<'_> {
    type Output = Option<Vec<u8>>;

    async fn work<P: ensue::Projection>(self, projection: P) -> Result<Self::Output, Error> {
        let document = document_at(&projection, &**self.store, self.key, self.moment).await?;
        Ok(document.map(|document| serde_json::to_vec(&document).expect("a document always encodes")))
    }
}

struct Ask<'a>(Look<'a>);

impl WithProjection for Ask<'_> {
    type Output = Vec<Blamed>;

    async fn work<P: ensue::Projection>(self, projection: P) -> Result<Self::Output, Error> {
        blame(&projection, &**self.0.store, self.0.key, self.0.moment).await
    }
}

/// The first keys of a read model.
struct Keys(Arc<dyn Store>);

impl WithProjection for Keys {
    type Output = Vec<String>;

    async fn work<P: ensue::Projection>(self, _: P) -> Result<Self::Output, Error> {
        let page = collection::<P>(self.0)?.page("", KEYS_SHOWN).await?;
        Ok(page.into_iter().map(|(key, _)| key).collect())
    }
}

fn keys_in_words(name: &str, keys: &[String]) -> String {
    if keys.is_empty() {
        return format!("{name} has no document at all: `ensue projection ls` says how far it is");
    }
    format!(
        "keys of {name} that exist now are such as {}; mind `--at`, before which it may not have existed",
        keys.join(", ")
    )
}

impl State {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let store: Arc<dyn Store> = session.place.open().await?;
        let Document { name, key } = &self.document;
        let Some(document) = self.document.at(&store, &self.at).await? else {
            let known = known::projection(name, Keys(Arc::clone(&store))).await?;
            let message = format!("{name} has no document {key} at {}", self.at);
            return Err(Error::new(Code::NOT_FOUND, message).with_fix(keys_in_words(name, &known)).into());
        };
        let raw: Box<RawValue> = serde_json::from_slice(&document).expect("a document is JSON");
        let words = serde_json::from_str::<serde_json::Value>(raw.get())
            .map_or_else(|_| String::new(), |value| format!("{value:#}"));
        session.output.one(&raw, &words)?;
        Ok(())
    }
}

impl Diff {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let store: Arc<dyn Store> = session.place.open().await?;
        let before = self.document.at(&store, &self.from).await?;
        let after = self.document.at(&store, &self.to).await?;
        let changed = differences(before.as_deref(), after.as_deref())?;
        let lines: Vec<ChangedLine> = changed.into_iter().map(ChangedLine).collect();
        session.output.all(&lines)?;
        if lines.is_empty() {
            session.output.say("nothing differs");
        }
        Ok(())
    }
}

impl Blame {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let store: Arc<dyn Store> = session.place.open().await?;
        let Document { name, key } = &self.document;
        let look = Look { store: &store, key, moment: self.at.parse()? };
        let fields = known::projection(name, Ask(look)).await?;
        print_blame(session, fields, self.field.as_deref(), &format!("{key} in {name}"))
    }
}
