//! What operators want of a link: kept in the store, and followed by every process that runs the link, now and after a restart.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ensue_core::bus::Seek;
use ensue_core::{
    Code, Commit, CommitError, Error, Record, RecordScan, RecordWrite, Revision, Store, StoreExt, Timestamp,
};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::gauge::{Gauge, Pause};
use super::status::{LinkStatus, Trouble};
use super::stored::STATUS;
use crate::progress::lock;
use crate::spaces::{self, LINK};
use crate::subscription::Shared;

/// How often a process looks what is wanted.
const LOOK: Duration = Duration::from_secs(1);
/// How long an intake may take to go on from elsewhere.
const SEEK_WITHIN: Duration = Duration::from_secs(30);
const DESIRED: &str = "desired";

/// What is wanted of one relay or intake.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Desired {
    paused: bool,
    /// Why, in the words of whoever asked last.
    reason: String,
    /// Asked for, and not begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seek: Option<Place>,
    /// What came of the last one that was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sought: Option<Sought>,
}

/// [`Seek`] as it is kept.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    Begin,
    End,
    At(Timestamp),
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sought {
    UnderWay,
    Done,
    Refused(Trouble),
}

/// What an operator asks of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// Move nothing until it is resumed, whatever restarts.
    Pause,
    /// Go on.
    Resume,
    /// Have the group of an intake go on from elsewhere. What comes again is dropped as long as its id is remembered.
    Seek(Seek),
}

/// What came of a wish to go on from elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SeekOutcome {
    /// No process that runs the link has heard of it yet.
    Unheard,
    /// A process has begun with it.
    UnderWay,
    /// It goes on from there.
    Done,
    /// It does not, and why.
    Refused(Trouble),
}

/// Asks this of a link: of all its relays and intakes, or of one by its name. A process that runs it follows within seconds, or when it
/// starts. Gives the names of those that are meant.
///
/// Errors: `E0414` if no process has run such a link on this store; of a wish to go on from elsewhere, `E0506` for a relay and `E0701` for
/// what is paused.
pub async fn ask(store: &dyn Store, link: &str, wanted: Wanted, reason: &str) -> Result<Vec<SmolStr>, Error> {
    let mut asked = Vec::new();
    for status in known(store, link).await? {
        match wanted {
            Wanted::Pause => change(store, &status.name, |desired| desired.paused = true, reason).await?,
            Wanted::Resume => change(store, &status.name, |desired| desired.paused = false, reason).await?,
            Wanted::Seek(_) if status.direction == super::Direction::Relay => continue,
            Wanted::Seek(_)
                if read(store, &status.name).await?.is_some_and(|(desired, _)| desired.paused) =>
            {
                let message = format!("{} is paused, so it goes on from nowhere", status.name);
                return Err(Error::new(Code::USAGE, message).with_fix("resume it first: `ensue link resume`"));
            }
            Wanted::Seek(to) => {
                let seek =
                    move |desired: &mut Desired| (desired.seek, desired.sought) = (Some(to.into()), None);
                change(store, &status.name, seek, reason).await?;
            }
        }
        asked.push(status.name);
    }
    if asked.is_empty() {
        let message = format!("{link} is a relay: it goes on where its checkpoint is");
        return Err(Error::new(Code::UNSUPPORTED, message)
            .with_fix("give the relay another name: it then begins with the first event of the log"));
    }
    Ok(asked)
}

/// What came of the last wish that an intake go on from elsewhere.
pub async fn outcome(store: &dyn Store, name: &str) -> Result<SeekOutcome, Error> {
    let desired = read(store, name).await?.map(|(desired, _)| desired).unwrap_or_default();
    Ok(match (desired.seek, desired.sought) {
        (Some(_), _) | (None, None) => SeekOutcome::Unheard,
        (None, Some(Sought::UnderWay)) => SeekOutcome::UnderWay,
        (None, Some(Sought::Done)) => SeekOutcome::Done,
        (None, Some(Sought::Refused(trouble))) => SeekOutcome::Refused(trouble),
    })
}

/// Why a relay or an intake is paused, if an operator wants it to be.
pub(super) async fn reason(store: &dyn Store, name: &str) -> Result<Option<String>, Error> {
    let desired = read(store, name).await?;
    Ok(desired.filter(|(desired, _)| desired.paused).map(|(desired, _)| desired.reason))
}

/// The relays and intakes of a link that have ever run on a store.
async fn known(store: &dyn Store, link: &str) -> Result<Vec<LinkStatus>, Error> {
    let records = store.records(RecordScan::prefix(LINK.clone(), spaces::within(&[STATUS]))).await?;
    let all = records.iter().map(|record| spaces::decode("link", &record.value));
    let all: Vec<LinkStatus> = all.collect::<Result<_, _>>()?;
    let (meant, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|status| status.link == link || status.name == link);
    if meant.is_empty() {
        let names: BTreeSet<&str> = others.iter().map(|status| status.link.as_str()).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let others = if names.is_empty() { "no link".to_owned() } else { names.join(", ") };
        return Err(Error::new(Code::NOT_FOUND, format!("no link named {link} has run on this store"))
            .with_fix(format!("it knows {others}; a link is known once it has been started")));
    }
    Ok(meant)
}

