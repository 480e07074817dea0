//! The tables, and what is asked of them. Every write is one statement, and so one transaction and one round trip.

use tokio_postgres::{Client, NoTls, Statement};

use crate::Failure;

/// An outbox that is emptied all the time must be vacuumed all the time, or its index fills with what is gone.
const SCHEMA: &str = "
    DROP TABLE IF EXISTS outbox, inbox;
    CREATE TABLE outbox (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, topic smallint NOT NULL, key text NOT NULL, payload text NOT NULL
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
    CREATE TABLE inbox (reaction smallint NOT NULL, event bigint NOT NULL, PRIMARY KEY (reaction, event));
";

/// The first event of an order.
pub(super) const PLACE: &str =
    "INSERT INTO outbox (topic, key, payload) SELECT 0, * FROM unnest($1::text[], $2::text[])";

/// What a reaction causes, for those of its events that it has not handled before.
pub(super) const REACT: &str = "
    WITH fresh AS (
        INSERT INTO inbox SELECT $1::smallint, unnest($2::bigint[]) ON CONFLICT DO NOTHING RETURNING event
    )
    INSERT INTO outbox (topic, key, payload)
    SELECT $1::smallint + 1, caused.key, caused.payload
    FROM unnest($2::bigint[], $3::text[], $4::text[]) AS caused (event, key, payload) JOIN fresh USING (event)";

/// The oldest events that nobody has carried on.
pub(super) const WAITING: &str = "SELECT id, topic, key, payload FROM outbox ORDER BY id LIMIT $1";

/// They are carried on.
pub(super) const CARRIED: &str = "DELETE FROM outbox WHERE id = ANY($1::bigint[])";

/// Empty tables.
pub(super) async fn make(url: &str) -> Result<(), Failure> {
    Ok(connect(url).await?.batch_execute(SCHEMA).await?)
}

/// A connection of its own.
pub(super) async fn connect(url: &str) -> Result<Client, Failure> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("peers: the connection to PostgreSQL broke: {error}");
        }
    });
    Ok(client)
}

/// A statement that is planned once.
pub(super) async fn prepare(client: &Client, text: &str) -> Result<Statement, Failure> {
    Ok(client.prepare(text).await?)
}
