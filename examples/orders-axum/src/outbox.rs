//! The transactional outbox: an event that is there if and only if the rest of the transaction is.

use ensue::core::{Append, Commit, ContentType, Draft, Envelope, Expected, Source};
use ensue::{Event, EventId, Timestamp};
use ensue_postgres::commit_in;

use crate::refused::Refused;
use crate::sqlx::{Postgres, Transaction};

/// Publishes as part of this transaction. An order has each event at most once, so that type and order are its id.
pub(crate) async fn publish(
    transaction: &mut Transaction<'_, Postgres>,
    expected: Expected,
    event: &impl Event,
) -> Result<(), Refused> {
    let Draft { stream, event_type, schema_version, tags, data, .. } = Draft::of(event)?;
    let envelope = Envelope {
        id: EventId::new(format!("{event_type}-{}", stream.key))?,
        source: Source::new("orders")?,
        event_type,
        schema_version,
        time: Timestamp::now(),
        correlation: None,
        causation: None,
        trace: None,
        tags,
        extensions: Vec::new(),
        content_type: ContentType::json(),
        data,
    };
    let append = Append { stream, expected, events: vec![envelope] };
    commit_in(transaction, &Commit { appends: vec![append], ..Commit::default() }).await?;
    Ok(())
}
