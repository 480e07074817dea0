//! The record that says of a store that it is a copy which is not finished, and of what.
//!
//! It is written before any other record, and removed once all was compared. Invariant: no record is overwritten or removed without
//! it, so that what an application has put there stays.

use std::sync::LazyLock;

use bytes::Bytes;
use ensue::core::{Code, Commit, Error, Portable, RecordScan, RecordWrite, Revision, Space, StoreExt};

/// Where it is kept; never copied, and never compared.
pub(super) static SPACE: LazyLock<Space> =
    LazyLock::new(|| Space::new("ensue.copy").expect("a constant name is valid"));
const KEY: &str = "from";

/// What a store is to somebody who wants to copy into it.
pub(super) enum Target {
    /// It holds no record.
    Bare,
    /// An earlier run has begun to copy the records of this source into it.
    Begun,
    /// It holds records that are not ours to change, such as this one.
    Held(String),
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
        None => Ok(any_record(target).await?.map_or(Target::Bare, Target::Held)),
    }
}

async fn any_record(store: &dyn Portable) -> Result<Option<String>, Error> {
    for space in store.spaces().await? {
        let page = store.scan(RecordScan::all(space.clone()).limit(1)).await?;
        if let Some(record) = page.records.first() {
            return Ok(Some(format!("{space}/{}", record.key.escape_ascii())));
        }
    }
    Ok(None)
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
