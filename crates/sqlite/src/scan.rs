//! A page of records: one statement, so it is a moment between two commits.

use bytes::Bytes;
use ensue_core::{Code, Error, Record, RecordPage, RecordScan, Revision, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use crate::attributes::{column, lapse, number};
use crate::error;

/// The records that the scan selects and that have not lapsed by now.
pub(crate) fn page(connection: &Connection, scan: &RecordScan, now: Timestamp) -> Result<RecordPage, Error> {
    let failed = |cause| error::of("cannot read records", cause);
    // One more than asked for says where the next page starts.
    let limit = i64::try_from(scan.limit.saturating_add(1)).unwrap_or(i64::MAX);
    let mut values = vec![
        Value::Text(scan.space.as_str().to_owned()),
        Value::Blob(scan.from.to_vec()),
        Value::Text(lapse(now)),
        Value::Integer(limit),
    ];
    values.extend(scan.until.as_ref().map(|until| Value::Blob(until.to_vec())));
    let end = if scan.until.is_some() { "AND key < ?5" } else { "" };
    let sql = format!(
        "SELECT key, value, revision, expires_at FROM ensue_records WHERE space = ?1 AND key >= ?2 {end} \
         AND (expires_at IS NULL OR expires_at > ?3) ORDER BY key LIMIT ?4"
    );
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let mut rows = statement.query(params_from_iter(values)).map_err(failed)?;
    let mut page = RecordPage::default();
    while let Some(row) = rows.next().map_err(failed)? {
        let record = record(row)?;
        if page.records.len() == scan.limit {
            page.next = Some(record.key);
        } else {
            page.records.push(record);
        }
    }
    Ok(page)
}

fn record(row: &Row<'_>) -> Result<Record, Error> {
    Ok(Record {
        key: Bytes::from(column::<Vec<u8>>(row, 0)?),
        value: Bytes::from(column::<Vec<u8>>(row, 1)?),
        revision: Revision(number(column(row, 2)?)),
        expires_at: column::<Option<String>>(row, 3)?.as_deref().map(expiry).transpose()?,
    })
}

fn expiry(text: &str) -> Result<Timestamp, Error> {
    text.parse().map_err(|cause| {
        Error::new(Code::CORRUPT, format!("`{}` is no time of lapse", text.escape_debug())).with_source(cause)
    })
}
