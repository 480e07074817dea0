//! What a read selects, as SQL. Every alternative of a query is a range scan of one index in order of position.

use std::fmt::Write;

use ensue_core::{Direction, Query, QueryItem, Read, Select};
use tokio_postgres::types::{ToSql, Type};

use crate::attributes::{COLUMNS, signed, tag};
use crate::pool::Parameter;

/// Every partition, however many: for who must not overlook one that has been made a moment ago.
const EVERYWHERE: &str = "ensue.events";

/// A statement with its parameters.
pub(crate) struct Statement {
    pub(crate) sql: String,
    values: Vec<Value>,
}

enum Value {
    Number(i64),
    Text(String),
    Texts(Vec<String>),
}

impl Value {
    fn parameter(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Number(number) => (number, Type::INT8),
            Self::Text(text) => (text, Type::TEXT),
            Self::Texts(texts) => (texts, Type::TEXT_ARRAY),
        }
    }
}

impl Statement {
    /// Starts with the bounds: positions greater than `$1` and up to `$2`, at most `$3` rows.
    fn new(after: u64, until: u64, limit: usize) -> Self {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let values = [signed(after), signed(until), limit].map(Value::Number);
        Self { sql: String::new(), values: values.into() }
    }

    /// One page of the read, from tables that hold all of it: the rows that [`recorded`](crate::attributes::recorded) understands.
    pub(crate) fn page(read: &Read, source: &str) -> Self {
        let mut statement = Self::new(read.after.0, read.until.0, read.limit);
        let order = order(read.direction);
        let bounds = "e.position > $1 AND e.position <= $2";
        statement.sql = match &read.select {
            Select::All => everything(source, read.direction),
            Select::Query(query) if query.is_all() => everything(source, read.direction),
            Select::Stream { stream, from, to } => {
                let topic = statement.text(stream.topic.as_str());
                let key = statement.text(stream.key.as_str());
                let from = statement.bind(Value::Number(signed(from.0)));
                let to = statement.bind(Value::Number(signed(to.0)));
                // Versions and positions of a stream have the same order; its index has the versions.
                format!(
                    "{source} AS e WHERE e.topic = {topic} AND e.key = {key} AND e.version BETWEEN {from} AND {to} AND {bounds} \
                     ORDER BY e.version {order} LIMIT $3"
                )
            }
            Select::Flow(flow) => {
                let flow = statement.text(flow.as_str());
                format!(
                    "{source} AS e WHERE e.flow = {flow} AND {bounds} ORDER BY e.position {order} LIMIT $3"
                )
            }
            Select::Query(query) => {
                let positions = statement.positions(source, query, order);
                format!(
                    "{source} AS e JOIN ({positions}) AS matching USING (position) ORDER BY position {order}"
                )
            }
        };
        statement.sql.insert_str(0, &format!("SELECT {COLUMNS} FROM "));
        statement
    }

    /// The position of the last event after `after` that matches.
    pub(crate) fn last_match(query: &Query, after: u64) -> Self {
        let mut statement = Self::new(after, u64::MAX, 1);
        let positions = if query.is_all() {
            format!(
                "SELECT position FROM {EVERYWHERE} WHERE position > $1 AND position <= $2 ORDER BY position DESC LIMIT $3"
            )
        } else {
            statement.positions(EVERYWHERE, query, order(Direction::Backward))
        };
        statement.sql = positions;
        statement
    }

    /// The parameters, with their types.
    pub(crate) fn parameters(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.values.iter().map(Value::parameter).collect()
    }

    /// The statement and its parameters, to be taken along.
    pub(crate) fn into_parts(self) -> (String, Vec<Parameter>) {
        let owned = |value| -> Parameter {
            match value {
                Value::Number(number) => (Box::new(number), Type::INT8),
                Value::Text(text) => (Box::new(text), Type::TEXT),
                Value::Texts(texts) => (Box::new(texts), Type::TEXT_ARRAY),
            }
        };
        (self.sql, self.values.into_iter().map(owned).collect())
    }

    /// The first positions that match any item: each alternative gives so many, and of those the first are kept.
    fn positions(&mut self, source: &str, query: &Query, order: &str) -> String {
        let alternatives: Vec<String> = query
            .items
            .iter()
            .flat_map(|item| self.alternatives(source, item))
            .map(|sql| format!("({sql} ORDER BY position {order} LIMIT $3)"))
            .collect();
        let union = alternatives.join(" UNION ");
        format!("SELECT position FROM ({union}) AS any_of ORDER BY position {order} LIMIT $3")
    }

    fn alternatives(&mut self, source: &str, item: &QueryItem) -> Vec<String> {
        let Some((first, others)) = item.tags.split_first() else {
            // One alternative per type: an index gives positions in order only below one type.
            let of_type = |event_type: &ensue_core::EventType| {
                let event_type = self.text(event_type.as_str());
                format!(
                    "SELECT position FROM {source} AS e WHERE event_type = {event_type} AND position > $1 AND position <= $2"
                )
            };
            return item.types.iter().map(of_type).collect();
        };
        let first = self.text(&tag(first));
        let mut sql = format!(
            "SELECT position FROM ensue.tags AS t WHERE tag = {first} AND position > $1 AND position <= $2"
        );
        for other in others {
            let other = self.text(&tag(other));
            let condition = format!(
                " AND EXISTS (SELECT FROM ensue.tags AS u WHERE u.tag = {other} AND u.position = t.position)"
            );
            sql.push_str(&condition);
        }
        if !item.types.is_empty() {
            let types = item.types.iter().map(|event_type| event_type.as_str().to_owned()).collect();
            let types = self.bind(Value::Texts(types));
            write!(
                sql,
                " AND EXISTS (SELECT FROM {source} AS e WHERE e.position = t.position AND e.event_type = ANY ({types}))"
            )
            .expect("writing to a string cannot fail");
        }
        vec![sql]
    }

    fn text(&mut self, text: &str) -> String {
        self.bind(Value::Text(text.to_owned()))
    }

    /// The placeholder of a new parameter.
    fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }
}

/// A page of everything. Only one bound stands beside the index: of two, a planner without statistics expects so few rows that it
/// fetches and sorts all that is left for each page. The other bound cuts off the page.
fn everything(source: &str, direction: Direction) -> String {
    let (near, far) = match direction {
        Direction::Forward => ("position > $1", "e.position <= $2"),
        Direction::Backward => ("position <= $2", "e.position > $1"),
    };
    let order = order(direction);
    format!(
        "(SELECT * FROM {source} AS every WHERE {near} ORDER BY position {order} LIMIT $3) AS e WHERE {far} ORDER BY e.position {order}"
    )
}

fn order(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "ASC",
        Direction::Backward => "DESC",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_everything_has_one_bound_beside_the_index_and_one_behind_the_page() {
        for (read, near, far) in [
            (Read::all(), "position > $1 ORDER", "LIMIT $3) AS e WHERE e.position <= $2"),
            (Read::all().backward(), "position <= $2 ORDER", "LIMIT $3) AS e WHERE e.position > $1"),
        ] {
            let sql = Statement::page(&read, crate::partitions::KEPT).sql;
            assert!(sql.contains(near) && sql.contains(far), "{sql}");
        }
    }
}
