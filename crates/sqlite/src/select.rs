//! What a read selects, as SQL. Every alternative of a query is a range of one index in order of position.

use std::fmt::Write;

use ensue_core::{Direction, Query, QueryItem, Read, Select, Tag};
use rusqlite::types::Value;

use crate::attributes::{COLUMNS, signed};

/// A statement with its parameters.
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) values: Vec<Value>,
}

impl Statement {
    /// Starts with the bounds: positions greater than `?1` and up to `?2`, at most `?3` rows.
    fn new(after: u64, until: u64, limit: usize) -> Self {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let values = [signed(after), signed(until), limit].map(Value::Integer);
        Self { sql: String::new(), values: values.into() }
    }

    /// One page of the read: the rows that [`recorded`](crate::attributes::recorded) understands.
    pub(crate) fn page(read: &Read) -> Self {
        let mut statement = Self::new(read.after.0, read.until.0, read.limit);
        let order = order(read.direction);
        let bounds = "e.position > ?1 AND e.position <= ?2";
        let rest = match &read.select {
            Select::All => format!("WHERE {bounds} ORDER BY e.position {order} LIMIT ?3"),
            Select::Query(query) if query.is_all() => {
                format!("WHERE {bounds} ORDER BY e.position {order} LIMIT ?3")
            }
            Select::Stream { stream, from, to } => {
                let topic = statement.text(stream.topic.as_str());
                let key = statement.text(stream.key.as_str());
                let from = statement.bind(Value::Integer(signed(from.0)));
                let to = statement.bind(Value::Integer(signed(to.0)));
                // Versions and positions of a stream have the same order; its index has the versions. The plus keeps
                // SQLite from walking the positions instead.
                format!(
                    "WHERE e.topic = {topic} AND e.key = {key} AND e.version BETWEEN {from} AND {to} \
                     AND +e.position > ?1 AND +e.position <= ?2 ORDER BY e.version {order} LIMIT ?3"
                )
            }
            Select::Flow(flow) => {
                let flow = statement.text(flow.as_str());
                format!("WHERE e.flow = {flow} AND {bounds} ORDER BY e.position {order} LIMIT ?3")
            }
            Select::Query(query) => {
                let positions = statement.positions(query, order);
                statement.sql = format!(
                    "SELECT {COLUMNS} FROM ({positions}) AS m CROSS JOIN ensue_events AS e ON e.position = m.position \
                     ORDER BY m.position {order}"
                );
                return statement;
            }
        };
        statement.sql = format!("SELECT {COLUMNS} FROM ensue_events AS e {rest}");
        statement
    }

    /// The position of the last event after `after` that matches.
    pub(crate) fn last_match(query: &Query, after: u64) -> Self {
        let mut statement = Self::new(after, u64::MAX, 1);
        statement.sql = if query.is_all() {
            "SELECT position FROM ensue_events WHERE position > ?1 AND position <= ?2 ORDER BY position DESC LIMIT ?3"
                .to_owned()
        } else {
            statement.positions(query, order(Direction::Backward))
        };
        statement
    }

    /// The first positions that match any item: each alternative gives so many, and of those the first are kept.
    fn positions(&mut self, query: &Query, order: &str) -> String {
        let alternatives: Vec<String> = query
            .items
            .iter()
            .flat_map(|item| self.alternatives(item))
            .map(|sql| format!("SELECT position FROM ({sql} ORDER BY position {order} LIMIT ?3)"))
            .collect();
        let union = alternatives.join(" UNION ");
        format!("SELECT position FROM ({union}) ORDER BY position {order} LIMIT ?3")
    }

    fn alternatives(&mut self, item: &QueryItem) -> Vec<String> {
        match item.tags.split_first() {
            Some((first, others)) => vec![self.tagged(first, others, item)],
            // One alternative per type: an index gives positions in order only below one type.
            None => item
                .types
                .iter()
                .map(|event_type| {
                    let event_type = self.text(event_type.as_str());
                    format!(
                        "SELECT position FROM ensue_events WHERE event_type = {event_type} \
                         AND position > ?1 AND position <= ?2"
                    )
                })
                .collect(),
        }
    }

