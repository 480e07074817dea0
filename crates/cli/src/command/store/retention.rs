//! `ensue store retention`: the topics that do not keep their events for ever.

use std::time::Duration;

use ensue::Timestamp;
use ensue::core::{Error, Topic};
use ensue_postgres::{PostgresStore, Retention};
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;
use crate::output::Row;
use crate::shape;
use crate::words::count;

#[derive(Serialize)]
struct Kept {
    topic: Topic,
    keep_seconds: u64,
    partitions: u64,
    bytes: u64,
    /// When the oldest event that is left was recorded.
    oldest: Option<Timestamp>,
}

impl Row for Kept {
    const HEADINGS: &'static [&'static str] = &["topic", "keep", "partitions", "bytes", "oldest"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.topic.to_string(),
            in_words(Duration::from_secs(self.keep_seconds)),
            self.partitions.to_string(),
            self.bytes.to_string(),
            self.oldest.map(shape::time).unwrap_or_default(),
        ]
    }
}

/// The store, if it is one that can drop events.
pub(super) async fn open(session: &Session) -> Result<PostgresStore, Error> {
    let fix = "every other store keeps its events for ever; `ensue store copy` moves one to PostgreSQL";
    session.place.open_postgres("has a retention", fix).await
}

/// Lists them by name.
pub(crate) async fn run(session: &mut Session) -> Result<(), Failure> {
    let retention = open(session).await?.retention().await?;
    let kept = |Retention { topic, keep, partitions, bytes, oldest, .. }| Kept {
        topic,
        keep_seconds: keep.as_secs(),
        partitions,
        bytes,
        oldest,
    };
    session.output.all(&retention.into_iter().map(kept).collect::<Vec<_>>())?;
    Ok(())
}

/// A length of time in the largest unit of which it is a whole number.
pub(super) fn in_words(length: Duration) -> String {
    let seconds = length.as_secs();
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    let unit = units.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit) && seconds > 0);
    let (unit, name) = unit.unwrap_or((1, "second"));
    count(seconds / unit, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_said_in_the_unit_that_fits() {
        for (seconds, words) in
            [(86_400, "1 day"), (2_592_000, "30 days"), (43_200, "12 hours"), (90, "90 seconds")]
        {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }
}
