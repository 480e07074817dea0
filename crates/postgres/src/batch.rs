//! One transaction for a batch of commits: lock and load, decide, write, commit.
//!
//! The round trips under the lock are two: what is loaded comes back in one flight, and what was decided is written and
//! committed in the next. Only a commit that may be a repetition costs a third.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ensue_core::{Code, Commit, Error, Position, Revision, Space, StreamName, Version};
use futures_util::future::try_join_all;
use tokio::join;
use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use crate::attributes::{column, metadata, number, signed, tag};
use crate::decide::{Held, Outcome, Plan, Standing, State, decide, places};
use crate::error;
use crate::head::Head;
use crate::pool::{Connection, Parameters, Pool};
use crate::select::Statement;

/// What is tried here, for errors.
const WRITING: &str = "cannot write to the database";

/// Why a batch was not taken.
pub(crate) enum Failure {
    /// Nothing of it was stored, because more events of others wait for their positions than are given them in one step.
    Behind(Error),
    /// Nothing of it was stored.
    Nothing(Error),
    /// It was stored, or not.
    Unknown(Error),
}

/// Whether to wait for streams and records that others hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waits {
    /// A commit that needs them is left for later.
    Never,
    /// For as long as patience lasts, before the log is locked.
    ForOthers,
}

/// What the batch touches, each once and in the order in which it is locked.
struct Touched {
    streams: Vec<StreamName>,
    records: Vec<(Space, Bytes)>,
}

impl Touched {
    fn by(commits: &[&Commit]) -> Self {
        let streams = commits.iter().flat_map(|commit| &commit.appends).map(|append| append.stream.clone());
        let records = commits.iter().flat_map(|commit| &commit.records);
        let records = records.map(|write| (write.space.clone(), write.key.clone()));
        Self {
            streams: streams.collect::<BTreeSet<_>>().into_iter().collect(),
            records: records.collect::<BTreeSet<_>>().into_iter().collect(),
        }
    }
}

/// The outcome of each commit, in one transaction; `None` for one that has to wait for others. Answers besides with the
/// head that the transaction leaves, zero if none is known.
pub(crate) async fn write(
    pool: &Arc<Pool>,
    head: &Head,
    commits: &[&Commit],
    waits: Waits,
) -> Result<(Vec<Option<Outcome>>, Position), Failure> {
    let seen = head.seen().map_err(Failure::Nothing)?;
    let connection = pool.get().await.map_err(Failure::Nothing)?;
    connection.soil();
    let begin = begin(pool);
    // Both are sent before the first answer is awaited, and the server takes them in order.
    let begin = async { connection.batch_execute(&begin).await.map_err(refused) };
    let loaded = async { join!(begin, load(&connection, commits, waits)) };
    let (begun, state) = connection.answer(WRITING, loaded).await;
    let state = begun.and(state).map_err(unloaded)?;
    let before = state.head;
    head.check(seen, before).map_err(Failure::Nothing)?;
    let (outcomes, plan) = decide(commits, state);
    if plan.is_empty() && waits == Waits::ForOthers {
        // The rows that hold the streams must not outlive a refusal. With them goes what was numbered in this transaction, so nobody has
        // seen the head yet.
        roll_back(&connection).await?;
        connection.clean();
        return Ok((outcomes, Position::ZERO));
    }
    store(&connection, &plan).await?;
    connection.clean();
    Ok((outcomes, Position(before.0 + plan.events.len() as u64)))
}

/// Ends a transaction that the application has worked in with its one commit. Unless that is taken as new, everything is
/// taken back: of a repetition the application's part was taken with the commit that it repeats.
pub(crate) async fn finish(
    connection: &Connection,
    head: &Head,
    commit: &Commit,
) -> Result<Outcome, Failure> {
    let (commits, seen) = ([commit], head.seen().map_err(Failure::Nothing)?);
    let loaded = load(connection, &commits, Waits::ForOthers);
    let state = connection.answer(WRITING, loaded).await.map_err(unloaded)?;
    head.check(seen, state.head).map_err(Failure::Nothing)?;
    let (outcomes, plan) = decide(&commits, state);
    let outcome = outcomes.into_iter().next().flatten();
    if matches!(&outcome, Some(Ok(committed)) if !committed.repeated) {
        store(connection, &plan).await?;
    } else {
        roll_back(connection).await?;
    }
    outcome.ok_or_else(|| Failure::Nothing(held_elsewhere()))
}