    fn tagged(&mut self, first: &Tag, others: &[Tag], item: &QueryItem) -> String {
        let first = self.text(&first.to_string());
        let mut sql = format!(
            "SELECT t.position AS position FROM ensue_tags AS t \
             WHERE t.tag = {first} AND t.position > ?1 AND t.position <= ?2"
        );
        for other in others {
            let other = self.text(&other.to_string());
            write!(
                sql,
                " AND EXISTS (SELECT 1 FROM ensue_tags AS u WHERE u.tag = {other} AND u.position = t.position)"
            )
            .expect("writing to a string cannot fail");
        }
        if !item.types.is_empty() {
            let types: Vec<String> = item.types.iter().map(|name| self.text(name.as_str())).collect();
            write!(
                sql,
                " AND EXISTS (SELECT 1 FROM ensue_events AS e WHERE e.position = t.position AND e.event_type IN ({}))",
                types.join(", ")
            )
            .expect("writing to a string cannot fail");
        }
        sql
    }

    fn text(&mut self, text: &str) -> String {
        self.bind(Value::Text(text.to_owned()))
    }

    /// The placeholder of a new parameter.
    fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("?{}", self.values.len())
    }
}

fn order(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "ASC",
        Direction::Backward => "DESC",
    }
}

#[cfg(test)]
mod tests {
    use ensue_core::{EventId, EventType, Position, StreamName};
    use rusqlite::{Connection, params_from_iter};

    use super::*;

    fn plan(database: &Connection, statement: &Statement) -> Vec<String> {
        let sql = format!("EXPLAIN QUERY PLAN {}", statement.sql);
        let mut statement_of_plan = database.prepare(&sql).expect("the statement is understood");
        let rows = statement_of_plan
            .query_map(params_from_iter(&statement.values), |row| row.get(3))
            .expect("it can be explained");
        rows.collect::<rusqlite::Result<_>>().expect("texts")
    }

    /// Nothing that is selected is found by looking at every event, and nothing is sorted but the few of a page.
    #[test]
    fn every_selection_is_a_range_of_an_index() {
        let database = Connection::open_in_memory().expect("memory");
        database.execute_batch(include_str!("../migrations/0001_log.sql")).expect("the tables are made");
        let types = ["Placed", "Paid"].map(|name| EventType::new(name).expect("valid"));
        let tag: Tag = "order:1".parse().expect("valid");
        let both = Query {
            items: vec![QueryItem {
                types: types.to_vec(),
                tags: vec![tag.clone(), "customer:2".parse().expect("valid")],
            }],
        };
        for (read, ranges) in [
            (Read::all(), "e USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
            (
                Read::stream(StreamName::new("Order", "1").expect("valid")),
                "(topic=? AND key=? AND version>? AND version<?)",
            ),
            (Read::flow(EventId::new("flow").expect("valid")), "(flow=? AND rowid>? AND rowid<?)"),
            (Read::query(Query::types(types.clone())), "(event_type=? AND rowid>? AND rowid<?)"),
            (Read::query(Query::tags([tag])), "(tag=? AND position>? AND position<?)"),
            (Read::query(both), "(tag=? AND position>? AND position<?)"),
        ] {
            for read in [read.clone(), read.backward()] {
                let read = read.after(Position(5)).until(Position(9)).limit(10);
                let plan = plan(&database, &Statement::page(&read));
                assert!(plan.iter().any(|step| step.contains(ranges)), "{read:?}: {plan:#?}");
                let walks = |step: &&String| step.starts_with("SCAN e") || step.starts_with("SCAN t");
                assert_eq!(plan.iter().find(walks), None, "{read:?}: {plan:#?}");
            }
        }
    }
}