fn key_of(name: &str) -> Bytes {
    spaces::join(&[DESIRED, name])
}

async fn read(store: &dyn Store, name: &str) -> Result<Option<(Desired, Revision)>, Error> {
    let record = store.record(LINK.clone(), key_of(name)).await?;
    record.map(|record| Ok((spaces::decode("link", &record.value)?, record.revision))).transpose()
}

/// Changes what is wanted, whoever else does at the same moment.
async fn change(
    store: &dyn Store,
    name: &str,
    change: impl Fn(&mut Desired),
    reason: &str,
) -> Result<(), Error> {
    loop {
        let (mut desired, revision) = read(store, name).await?.unwrap_or_default();
        change(&mut desired);
        reason.clone_into(&mut desired.reason);
        if write(store, name, &desired, revision).await? {
            return Ok(());
        }
    }
}

/// Whether nobody else was faster.
async fn write(store: &dyn Store, name: &str, desired: &Desired, known: Revision) -> Result<bool, Error> {
    let record = RecordWrite::put(LINK.clone(), key_of(name), spaces::encode(desired)).expect(known);
    match store.commit(Commit { records: vec![record], ..Commit::default() }).await {
        Ok(_) => Ok(true),
        Err(CommitError::RecordConflict { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Follows what is wanted, until the application closes.
pub(crate) async fn follow(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            biased;
            () = shared.closed() => return,
            () = heed(&shared) => {}
        }
        tokio::select! {
            biased;
            () = shared.closed() => return,
            () = shared.press.host.clock.sleep(LOOK) => {}
        }
    }
}

/// Does what is wanted now. While the store is away, what was wanted last holds.
async fn heed(shared: &Shared) {
    let scan = RecordScan::prefix(LINK.clone(), spaces::within(&[DESIRED]));
    let Ok(records) = shared.store.records(scan).await else { return };
    for gauge in shared.links.all() {
        let Some(record) = records.iter().find(|record| record.key == key_of(&gauge.name)) else { continue };
        let Some(desired) = news(&gauge, record, shared) else { continue };
        if let Some(to) = desired.seek {
            seek(shared, &gauge, desired, record.revision, to).await;
        }
    }
}

/// Looks before a link moves anything.
pub(super) async fn heed_first(shared: &Shared, gauge: &Gauge) -> Result<(), Error> {
    let record = shared.store.record(LINK.clone(), key_of(&gauge.name)).await?;
    let desired = record.map(|record| spaces::decode::<Desired>("link", &record.value)).transpose()?;
    if desired.is_some_and(|desired| desired.paused) {
        lock(&gauge.heard).paused = true;
        gauge.pause(Pause::Pause, shared.press.host.clock.now());
    }
    Ok(())
}

/// What a record says, if this process has not heard it yet; it pauses or goes on if that is what is new. One that cannot be read says
/// nothing.
fn news(gauge: &Gauge, record: &Record, shared: &Shared) -> Option<Desired> {
    let mut heard = lock(&gauge.heard);
    if heard.revision == record.revision {
        return None;
    }
    heard.revision = record.revision;
    let desired: Desired = spaces::decode("link", &record.value).ok()?;
    if std::mem::replace(&mut heard.paused, desired.paused) != desired.paused {
        let pause = if desired.paused { Pause::Pause } else { Pause::Resume };
        gauge.pause(pause, shared.press.host.clock.now());
    }
    Some(desired)
}

/// Of all processes that run the link, one has its group go on from elsewhere.
async fn seek(shared: &Shared, gauge: &Gauge, desired: Desired, revision: Revision, to: Place) {
    let begun = Desired { seek: None, sought: Some(Sought::UnderWay), ..desired };
    if !matches!(write(&*shared.store, &gauge.name, &begun, revision).await, Ok(true)) {
        return;
    }
    let clock = &shared.press.host.clock;
    let sought = tokio::select! {
        biased;
        sought = gauge.seek(to.into()) => sought,
        () = clock.sleep(SEEK_WITHIN) => {
            // Whoever is told that it was not done is not to find it done later.
            drop(lock(&gauge.seek).take());
            let message = format!("{} has not gone on from elsewhere within {SEEK_WITHIN:?}", gauge.name);
            Err(Error::new(Code::BUS_TIMEOUT, message))
        }
    };
    let sought = match sought {
        Ok(()) => Sought::Done,
        Err(error) => {
            gauge.troubled(&error, clock.now());
            Sought::Refused(Trouble::new(&error, clock.now()))
        }
    };
    // Whoever asks for something else meanwhile has the last word.
    let told = change(
        &*shared.store,
        &gauge.name,
        |desired| {
            if desired.seek.is_none() {
                desired.sought = Some(sought.clone());
            }
        },
        &begun.reason,
    );
    // It is for people; where the store is away there is more to be seen elsewhere.
    let _told = told.await.is_ok();
}

impl From<Seek> for Place {
    fn from(seek: Seek) -> Self {
        match seek {
            Seek::Begin => Self::Begin,
            Seek::End => Self::End,
            Seek::At(time) => Self::At(time),
        }
    }
}

impl From<Place> for Seek {
    fn from(place: Place) -> Self {
        match place {
            Place::Begin => Self::Begin,
            Place::End => Self::End,
            Place::At(time) => Self::At(time),
        }
    }
}