async fn roll_back(connection: &Connection) -> Result<(), Failure> {
    let rolled_back = connection.answer(WRITING, connection.batch_execute("ROLLBACK")).await;
    rolled_back.map_err(refused).map_err(Failure::Nothing)
}

/// What a commit is told that others kept waiting for too long.
pub(crate) fn held_elsewhere() -> Error {
    Error::new(Code::DATABASE_TIMEOUT, "another session holds a stream or record of the commit")
        .with_fix(error::FIX_HELD)
}

/// Why nothing was loaded, and so nothing stored.
fn unloaded(error: Error) -> Failure {
    if error::is_behind(&error) { Failure::Behind(error) } else { Failure::Nothing(error) }
}

pub(crate) fn refused(cause: tokio_postgres::Error) -> Error {
    error::of(WRITING, cause)
}

/// Locks, and loads what the commits are decided by.
async fn load(client: &Client, commits: &[&Commit], waits: Waits) -> Result<State, Error> {
    let touched = Touched::by(commits);
    let waited = async {
        match waits {
            Waits::Never => Ok(()),
            Waits::ForOthers => await_others(client, &touched).await,
        }
    };
    let matches = commits.iter().enumerate().map(|(place, commit)| last_match(client, place, commit));
    // The first that fails is told: those behind it are only told that it has.
    let (waited, state, matches) =
        join!(waited, lock_and_load(client, &touched, commits), try_join_all(matches));
    let (mut state, matches) = waited.and(state).and_then(|state| Ok((state, matches?)))?;
    state.matches = matches.into_iter().flatten().collect();
    load_standing(client, commits, &mut state).await?;
    Ok(state)
}

/// The settings are those of the transaction alone, so a pooler may stand in between. A server or database that was set to be
/// read-only stays so.
pub(crate) fn begin(pool: &Pool) -> String {
    let config = pool.config();
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = {}; \
         SET LOCAL statement_timeout = {}",
        config.patience.as_millis(),
        config.statement_timeout.as_millis(),
    )
}

async fn await_others(client: &Client, touched: &Touched) -> Result<(), Error> {
    let (topics, keys) = stream_columns(&touched.streams);
    let (spaces, record_keys) = record_columns(&touched.records);
    let parameters: &Parameters<'_> = &[
        (&topics, Type::TEXT_ARRAY),
        (&keys, Type::TEXT_ARRAY),
        (&spaces, Type::TEXT_ARRAY),
        (&record_keys, Type::BYTEA_ARRAY),
    ];
    let sql = "SELECT ensue.await($1, $2, $3, $4)";
    client.query_typed(sql, parameters).await.map(|_| ()).map_err(refused)
}

async fn lock_and_load(client: &Client, touched: &Touched, commits: &[&Commit]) -> Result<State, Error> {
    let (topics, keys) = stream_columns(&touched.streams);
    let (spaces, record_keys) = record_columns(&touched.records);
    let writers: Vec<usize> = commits
        .iter()
        .enumerate()
        .filter(|(_, commit)| !commit.records.is_empty())
        .map(|(place, _)| place)
        .collect();
    let tickets = i32::try_from(writers.len()).unwrap_or(i32::MAX);
    let parameters: &Parameters<'_> = &[
        (&topics, Type::TEXT_ARRAY),
        (&keys, Type::TEXT_ARRAY),
        (&spaces, Type::TEXT_ARRAY),
        (&record_keys, Type::BYTEA_ARRAY),
        (&tickets, Type::INT4),
    ];
    let sql = "SELECT head, versions, revisions, granted FROM ensue.load_batch($1, $2, $3, $4, $5)";
    let row = client.query_typed_one(sql, parameters).await.map_err(refused)?;
    let versions = numbers(&row, 1)?.into_iter().map(|version| held(version, Version));
    let revisions = numbers(&row, 2)?.into_iter().map(|revision| held(revision, Revision));
    let granted = numbers(&row, 3)?.into_iter().map(|ticket| Revision(number(ticket)));
    Ok(State {
        head: Position(number(column(&row, 0)?)),
        versions: touched.streams.iter().cloned().zip(versions).collect(),
        records: touched.records.iter().cloned().zip(revisions).collect(),
        revisions: writers.into_iter().zip(granted).collect(),
        ..State::default()
    })
}

fn numbers(row: &Row, place: usize) -> Result<Vec<i64>, Error> {
    Ok(column::<Option<_>>(row, place)?.unwrap_or_default())
}

