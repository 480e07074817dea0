//! `ensue store migrate`: the tables of a store in a database. A folder needs none of it, and is made where there is none.

use ensue::core::{Position, StoreExt};
use serde::Serialize;

use crate::command::Session;
use crate::failure::Failure;

#[derive(Serialize)]
struct Migrated {
    store: String,
    head: Position,
}

/// Makes or updates them. Two at once are safe: the second finds it done.
pub(crate) async fn run(session: &mut Session) -> Result<(), Failure> {
    let store = session.place.open_or_make().await?;
    let migrated = Migrated { store: session.place.to_string(), head: store.head().await? };
    let words = format!("{} is up to date and stands at position {}", migrated.store, migrated.head);
    session.output.one(&migrated, &words)?;
    Ok(())
}
