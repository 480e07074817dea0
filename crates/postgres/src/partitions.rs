//! Which tables a read has to look at: that of the events that are kept, and the partitions of topics with a retention.
//!
//! They are read by their names and not by way of the table that they are partitions of: of a hundred partitions, a reader at the end
//! of the log needs those that are still open, and a server that has to find that out for itself needs several milliseconds for it.

use ensue_core::{Error, Position, Read, Select, Topic};
use tokio_postgres::Row;

use crate::attributes::{column, number};

/// What is kept for ever.
pub(crate) const KEPT: &str = "ensue.events_kept";

/// The partitions of topics with a retention, as they were at a moment.
#[derive(Default)]
pub(crate) struct Partitions(Vec<Partition>);

struct Partition {
    number: i32,
    topic: String,
    /// Its events are at positions beyond this.
    after: Position,
    /// And not beyond this.
    until: Position,
}

impl Partitions {
    /// From the columns of `ensue.look_up` behind the first two.
    pub(crate) fn of(row: &Row) -> Result<Self, Error> {
        let numbers: Vec<i32> = column::<Option<_>>(row, 2)?.unwrap_or_default();
        let topics: Vec<String> = column::<Option<_>>(row, 3)?.unwrap_or_default();
        let afters: Vec<i64> = column::<Option<_>>(row, 4)?.unwrap_or_default();
        let untils: Vec<i64> = column::<Option<_>>(row, 5)?.unwrap_or_default();
        let bounds = afters.into_iter().zip(untils).map(|(after, until)| (number(after), number(until)));
        let partitions =
            numbers.into_iter().zip(topics).zip(bounds).map(|((number, topic), (after, until))| Partition {
                number,
                topic,
                after: Position(after),
                until: Position(until),
            });
        Ok(Self(partitions.collect()))
    }

    /// Whether events of this topic go, or went, into partitions.
    pub(crate) fn are_of(&self, topic: &Topic) -> bool {
        self.0.iter().any(|partition| partition.topic == topic.as_str())
    }

    /// The tables that can hold what the read selects, as what stands behind `FROM`.
    pub(crate) fn source(&self, read: &Read) -> String {
        let mut tables = vec![KEPT.to_owned()];
        let needed = self.0.iter().filter(|partition| partition.can_hold(read));
        tables.extend(needed.map(|partition| format!("ensue.events_{}", partition.number)));
        match tables.as_slice() {
            [only] => only.clone(),
            several => {
                let each: Vec<String> =
                    several.iter().map(|table| format!("SELECT * FROM {table}")).collect();
                format!("({})", each.join(" UNION ALL "))
            }
        }
    }
}

impl Partition {
    fn can_hold(&self, read: &Read) -> bool {
        let is_its_topic = match &read.select {
            Select::Stream { stream, .. } => stream.topic.as_str() == self.topic,
            Select::All | Select::Query(_) | Select::Flow(_) => true,
        };
        is_its_topic && self.after < read.until && self.until > read.after
    }
}

#[cfg(test)]
mod tests {
    use ensue_core::StreamName;

    use super::*;

    #[test]
    fn a_read_looks_at_what_is_kept_and_at_partitions_that_can_hold_something_of_it() {
        let partition = |number, topic: &str, after, until| Partition {
            number,
            topic: topic.to_owned(),
            after: Position(after),
            until: Position(until),
        };
        let partitions = Partitions(vec![
            partition(1, "ticks", 0, 100),
            partition(2, "ticks", 100, u64::MAX),
            partition(3, "clicks", 50, u64::MAX),
        ]);
        let stream = |topic| Read::stream(StreamName::new(topic, "a").expect("a valid name"));
        for (read, tables) in [
            (Read::all(), &[KEPT, "events_1 ", "events_2 ", "events_3"][..]),
            (Read::all().after(Position(100)), &[KEPT, "events_2 ", "events_3"]),
            (Read::all().until(Position(50)), &[KEPT, "events_1"]),
            (stream("ticks"), &[KEPT, "events_1 ", "events_2"]),
            (stream("ticks").after(Position(99)).until(Position(100)), &[KEPT, "events_1"]),
            (stream("orders"), &[KEPT]),
        ] {
            let source = partitions.source(&read);
            assert_eq!(source.matches("ensue.").count(), tables.len(), "{read:?}: {source}");
            assert!(
                tables.iter().all(|table| format!("{source} ").replace(')', " ").contains(table)),
                "{read:?}: {source}"
            );
        }
    }
}
