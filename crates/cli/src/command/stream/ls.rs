//! `ensue stream ls [PATTERN] [--limit N]`: which streams there are.

use std::collections::BTreeMap;

use clap::Args;
use ensue::core::{EventType, Position, Read, Store, StreamName, Timestamp, Version};
use futures_util::TryStreamExt;
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::output::Row;
use crate::pattern::Pattern;
use crate::shape;

/// List streams, by name
#[derive(Args)]
pub(crate) struct Ls {
    /// A glob over TOPIC/KEY, or over the topic alone
    pattern: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Serialize)]
struct Listed {
    stream: StreamName,
    version: Version,
    first_position: Position,
    last_position: Position,
    last_type: EventType,
    time: Timestamp,
}

impl Row for Listed {
    const HEADINGS: &'static [&'static str] =
        &["stream", "version", "last position", "last time", "last type"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.stream.to_string(),
            self.version.to_string(),
            self.last_position.to_string(),
            shape::time(self.time),
            self.last_type.to_string(),
        ]
    }
}

impl Ls {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let store = session.place.open().await?;
        let pattern = self.pattern.map_or_else(|| Pattern::new("*"), Pattern::new);
        let mut streams: BTreeMap<StreamName, Listed> = BTreeMap::new();
        let mut events = store.read(Read::all());
        while let Some(recorded) = events.try_next().await? {
            if !pattern.matches_stream(&recorded.stream) {
                continue;
            }
            let first_position =
                streams.get(&recorded.stream).map_or(recorded.position, |listed| listed.first_position);
            let listed = Listed {
                stream: recorded.stream.clone(),
                version: recorded.version,
                first_position,
                last_position: recorded.position,
                last_type: recorded.envelope.event_type,
                time: recorded.recorded_at,
            };
            streams.insert(recorded.stream, listed);
        }
        let listed: Vec<Listed> = streams.into_values().take(self.limit.unwrap_or(usize::MAX)).collect();
        session.output.all(&listed)?;
        Ok(())
    }
}
