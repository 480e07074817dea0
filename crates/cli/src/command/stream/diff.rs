//! `ensue stream diff TOPIC/KEY V1 V2`: which fields changed between two versions, and which events changed them.

use std::collections::BTreeSet;

use clap::Args;
use ensue::core::{EventType, StreamName, Version};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::command::Session;
use crate::failure::Failure;
use crate::output::{Row, short};
use crate::state::{At, Merged, merged};

/// What changed between two versions of a stream
#[derive(Args)]
pub(crate) struct Diff {
    /// The stream
    #[arg(value_name = "TOPIC/KEY")]
    stream: String,
    /// From this version; 0 is before the first event
    #[arg(value_name = "V1")]
    from: u64,
    /// To this version
    #[arg(value_name = "V2")]
    to: u64,
}

#[derive(Serialize)]
struct Difference {
    stream: StreamName,
    from: Version,
    to: Version,
    changes: Vec<Changed>,
}

/// A field that is not what it was. A side on which it does not exist is left out.
#[derive(Serialize)]
struct Changed {
    field: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Box<RawValue>>,
    /// The event that set the newer of the two values.
    version: Version,
    #[serde(rename = "type")]
    event_type: EventType,
}

impl Row for Changed {
    const HEADINGS: &'static [&'static str] = &["field", "before", "after", "version", "type"];

    fn cells(&self) -> Vec<String> {
        let value =
            |side: &Option<Box<RawValue>>| side.as_ref().map_or(String::new(), |raw| short(raw.get(), 40));
        vec![
            self.field.clone(),
            value(&self.before),
            value(&self.after),
            self.version.to_string(),
            self.event_type.to_string(),
        ]
    }
}

impl Diff {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let stream: StreamName = self.stream.parse()?;
        let store = session.place.open().await?;
        let before = merged(&store, &stream, At::Version(Version(self.from))).await?;
        let after = merged(&store, &stream, At::Version(Version(self.to))).await?;
        let changes = changes(&before, &after);
        if session.output.format() == crate::output::Format::Table {
            session.output.all(&changes)?;
            if changes.is_empty() {
                session.output.say("nothing differs");
            }
            return Ok(());
        }
        let difference = Difference { stream, from: before.version, to: after.version, changes };
        session.output.one(&difference, "")?;
        Ok(())
    }
}

fn changes(before: &Merged, after: &Merged) -> Vec<Changed> {
    let names: BTreeSet<&String> = before.fields.keys().chain(after.fields.keys()).collect();
    names
        .into_iter()
        .filter_map(|name| {
            let (old, new) = (before.fields.get(name), after.fields.get(name));
            if let (Some(old), Some(new)) = (old, new)
                && old.is_equal(new)
            {
                return None;
            }
            let newer = [old, new].into_iter().flatten().max_by_key(|field| field.version)?;
            Some(Changed {
                field: name.clone(),
                before: old.map(|field| field.value.clone()),
                after: new.map(|field| field.value.clone()),
                version: newer.version,
                event_type: newer.event_type.clone(),
            })
        })
        .collect()
}
