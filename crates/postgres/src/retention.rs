//! How long topics keep their events. Everything else stays for ever.

use std::time::Duration;

use ensue_core::{Code, Error, Position, Timestamp, Topic};
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::attributes::{column, number, signed, timestamp};
use crate::error;
use crate::pool::{Connection, Parameter, Parameters};
use crate::store::PostgresStore;

/// How often it is tried to drop a partition while somebody reads the log. Each try waits half a second, and who comes meanwhile waits behind it.
const DROPS_MAX: u32 = 3;
/// From one try to the next, or others would only ever wait.
const PACE: Duration = Duration::from_secs(1);

/// A topic that does not keep its events for ever.
#[derive(Clone, PartialEq, Debug)]
pub struct Retention {
    /// Which.
    pub topic: Topic,
    /// How long it keeps them, at least.
    pub keep: Duration,
    /// The partitions that hold them.
    pub partitions: u64,
    /// What these take on the disk of the server, with their indexes.
    pub bytes: u64,
    /// When the oldest event that is left was recorded; none where there is no event.
    pub oldest: Option<Timestamp>,
    /// Up to where it holds events that are past their time and that [`trim`](PostgresStore::trim) would drop, if nobody needed them.
    pub due: Option<Position>,
}

/// Events that were dropped together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trimmed {
    /// Of which topic.
    pub topic: Topic,
    /// How many.
    pub events: u64,
    /// They were at positions up to this.
    pub until: Position,
}

impl PostgresStore {
    /// How long a topic keeps its events, at least; `None` for ever, as every topic does where nothing was said. Nothing is dropped by this
    /// alone: [`trim`](Self::trim) does it.
    ///
    /// New events of the topic go into partitions of their own, each of which holds an eighth of the time, more where `trim` is called less often.
    /// Only for topics whose old events nobody needs: an aggregate is made of all of them, and a read model that is rebuilt has what the
    /// log still has.
    pub async fn retain(&self, topic: &Topic, keep: Option<Duration>) -> Result<(), Error> {
        let seconds = keep.map(|keep| keep.as_secs_f64());
        let sql = "SELECT ensue.retain($1, make_interval(secs => $2))";
        let parameters: &Parameters<'_> = &[(&topic.as_str(), Type::TEXT), (&seconds, Type::FLOAT8)];
        self.alter("cannot set the retention", sql, parameters).await?;
        Ok(())
    }

    /// The topics that do not keep their events for ever, by name.
    pub async fn retention(&self) -> Result<Vec<Retention>, Error> {
        // Of what came before the topic had partitions there is mostly nothing left, which an index by topic knows, and a look by position
        // would find out at the end of the log.
        let sql = "SELECT retention.topic, extract(epoch FROM keep)::float8, count(one.partition), \
                coalesce(sum(pg_total_relation_size(('ensue.events_' || one.partition)::regclass)), 0)::bigint, \
                least(old.recorded_at, min(( \
                    SELECT recorded_at FROM ensue.events WHERE events.partition = one.partition ORDER BY position LIMIT 1))), \
                least(CASE WHEN old.recorded_at <= clock_timestamp() - keep THEN old.position END, \
                    min(one.until) FILTER (WHERE closed_at <= clock_timestamp() - keep)) \
            FROM ensue.retention LEFT JOIN ensue.partitions AS one USING (topic) LEFT JOIN LATERAL ( \
                SELECT position, recorded_at FROM ensue.events_kept AS old \
                WHERE retention.topic = ( \
                        SELECT topic FROM ensue.events_kept AS next WHERE next.topic >= retention.topic ORDER BY topic LIMIT 1) \
                    AND old.topic = retention.topic AND position > swept AND position <= retention.until \
                ORDER BY position LIMIT 1) AS old ON true \
            GROUP BY retention.topic, old.position, old.recorded_at ORDER BY retention.topic";
        let rows = self.pool().rows("cannot read the retention", sql, Vec::new()).await?;
        rows.iter().map(retention).collect()
    }

