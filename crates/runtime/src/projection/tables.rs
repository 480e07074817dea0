//! Read models in tables of the application's own: a projection names its tables, is handed events a page at a time with a
//! session of their database, and writes what it likes.
//!
//! Invariant: the rows of a page and the word that it was taken are in one transaction. In the database of the log that word
//! is the checkpoint; in another one it is a [guard](guard) beside the tables, and the checkpoint follows.

use std::future::Future;
use std::sync::Arc;

use ensue_core::{Code, Error, EventSet, SqlSession, Store};

use super::pace::Load;
use crate::context::Meta;
use crate::policy::Settings;

mod build;
mod guard;
mod handler;
mod keeper;
mod model;
mod rebuild;
mod settings;
mod verify;

pub use settings::{ConfiguredTables, TableProjectionExt};

pub(crate) use handler::TableHandler;
pub(crate) use keeper::{Fit, Keeper};
pub(crate) use model::TableModel;

/// A read model in tables: which ones, and what a page of events changes in them.
///
/// What is in the rows must follow from the events alone: no clock, no numbers drawn by the database, no reading of tables that
/// something else writes. Then a rebuild gives the same rows.
pub trait TableProjection: Send + Sync + 'static {
    /// Its name; owns checkpoint and tables.
    const NAME: &'static str;
    /// Raise it when `apply` or a table changes: the tables are then built anew beside the old ones.
    const VERSION: u32 = 1;
    /// The events it is fed with.
    type Event: EventSet;
    /// The session of the store's adapter.
    type Session: SqlSession;

    /// The tables and how they are made.
    fn tables(&self) -> Tables;

    /// Writes what a page of events changes, through the session: all of it is taken with the page, or nothing. The page is
    /// in the order of the log. An error takes everything back; smaller pages then find out which event it is that cannot be
    /// taken.
    ///
    /// Tables are named by [`Page::sql`], because a rebuild writes to others. The session must not be kept.
    fn apply(
        &self,
        page: Page<Self::Event>,
        session: &Self::Session,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    #[doc(hidden)]
    fn set_up(&self, _setup: &mut TableSetup) {}
}

/// Events that are taken together.
pub struct Page<E> {
    /// Each with what is known about it, in the order of the log; at least one.
    pub events: Vec<(E, Meta)>,
    names: Names,
}

impl<E> Page<E> {
    /// The statement with the names of the tables in it: `{orders}` is the table that was declared as `orders`.
    pub fn sql(&self, statement: &str) -> String {
        self.names.fill(statement)
    }
}

/// The tables of a read model, each with the statements that make it.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    names: Vec<&'static str>,
    statements: Vec<String>,
}

impl Tables {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A table, and the statements that make it and its indexes. `{name}` in them stands for the table, also inside of a name:
    /// `CREATE INDEX {orders}_by_day ON {orders} (day)`. Tables that were declared before can be named too.
    #[must_use]
    pub fn table(mut self, name: &'static str, statements: &str) -> Self {
        self.names.push(name);
        self.statements.push(statements.to_owned());
        self
    }

    /// Whether the names are plain, each is there once, and each table is made under the name that it is given.
    pub(crate) fn check(&self, projection: &str) -> Result<(), Error> {
        let refuse = |reason: String| {
            Err(Error::new(Code::INVALID_NAME, format!("the tables of {projection}: {reason}"))
                .with_fix("name a table like `order_totals`, with at most 40 of a-z, 0-9 and `_`, and write `{order_totals}` for it in its statements"))
        };
        if self.names.is_empty() {
            return refuse("there is none".to_owned());
        }
        for (index, (name, statements)) in self.names.iter().zip(&self.statements).enumerate() {
            let is_plain = name.starts_with(|first: char| first.is_ascii_lowercase())
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            if !is_plain || name.len() > NAME_BYTES_MAX || name.starts_with("ensue_") {
                return refuse(format!("`{name}` is no name for one"));
            }
            if self.names.iter().take(index).any(|earlier| earlier == name) {
                return refuse(format!("`{name}` is declared twice"));
            }
            if !statements.contains(&format!("{{{name}}}")) {
                return refuse(format!("the statements of `{name}` do not make `{{{name}}}`"));
            }
        }
        Ok(())
    }

