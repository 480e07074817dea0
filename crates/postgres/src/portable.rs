//! The database as a part of a move: which record spaces there are, and events as another store has recorded them.

use std::sync::Arc;
use std::time::SystemTime;

use ensue_core::{BoxFuture, Code, Error, Portable, Position, Recorded, Space};
use futures_util::FutureExt;
use tokio_postgres::types::Type;

use crate::attributes::{column, metadata, number, signed, system_time};
use crate::pool::{Parameter, Pool};
use crate::store::PostgresStore;

impl Portable for PostgresStore {
    fn spaces(&self) -> BoxFuture<'_, Result<Vec<Space>, Error>> {
        spaces(self.pool()).boxed()
    }

    fn import(&self, events: Vec<Recorded>) -> BoxFuture<'_, Result<Position, Error>> {
        async move {
            let head = match (events.first(), events.last()) {
                (Some(first), Some(last)) => {
                    is_unbroken(first.position, &events)?;
                    import(self.pool(), &events, first.position, last.position).await?
                }
                _ => self.head().look_up(self.pool()).await?.0,
            };
            self.head().tell(head);
            Ok(head)
        }
        .boxed()
    }
}

/// From one space to the next, so that a space of a million records costs one step.
async fn spaces(pool: &Arc<Pool>) -> Result<Vec<Space>, Error> {
    let sql = "WITH RECURSIVE found AS ( \
            (SELECT space FROM ensue.records ORDER BY space LIMIT 1) \
            UNION ALL \
            SELECT (SELECT space FROM ensue.records AS later WHERE later.space > found.space ORDER BY space LIMIT 1) \
            FROM found WHERE space IS NOT NULL) \
        SELECT space FROM found WHERE space IS NOT NULL";
    let rows = pool.rows("cannot list the spaces of records", sql, Vec::new()).await?;
    rows.iter().map(|row| Space::new(column::<&str>(row, 0)?)).collect()
}

fn is_unbroken(first: Position, events: &[Recorded]) -> Result<(), Error> {
    let stray = (first.0..).zip(events).find(|(position, event)| event.position.0 != *position);
    stray.map_or(Ok(()), |(position, event)| {
        let message =
            format!("position {position} comes next, but the event is of position {}", event.position);
        Err(Error::new(Code::NO_COPY, message))
    })
}

async fn import(
    pool: &Arc<Pool>,
    events: &[Recorded],
    first: Position,
    last: Position,
) -> Result<Position, Error> {
    let texts = |text: fn(&Recorded) -> String| -> Parameter {
        (Box::new(events.iter().map(text).collect::<Vec<_>>()), Type::TEXT_ARRAY)
    };
    let versions: Vec<i64> = events.iter().map(|event| signed(event.version.0)).collect();
    let times: Vec<SystemTime> = events.iter().map(|event| system_time(event.recorded_at)).collect();
    let bodies: Vec<Vec<u8>> = events.iter().map(|event| event.envelope.data.to_vec()).collect();
    let parameters: Vec<Parameter> = vec![
        (Box::new(signed(first.0)), Type::INT8),
        texts(|event| event.stream.topic.as_str().to_owned()),
        texts(|event| event.stream.key.as_str().to_owned()),
        (Box::new(versions), Type::INT8_ARRAY),
        texts(|event| event.envelope.event_type.as_str().to_owned()),
        (Box::new(times), Type::TIMESTAMPTZ_ARRAY),
        texts(|event| metadata(&event.envelope)),
        (Box::new(bodies), Type::BYTEA_ARRAY),
    ];
    let sql = "SELECT ensue.import($1, $2, $3, $4, $5, $6, $7, $8), (SELECT head FROM ensue.log)";
    let rows = pool.rows("cannot import events", sql, parameters).await?;
    let row = rows.first().ok_or_else(|| Error::new(Code::DATABASE_REFUSED, "an import gave no answer"))?;
    let (taken, head): (Option<i64>, i64) = (column(row, 0)?, column(row, 1)?);
    // A statement whose answer was lost is sent again, and then finds its events there.
    if taken.is_some() || number(head) == last.0 {
        return Ok(last);
    }
    let message = format!("the events begin at position {first}, but the head is {head}");
    Err(Error::new(Code::NO_COPY, message))
}
