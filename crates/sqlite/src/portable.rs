//! The file as a part of a move: which record spaces there are, and events as another store has recorded them.

use std::sync::Arc;

use ensue_core::{BoxFuture, Error, Portable, Position, Recorded, Space};
use futures_util::FutureExt;
use rusqlite::Connection;

use crate::decide::Log;
use crate::error;
use crate::store::SqliteStore;

impl Portable for SqliteStore {
    fn spaces(&self) -> BoxFuture<'_, Result<Vec<Space>, Error>> {
        self.pool().with(spaces).boxed()
    }

    fn import(&self, events: Vec<Recorded>) -> BoxFuture<'_, Result<Position, Error>> {
        let (turn, head, clock) =
            (Arc::clone(self.turn()), Arc::clone(self.known_head()), self.clock().clone());
        blocking::unblock(move || {
            let held = turn.begin()?;
            let mut log = Log::open(&held, clock.now())?;
            events.iter().try_for_each(|event| log.import(event))?;
            let position = log.close()?;
            held.commit()?;
            head.tell(position);
            Ok(position)
        })
        .boxed()
    }
}

/// From one space to the next, without a look at the records between.
fn spaces(connection: &Connection) -> Result<Vec<Space>, Error> {
    let failed = |cause| error::of("cannot read the spaces of records", cause);
    let mut next =
        connection.prepare_cached("SELECT min(space) FROM ensue_records WHERE space > ?1").map_err(failed)?;
    let mut spaces = Vec::<Space>::new();
    loop {
        let last = spaces.last().map(Space::as_str).unwrap_or_default();
        match next.query_row([last], |row| row.get::<_, Option<String>>(0)).map_err(failed)? {
            Some(space) => spaces.push(Space::new(space)?),
            None => return Ok(spaces),
        }
    }
}
