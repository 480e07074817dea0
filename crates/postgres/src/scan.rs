//! Pages of records.

use std::sync::Arc;

use bytes::Bytes;
use ensue_core::{Error, Record, RecordPage, RecordScan, Revision};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::attributes::{column, number, timestamp};
use crate::pool::{Parameter, Pool};

/// Records of one page, however many are asked for.
const PAGE_RECORDS_MAX: usize = 1_000;

const SQL: &str = "SELECT key, value, revision, expires_at FROM ensue.records \
    WHERE space = $1 AND key >= $2 AND ($3 IS NULL OR key < $3) \
    AND (expires_at IS NULL OR expires_at > statement_timestamp()) ORDER BY key LIMIT $4";

/// The page, at the one moment that a statement sees.
pub(crate) async fn page(pool: &Arc<Pool>, scan: &RecordScan) -> Result<RecordPage, Error> {
    let records_max = scan.limit.min(PAGE_RECORDS_MAX);
    // One more, to see where the next page begins.
    let rows_max = i64::try_from(records_max + 1).unwrap_or(i64::MAX);
    let parameters: Vec<Parameter> = vec![
        (Box::new(scan.space.as_str().to_owned()), Type::TEXT),
        (Box::new(scan.from.to_vec()), Type::BYTEA),
        (Box::new(scan.until.as_deref().map(<[u8]>::to_vec)), Type::BYTEA),
        (Box::new(rows_max), Type::INT8),
    ];
    let rows = pool.rows("cannot read records", SQL, parameters).await?;
    let mut records = rows.iter().map(record).collect::<Result<Vec<_>, _>>()?;
    let next = records.split_off(records_max.min(records.len())).into_iter().next();
    Ok(RecordPage { records, next: next.map(|record| record.key) })
}

fn record(row: &Row) -> Result<Record, Error> {
    Ok(Record {
        key: Bytes::copy_from_slice(column(row, 0)?),
        value: Bytes::copy_from_slice(column(row, 1)?),
        revision: Revision(number(column(row, 2)?)),
        expires_at: column::<Option<_>>(row, 3)?.map(timestamp).transpose()?,
    })
}
