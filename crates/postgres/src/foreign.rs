//! Transactions that are not ours: how each driver runs one statement in them.

use std::error::Error;
use std::future::Future;

use tokio_postgres::types::Type;

/// A transaction of some driver, as far as [`commit_in`](crate::commit_in()) needs it: implemented for the transactions of
/// tokio-postgres and, behind features, of sqlx. Implement it for another driver in a few lines.
pub trait InTransaction: Send {
    /// Runs a statement with the text as its one parameter `$1`; answers with the text in the one column of its one row.
    fn text_of(
        &mut self,
        sql: &'static str,
        parameter: String,
    ) -> impl Future<Output = Result<String, Refusal>> + Send;
}

/// Why a statement was not carried out.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Refusal {
    /// The five characters of the server; `None` where it was not the server that refused.
    pub sqlstate: Option<String>,
    /// What the server or the driver says.
    pub message: String,
    /// What the server says besides.
    pub detail: Option<String>,
    /// The driver's own error.
    pub cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Refusal {
    /// By the driver, such as a connection that broke.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// By the server.
    #[must_use]
    pub fn with_state(mut self, sqlstate: impl Into<String>, detail: Option<&str>) -> Self {
        self.sqlstate = Some(sqlstate.into());
        self.detail = detail.map(str::to_owned);
        self
    }

    /// The driver's own error, to be kept.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// From the detail of a conflict: the place of what was not as expected, and its actual number.
    pub(crate) fn place(&self, what: &str) -> Option<(usize, u64)> {
        let detail: serde_json::Value = serde_json::from_str(self.detail.as_deref()?).ok()?;
        Some((usize::try_from(detail.get(what)?.as_u64()?).ok()?, detail.get("actual")?.as_u64()?))
    }
}

impl InTransaction for tokio_postgres::Transaction<'_> {
    async fn text_of(&mut self, sql: &'static str, parameter: String) -> Result<String, Refusal> {
        let refused = |cause: tokio_postgres::Error| {
            let refusal = match cause.as_db_error() {
                None => Refusal::new(cause.to_string()),
                Some(error) => Refusal::new(error.message()).with_state(error.code().code(), error.detail()),
            };
            refusal.with_cause(cause)
        };
        let rows = self.query_typed(sql, &[(&parameter, Type::TEXT)]).await.map_err(refused)?;
        let row = rows.first().ok_or_else(|| Refusal::new("the statement gave no row"))?;
        row.try_get(0).map_err(refused)
    }
}

/// The two versions have the same methods, but no type in common.
#[cfg(any(feature = "sqlx-0_8", feature = "sqlx-0_9"))]
macro_rules! for_sqlx {
    ($sqlx:ident) => {
        impl InTransaction for $sqlx::PgConnection {
            async fn text_of(&mut self, sql: &'static str, parameter: String) -> Result<String, Refusal> {
                let answer = $sqlx::query_scalar(sql).bind(parameter).fetch_one(self).await;
                answer.map_err(|cause| {
                    let refusal = match cause.as_database_error() {
                        None => Refusal::new(cause.to_string()),
                        Some(error) => {
                            let error: &$sqlx::postgres::PgDatabaseError = error.downcast_ref();
                            Refusal::new(error.message()).with_state(error.code(), error.detail())
                        }
                    };
                    refusal.with_cause(cause)
                })
            }
        }

        impl InTransaction for $sqlx::Transaction<'_, $sqlx::Postgres> {
            async fn text_of(&mut self, sql: &'static str, parameter: String) -> Result<String, Refusal> {
                (**self).text_of(sql, parameter).await
            }
        }
    };
}

#[cfg(feature = "sqlx-0_8")]
for_sqlx!(sqlx_0_8);
#[cfg(feature = "sqlx-0_9")]
for_sqlx!(sqlx_0_9);