    /// Drops what is past its time: of each topic with a [retention](Self::retain) its oldest partitions, as a whole. Nobody needs events up to
    /// `upto` any more; what lies beyond stays. The last event of the log stays too.
    ///
    /// Takes the rights of who owns the tables (`E0422`). Each partition is dropped in a transaction of its own, so what was done stays where it
    /// breaks off (`E0427` while somebody reads in a long transaction), and is added to `trimmed` also then; a cancelled call goes on with
    /// the next.
    pub async fn trim(&self, upto: Position, trimmed: &mut Vec<Trimmed>) -> Result<(), Error> {
        while let Some(step) = self.trim_once(upto).await? {
            if step.events == 0 {
                continue;
            }
            match trimmed.last_mut().filter(|last| last.topic == step.topic) {
                Some(last) => {
                    last.events += step.events;
                    last.until = step.until;
                }
                None => trimmed.push(step),
            }
        }
        Ok(())
    }

    /// See [`Store::dropped`](ensue_core::Store::dropped).
    pub(crate) async fn count_dropped(&self, after: Position, until: Position) -> Result<u64, Error> {
        let sql = "SELECT ensue.dropped_in($1, least($2, head)) FROM ensue.log";
        let bounds: Vec<Parameter> =
            [after, until].map(|bound| (Box::new(signed(bound.0)) as _, Type::INT8)).into();
        let rows = self.pool().rows("cannot count what was dropped", sql, bounds).await?;
        rows.first().map_or(Ok(0), |row| Ok(number(column(row, 0)?)))
    }

    async fn trim_once(&self, upto: Position) -> Result<Option<Trimmed>, Error> {
        let sql = "SELECT topic, events, until FROM ensue.trim($1)";
        let upto = signed(upto.0);
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tries = 0;
        let row = loop {
            pace.tick().await;
            tries += 1;
            match self.alter("cannot drop events that are past their time", sql, &[(&upto, Type::INT8)]).await
            {
                Err(error) if is_in_use(&error) && tries < DROPS_MAX => {}
                row => break row?,
            }
        };
        let Some(topic) = column::<Option<String>>(&row, 0)? else { return Ok(None) };
        let topic = Topic::new(&topic)?;
        Ok(Some(Trimmed {
            topic,
            events: number(column(&row, 1)?),
            until: Position(number(column::<Option<_>>(&row, 2)?.unwrap_or_default())),
        }))
    }

    /// The row of a statement that changes tables. It takes the time that it takes, but for locks.
    async fn alter(&self, trying: &str, sql: &str, parameters: &Parameters<'_>) -> Result<Row, Error> {
        let connection = self.pool().get().await?;
        connection.soil();
        let row = altered(&connection, sql, parameters).await.map_err(|cause| error::of(trying, cause))?;
        connection.clean();
        Ok(row)
    }
}

/// Whether somebody else is at the log, who may be done soon.
fn is_in_use(error: &Error) -> bool {
    matches!(error.code(), Code::DATABASE_TIMEOUT | Code::BUSY)
}

async fn altered(
    connection: &Connection,
    sql: &str,
    parameters: &Parameters<'_>,
) -> Result<Row, tokio_postgres::Error> {
    connection.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = 0").await?;
    let row = connection.query_typed_one(sql, parameters).await?;
    connection.batch_execute("COMMIT").await?;
    Ok(row)
}

fn retention(row: &Row) -> Result<Retention, Error> {
    Ok(Retention {
        topic: Topic::new(column::<&str>(row, 0)?)?,
        keep: Duration::try_from_secs_f64(column(row, 1)?).unwrap_or_default(),
        partitions: number(column(row, 2)?),
        bytes: number(column(row, 3)?),
        oldest: column::<Option<_>>(row, 4)?.map(timestamp).transpose()?,
        due: column::<Option<_>>(row, 5)?.map(|position| Position(number(position))),
    })
}
