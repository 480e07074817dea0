//! The record that says of a store that it is a copy which is not finished, and of what.
//!
//! It is written before anything else is, and removed once all was compared. Invariant: nothing in a store is overwritten or removed
//! without it, so that what an application has put there stays.

use std::sync::LazyLock;

use bytes::Bytes;
use ensue::core::{
    Code, Commit, Error, Portable, Position, RecordScan, RecordWrite, Revision, Space, StoreExt,
};

/// Where it is kept; never copied, and never compared.
pub(super) static SPACE: LazyLock<Space> =
    LazyLock::new(|| Space::new("ensue.copy").expect("a constant name is valid"));
const KEY: &str = "from";

/// What a store is to somebody who wants to copy into it.
pub(super) enum Target {
    /// It holds neither events nor records.
    Blank,
    /// An earlier run has begun to copy this source into it.
    Begun,
    /// It holds something that is not ours to change.
    Held,
}

/// The source that a store is an unfinished copy of.
async fn read(store: &dyn Portable) -> Result<Option<String>, Error> {
    let record = store.record(SPACE.clone(), KEY).await?;
    Ok(record.map(|record| String::from_utf8_lossy(&record.value).into_owned()))
}

/// Refuses an unfinished copy as a source: half a history would pass for a whole one.
pub(super) async fn check_source(store: &dyn Portable, from: &str) -> Result<(), Error> {
    match read(store).await? {
        None => Ok(()),
        Some(of) => Err(Error::new(Code::NO_COPY, format!("{from} is itself an unfinished copy of {of}"))
            .with_fix("finish that copy first")),
    }
}

/// What the target is to a copy of this source; `E0416` if it is an unfinished copy of another one.
pub(super) async fn look(target: &dyn Portable, source: &str) -> Result<Target, Error> {
    match read(target).await? {
        Some(of) if of == source => Ok(Target::Begun),
        Some(of) => {
            let message = format!("the target is an unfinished copy of {of}, not of {source}");
            Err(Error::new(Code::NO_COPY, message)
                .with_fix("copy into an empty store, or finish the other copy"))
        }
        None if is_blank(target).await? => Ok(Target::Blank),
        None => Ok(Target::Held),
    }
}

async fn is_blank(store: &dyn Portable) -> Result<bool, Error> {
    if store.head().await? > Position::ZERO {
        return Ok(false);
    }
    for space in store.spaces().await? {
        if !store.scan(RecordScan::all(space).limit(1)).await?.records.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Says that a copy of this source begins. Of two that begin at once, one is refused.
pub(super) async fn set(target: &dyn Portable, source: &str) -> Result<(), Error> {
    let value = Bytes::copy_from_slice(source.as_bytes());
    commit(target, RecordWrite::put(SPACE.clone(), KEY, value).expect(Revision::ZERO)).await
}

/// Says that it is finished.
pub(super) async fn remove(target: &dyn Portable) -> Result<(), Error> {
    commit(target, RecordWrite::delete(SPACE.clone(), KEY)).await
}

async fn commit(target: &dyn Portable, write: RecordWrite) -> Result<(), Error> {
    target.commit(Commit { records: vec![write], ..Commit::default() }).await?;
    Ok(())
}
