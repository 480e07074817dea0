//! What is measured beside each other, as scripts of pgbench: one transaction each, an event of 250 bytes, one of 100,000 keys.

/// One way to record an event.
pub(super) struct Contender {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    /// Which rows belong together; the first of them is what the others are compared with.
    pub(super) group: Group,
    /// A second script that runs meanwhile, 100 times a second.
    pub(super) meanwhile: Option<&'static str>,
    statements: &'static [&'static str],
}

/// Rows of one table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Group {
    /// Inside of a transaction that writes the application's own row, too.
    InTransaction,
    /// As the only statement.
    Alone,
    /// Complete logs: what is recorded has a position that readers can go by.
    Log,
}

impl Group {
    pub(super) const ALL: [Self; 3] = [Self::InTransaction, Self::Alone, Self::Log];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::InTransaction => "In the application's transaction",
            Self::Alone => "As a statement of its own",
            Self::Log => "As a log that readers can follow",
        }
    }
}

/// The event of each script; `:key` is drawn anew for each transaction.
const DATA: &str = "('{\"text\":\"' || repeat('x', 238) || '\"}')::jsonb";
const ORDER: &str = "INSERT INTO orders (customer, total) VALUES ('CUST-' || :key::bigint, 59.98);";
const OUTBOX: &str = "INSERT INTO outbox (topic, key, event_type, data) VALUES ('Order', 'ORD-' || :key::bigint, 'OrderPlaced', DATA);";
const APPEND: &str = "SELECT ensue.append('Order', 'ORD-' || :key::bigint, 'OrderPlaced', DATA);";
const NUMBER: &str = "SELECT ensue.number();";

/// All of them.
pub(super) const CONTENDERS: [Contender; 8] = [
    Contender {
        name: "plain insert into an outbox table",
        what: "`BEGIN`, a row of `orders`, a row of `outbox`, `COMMIT`.",
        group: Group::InTransaction,
        meanwhile: None,
        statements: &["BEGIN;", ORDER, OUTBOX, "COMMIT;"],
    },
    Contender {
        name: "`ensue.append`",
        what: "`BEGIN`, a row of `orders`, `ensue.append`, `COMMIT`.",
        group: Group::InTransaction,
        meanwhile: None,
        statements: &["BEGIN;", ORDER, APPEND, "COMMIT;"],
    },
    Contender {
        name: "plain insert into an outbox table",
        what: "One `INSERT`.",
        group: Group::Alone,
        meanwhile: None,
        statements: &[OUTBOX],
    },
    Contender {
        name: "`ensue.append`",
        what: "One `SELECT ensue.append(..)`.",
        group: Group::Alone,
        meanwhile: None,
        statements: &[APPEND],
    },
    Contender {
        name: "`ensue.append`, positions given meanwhile",
        what: "As above, while one more session calls `ensue.number()` 100 times a second, as a reader at the tail does: all indexes are kept.",
        group: Group::Log,
        meanwhile: Some(NUMBER),
        statements: &[APPEND],
    },
    Contender {
        name: "message-db style function, one category",
        what: "A function of our own of that shape: an advisory lock on the category, the last version of the stream looked up, an insert.",
        group: Group::Log,
        meanwhile: None,
        statements: &["SELECT write_message('order-' || :key::bigint, 'OrderPlaced', DATA);"],
    },
    Contender {
        name: "message-db style function, 16 categories",
        what: "The same function, each transaction in one of 16 categories.",
        group: Group::Log,
        meanwhile: None,
        statements: &[
            "SELECT write_message('order' || (:key::bigint % 16) || '-' || :key::bigint, 'OrderPlaced', DATA);",
        ],
    },
    Contender {
        name: "lock on the table",
        what: "`BEGIN`, `LOCK TABLE log IN EXCLUSIVE MODE`, a row of `log`, `COMMIT`; without versions.",
        group: Group::Log,
        meanwhile: None,
        statements: &[
            "BEGIN;",
            "LOCK TABLE log IN EXCLUSIVE MODE;",
            "INSERT INTO log (topic, key, event_type, data) VALUES ('Order', 'ORD-' || :key::bigint, 'OrderPlaced', DATA);",
            "COMMIT;",
        ],
    },
];

impl Contender {
    /// The script for pgbench.
    pub(super) fn script(&self) -> String {
        script(self.statements)
    }
}

/// The script that fills the outbox which is drained.
pub(super) fn filling() -> String {
    script(&[APPEND])
}

fn script(statements: &[&str]) -> String {
    let statements = statements.join("\n").replace("DATA", DATA);
    format!("\\set key random(1, 100000)\n{statements}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_a_first_row_and_one_to_compare() {
        for group in Group::ALL {
            assert!(CONTENDERS.iter().filter(|it| it.group == group).count() > 1, "{group:?}");
        }
    }

    #[test]
    fn an_event_has_the_bytes_that_the_page_says() {
        assert!(filling().contains("repeat('x', 238)"));
        assert_eq!("{\"text\":\"\"}".len() + 238 + 1, 250, "PostgreSQL prints a space behind the colon");
    }
}