fn held<T>(answer: i64, of: fn(u64) -> T) -> Held<T> {
    u64::try_from(answer).map_or(Held::Theirs, |number| Held::Ours(of(number)))
}

/// For a commit with a condition: its place in the batch and the last event that matches.
async fn last_match(
    client: &Client,
    place: usize,
    commit: &Commit,
) -> Result<Option<(usize, Position)>, Error> {
    let Some(condition) = &commit.condition else { return Ok(None) };
    let statement = Statement::last_match(&condition.fail_if_match, condition.after.0);
    let rows = client.query_typed(&statement.sql, &statement.parameters()).await.map_err(refused)?;
    let position = rows.first().map(|row| column(row, 0)).transpose()?;
    Ok(position.map(|position| (place, Position(number(position)))))
}

/// What stands where commits ask to go although their streams are past it: it may be they themselves.
async fn load_standing(client: &Client, commits: &[&Commit], state: &mut State) -> Result<(), Error> {
    let is_taken = |stream: &StreamName, version: &Version| matches!(state.versions.get(stream), Some(Held::Ours(last)) if version <= last);
    let mut asked = Vec::new();
    for append in commits.iter().flat_map(|commit| &commit.appends) {
        let places = places(append).into_iter().flatten().filter(|version| is_taken(&append.stream, version));
        asked.extend(places.map(|version| (append.stream.clone(), version)));
    }
    if asked.is_empty() {
        return Ok(());
    }
    let topics: Vec<&str> = asked.iter().map(|(stream, _)| stream.topic.as_str()).collect();
    let keys: Vec<&str> = asked.iter().map(|(stream, _)| stream.key.as_str()).collect();
    let versions: Vec<i64> = asked.iter().map(|(_, version)| signed(version.0)).collect();
    let sql = "SELECT place, position, metadata->>'source', metadata->>'id' \
        FROM unnest($1, $2, $3) WITH ORDINALITY AS asked (topic, key, version, place) \
        JOIN ensue.events USING (topic, key, version)";
    let parameters: &Parameters<'_> =
        &[(&topics, Type::TEXT_ARRAY), (&keys, Type::TEXT_ARRAY), (&versions, Type::INT8_ARRAY)];
    for row in client.query_typed(sql, parameters).await.map_err(refused)? {
        let place = usize::try_from(column::<i64>(&row, 0)? - 1).unwrap_or_default();
        if let Some(asked) = asked.get(place) {
            let position = Position(number(column(&row, 1)?));
            let there = Standing { position, source: column(&row, 2)?, id: column(&row, 3)? };
            state.standing.insert(asked.clone(), there);
        }
    }
    Ok(())
}

fn stream_columns(streams: &[StreamName]) -> (Vec<&str>, Vec<&str>) {
    streams.iter().map(|stream| (stream.topic.as_str(), stream.key.as_str())).unzip()
}

fn record_columns(records: &[(Space, Bytes)]) -> (Vec<&str>, Vec<&[u8]>) {
    records.iter().map(|(space, key)| (space.as_str(), key.as_ref())).unzip()
}

/// Writes and commits. Where the connection breaks, the commit was already under way.
async fn store(connection: &Connection, plan: &Plan) -> Result<(), Failure> {
    let rows = Rows::of(plan);
    let parameters = rows.parameters();
    let places: Vec<String> = (1..=parameters.len()).map(|place| format!("${place}")).collect();
    let sql = format!("SELECT ensue.write_batch({})", places.join(", "));
    let write = async {
        if plan.is_empty() {
            return Ok(());
        }
        connection.query_typed(&sql, &parameters).await.map(|_| ()).map_err(|cause| not_done(WRITING, cause))
    };
    let commit = async {
        let committed = connection.batch_execute("COMMIT").await;
        committed.map_err(|cause| not_done("the transaction was refused at its end", cause))
    };
    let (written, committed) = connection.answer(WRITING, async { join!(write, commit) }).await;
    match (written, committed) {
        (Err(Failure::Unknown(error)), _) => Err(Failure::Unknown(error)),
        // The server answers a commit also where it has refused what was to be committed.
        (Err(_), Err(unanswered)) => Err(unanswered),
        (written, committed) => written.and(committed),
    }
}