    /// What makes them under these names.
    fn making(&self, names: &Names) -> String {
        let mut making = String::new();
        for statements in &self.statements {
            let statements = names.fill(statements);
            making.push_str(statements.trim().trim_end_matches(';'));
            making.push_str(";\n");
        }
        making
    }
}

/// The longest name of a table; what a generation adds to it still fits into 63 bytes.
const NAME_BYTES_MAX: usize = 40;

/// What the tables are called: as declared, and in the database.
#[derive(Clone, Debug)]
struct Names(Arc<Vec<(&'static str, String)>>);

impl Names {
    /// Those of the tables that readers see.
    fn live(tables: &Tables) -> Self {
        Self::with(tables, str::to_owned)
    }

    /// Those of a generation that is being built.
    fn beside(tables: &Tables, generation: super::Generation) -> Self {
        let super::Generation { version, number } = generation;
        Self::with(tables, |name| format!("{name}__{version}_{number}"))
    }

    fn with(tables: &Tables, called: impl Fn(&str) -> String) -> Self {
        Self(Arc::new(tables.names.iter().map(|name| (*name, called(name))).collect()))
    }

    fn fill(&self, statement: &str) -> String {
        self.0.iter().fold(statement.to_owned(), |statement, (declared, called)| {
            statement.replace(&format!("{{{declared}}}"), called)
        })
    }

    fn called(&self) -> Vec<String> {
        self.0.iter().map(|(_, called)| called.clone()).collect()
    }

    /// (what it is called, what it was declared as)
    fn to_declared(&self) -> Vec<(String, String)> {
        self.0.iter().map(|(declared, called)| (called.clone(), (*declared).to_owned())).collect()
    }
}

/// The settings of a projection into tables while it is being mounted.
pub struct TableSetup {
    pub(crate) settings: Settings,
    /// For builds.
    pub(crate) load: Load,
    /// The store in the database of the tables, if that is not the database of the log.
    pub(crate) target: Option<Arc<dyn Store>>,
}

/// How it is mounted.
pub(crate) fn table_setup_of<P: TableProjection>(projection: &P) -> TableSetup {
    let mut setup = TableSetup { settings: Settings::PROJECTION, load: Load::default(), target: None };
    projection.set_up(&mut setup);
    setup
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::projection::Generation;

    #[test]
    fn a_statement_names_the_tables_of_its_generation() {
        let tables = Tables::new()
            .table("orders", "CREATE TABLE {orders} (number TEXT);")
            .table("lines", "CREATE TABLE {lines} (of TEXT REFERENCES {orders})");
        let beside = Names::beside(&tables, Generation { version: 2, number: 7 });
        assert_eq!(
            tables.making(&beside),
            "CREATE TABLE orders__2_7 (number TEXT);\nCREATE TABLE lines__2_7 (of TEXT REFERENCES orders__2_7);\n"
        );
        assert_eq!(Names::live(&tables).fill("{orders} {else} '{}'"), "orders {else} '{}'");
    }

    #[test]
    fn names_that_no_database_takes_plainly_are_refused() {
        let made =
            |name: &'static str| Tables::new().table(name, &format!("CREATE TABLE {{{name}}} (n TEXT)"));
        assert!(made("orders_2").check("p").is_ok());
        let long = "a_name_of_forty_one_bytes_is_one_too_many";
        assert_eq!(long.len(), NAME_BYTES_MAX + 1);
        for wrong in ["", "Orders", "order-lines", "_orders", "ensue_events", long] {
            assert!(made(wrong).check("p").is_err(), "{wrong}");
        }
        assert!(Tables::new().check("p").is_err());
        assert!(Tables::new().table("orders", "CREATE TABLE orders (n TEXT)").check("p").is_err());
        assert!(made("orders").table("orders", "CREATE TABLE {orders} (m TEXT)").check("p").is_err());
    }
}
