//! SQL in an open transaction, as far as whoever keeps tables for an application needs it: it makes tables, puts them in the
//! place of others, and compares them. Statements of the application go through the adapter's own type.

use futures_util::future::BoxFuture;

use crate::error::Error;

/// The session of a [`Transaction`](crate::Transaction) of a database that speaks SQL. Names of tables are plain identifiers
/// in lower case; they are not quoted by the caller.
///
/// What fails may have ended the transaction: whoever gets an error drops it.
pub trait SqlSession: Clone + Send + Sync + 'static {
    /// Runs statements one after the other, without their results.
    fn run_statements(&self, statements: String) -> BoxFuture<'_, Result<(), Error>>;

    /// What hangs on these tables besides themselves and would be lost or broken if others took their place, one in words
    /// each: foreign keys of other tables, triggers, and what else the database ties to a table instead of to its name.
    fn hangs_on(&self, tables: Vec<String>) -> BoxFuture<'_, Result<Vec<String>, Error>>;

    /// Puts tables in the place of others. Whoever may read or write a table that is replaced may do so afterwards.
    fn replace_tables(&self, replacement: Replacement) -> BoxFuture<'_, Result<(), Error>>;

    /// The rows in which two tables differ; of each sort at most `listed_max` are listed. Their columns are the same.
    fn compare_tables(
        &self,
        one: String,
        other: String,
        listed_max: usize,
    ) -> BoxFuture<'_, Result<RowDifference, Error>>;
}

/// Tables that take the place of others.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Replacement {
    /// Dropped, in this order.
    pub dropped: Vec<String>,
    /// Given other names: (what it is called, what it shall be called), in this order.
    pub renamed: Vec<(String, String)>,
}

/// How the rows of two tables differ.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RowDifference {
    /// Rows of the first one.
    pub rows: u64,
    /// Rows that the first one lacks, as text.
    pub missing: Vec<String>,
    /// Rows that only the first one has, as text.
    pub added: Vec<String>,
    /// Rows of either sort that are not listed.
    pub unlisted: u64,
}
