//! Ensue's own log in a folder: events committed one by one, a durable subscription that takes them.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ensue::core::{
    Append, Commit, ContentType, Envelope, EventId, EventType, Expected, Key, Source, StreamName, Topic,
};
use ensue::log::floor;
use ensue::{App, Log, Running, Store, Timestamp};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;

use crate::Failure;
use crate::client::PATIENCE;
use crate::measure::{Figures, Load, Meter, Side, pace, rate};
use crate::message::{self, ItemMade};

/// How many commits are under way at once.
const IN_FLIGHT: usize = 256;

/// Opens the log in a folder.
pub(crate) async fn open(folder: &Path) -> Result<Log, Failure> {
    Ok(ensue::open(folder).await?)
}

/// Commits one event, durably.
pub(crate) async fn append(store: &dyn Store, item: &ItemMade, number: usize) -> Result<(), Failure> {
    let envelope = Envelope {
        id: EventId::new(format!("{}-{number}", item.at))?,
        source: Source::new("bench")?,
        event_type: EventType::new("ItemMade")?,
        schema_version: 1,
        time: Timestamp::UNIX_EPOCH,
        correlation: None,
        causation: None,
        trace: None,
        tags: Vec::new(),
        extensions: Vec::new(),
        content_type: ContentType::json(),
        data: item.body(),
    };
    let stream = StreamName { topic: Topic::new("Item")?, key: Key::new(item.key())? };
    let append = Append { stream, expected: Expected::Any, events: vec![envelope] };
    store.commit(Commit { appends: vec![append], ..Commit::default() }).await?;
    Ok(())
}

/// Commits so many: how many a second.
pub(crate) async fn append_all(store: &dyn Store, messages: usize) -> Result<f64, Failure> {
    let began = Instant::now();
    stream::iter(0..messages)
        .map(|number| async move { append(store, &ItemMade::new(number, message::now()), number).await })
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<()>()
        .await?;
    Ok(rate(messages, began.elapsed()))
}

/// Commits at the fixed rate.
pub(crate) async fn append_paced(log: &Log, load: Load) -> Result<(), Failure> {
    let mut due = pace(load);
    let mut committing = JoinSet::new();
    while let Some((number, at)) = due.recv().await {
        let log = log.clone();
        committing.spawn(async move { append(&log, &ItemMade::new(number, at), number).await });
    }
    while let Some(committed) = committing.join_next().await {
        committed??;
    }
    Ok(())
}

/// Reads from a log that holds messages, then what comes at the fixed rate.
pub(crate) async fn measure(load: Load) -> Result<Figures, Failure> {
    let folder = tempfile::tempdir_in(".")?;
    let log = open(folder.path()).await?;
    let publish_per_s = append_all(&log, load.messages).await?;
    let meter = Meter::new(load.messages)?;
    let running = subscribed(&log, "throughput", &meter).await?;
    meter.complete(PATIENCE).await?;
    let consume_per_s = meter.per_second();
    running.stop(PATIENCE).await?;
    drop(log);

    let folder = tempfile::tempdir_in(".")?;
    let log = open(folder.path()).await?;
    let meter = Meter::new(load.paced())?;
    let running = subscribed(&log, "latency", &meter).await?;
    append_paced(&log, load).await?;
    meter.complete(PATIENCE).await?;
    running.stop(PATIENCE).await?;
    let raw = Side { publish_per_s, consume_per_s, latency: meter.latency() };
    let floor = floor::floor(folder.path(), &*ensue::runtime::host::system().clock)?;
    let floor = Some((floor.sync_write_4k_us_p50, floor.mode.name()));
    Ok(Figures { raw, link: None, floor })
}

/// A subscription with checkpoints that counts what it is given.
async fn subscribed(log: &Log, name: &str, meter: &Arc<Meter>) -> Result<Running, Failure> {
    let meter = Arc::clone(meter);
    let count = move |item: ItemMade| {
        meter.arrived([item.at]);
        async { Ok::<(), ensue::Error>(()) }
    };
    let app = App::new("bench").store(Arc::new(log.clone()) as Arc<dyn Store>).external::<ItemMade>();
    Ok(app.react(name, count).start().await?)
}