/// What the server refuses in so many words is taken back, such as by a constraint that was deferred to the end. A session that is ended may
/// have committed before, whatever it is that was waited for: both are on their way at once, and a pooler that has lost the server says
/// so to the first of them.
fn not_done(trying: &str, cause: tokio_postgres::Error) -> Failure {
    match cause.as_db_error().and_then(DbError::parsed_severity) {
        Some(Severity::Error) => Failure::Nothing(error::of(trying, cause)),
        _ => unknown(cause),
    }
}

fn unknown(cause: tokio_postgres::Error) -> Failure {
    let message = "the answer to a commit did not come";
    Failure::Unknown(Error::new(Code::OUTCOME_UNKNOWN, message).with_source(cause))
}

/// The plan as columns.
#[derive(Default)]
struct Rows<'a> {
    streams: (Vec<&'a str>, Vec<&'a str>),
    before: Vec<i64>,
    after: Vec<i64>,
    events: (Vec<&'a str>, Vec<&'a str>),
    versions: Vec<i64>,
    event_types: Vec<&'a str>,
    flows: Vec<&'a str>,
    metadata: Vec<String>,
    bodies: Vec<&'a [u8]>,
    tags: Vec<String>,
    tagged: Vec<i64>,
    put: (Vec<&'a str>, Vec<&'a [u8]>),
    values: Vec<&'a [u8]>,
    put_before: Vec<i64>,
    revisions: Vec<i64>,
    expiries: Vec<Option<SystemTime>>,
    deleted: (Vec<&'a str>, Vec<&'a [u8]>),
    deleted_before: Vec<i64>,
}

impl<'a> Rows<'a> {
    fn of(plan: &'a Plan) -> Self {
        let mut rows = Self::default();
        for (stream, (before, after)) in &plan.streams {
            rows.streams.extend([(stream.topic.as_str(), stream.key.as_str())]);
            rows.before.push(signed(before.0));
            rows.after.push(signed(after.0));
        }
        for (place, (stream, version, event)) in (1..).zip(&plan.events) {
            rows.events.extend([(stream.topic.as_str(), stream.key.as_str())]);
            rows.versions.push(signed(version.0));
            rows.event_types.push(event.event_type.as_str());
            rows.flows.push(event.flow().as_str());
            rows.metadata.push(metadata(event));
            rows.bodies.push(&event.data);
            rows.tags.extend(event.tags.iter().map(tag));
            rows.tagged.resize(rows.tags.len(), place);
        }
        for ((space, key), (before, value)) in &plan.records {
            let Some(value) = value else {
                rows.deleted.extend([(space.as_str(), key.as_ref())]);
                rows.deleted_before.push(signed(before.0));
                continue;
            };
            rows.put_before.push(signed(before.0));
            rows.put.extend([(space.as_str(), key.as_ref())]);
            rows.values.push(&value.bytes);
            rows.revisions.push(signed(value.revision.0));
            rows.expiries.push(value.expires_at.map(|at| SystemTime::try_from(at).unwrap_or(UNIX_EPOCH)));
        }
        rows
    }

    /// In the order of `ensue.write_batch`.
    fn parameters(&self) -> [(&(dyn ToSql + Sync), Type); 22] {
        [
            (&self.streams.0, Type::TEXT_ARRAY),
            (&self.streams.1, Type::TEXT_ARRAY),
            (&self.before, Type::INT8_ARRAY),
            (&self.after, Type::INT8_ARRAY),
            (&self.events.0, Type::TEXT_ARRAY),
            (&self.events.1, Type::TEXT_ARRAY),
            (&self.versions, Type::INT8_ARRAY),
            (&self.event_types, Type::TEXT_ARRAY),
            (&self.flows, Type::TEXT_ARRAY),
            (&self.metadata, Type::TEXT_ARRAY),
            (&self.bodies, Type::BYTEA_ARRAY),
            (&self.tags, Type::TEXT_ARRAY),
            (&self.tagged, Type::INT8_ARRAY),
            (&self.put.0, Type::TEXT_ARRAY),
            (&self.put.1, Type::BYTEA_ARRAY),
            (&self.values, Type::BYTEA_ARRAY),
            (&self.put_before, Type::INT8_ARRAY),
            (&self.revisions, Type::INT8_ARRAY),
            (&self.expiries, Type::TIMESTAMPTZ_ARRAY),
            (&self.deleted.0, Type::TEXT_ARRAY),
            (&self.deleted.1, Type::BYTEA_ARRAY),
            (&self.deleted_before, Type::INT8_ARRAY),
        ]
    }
}
