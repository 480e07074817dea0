//! What was asked of a folder, kept in its store from before the first order on.

use ensue::core::{Commit, RecordWrite, Revision, Space};
use ensue::{Code, Error, Position, Store, StoreExt};
use serde::{Deserialize, Serialize};

use super::Styles;

const SPACE: &str = "demo";
const KEY: &str = "plan";

/// What a folder was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) styles: Styles,
    pub(super) seed: u64,
    pub(super) orders: u64,
    /// How many of them are broken.
    #[serde(default)]
    pub(super) broken: u64,
}

/// The plan of this store: the one it remembers when it is resumed, otherwise the one that is wanted, which it will
/// remember. A store that was killed before it had a plan is empty, and begins
/// with what is wanted now.
pub(super) async fn agree(store: &dyn Store, wanted: Plan, resume: bool, place: &str) -> Result<Plan, Error> {
    if let Some(known) = known(store).await? {
        return if resume { Ok(known) } else { Err(taken(place)) };
    }
    if store.head().await? > Position::ZERO {
        let message = format!("{place} holds events that are not of a demo");
        let fix = "use another folder with `--data DIR`, or another store with `--store ADDRESS`";
        return Err(Error::new(Code::USAGE, message).with_fix(fix));
    }
    let value = serde_json::to_vec(&wanted).expect("a plan is plain data");
    let record = RecordWrite::put(Space::new(SPACE)?, KEY, value).expect(Revision::ZERO);
    store.commit(Commit { records: vec![record], ..Commit::default() }).await?;
    Ok(wanted)
}

/// The plan that a store remembers.
pub(super) async fn known(store: &dyn Store) -> Result<Option<Plan>, Error> {
    let Some(record) = store.record(Space::new(SPACE)?, KEY).await? else { return Ok(None) };
    let known = serde_json::from_slice(&record.value).map_err(|cause| {
        Error::new(Code::CORRUPT, format!("the plan of this demo cannot be read: {cause}"))
    })?;
    Ok(Some(known))
}

fn taken(place: &str) -> Error {
    Error::new(Code::USAGE, format!("{place} holds a demo already")).with_fix(
        "add `--resume` to take it up where it stopped, or use another folder with `--data DIR` or another store with `--store ADDRESS`",
    )
}
