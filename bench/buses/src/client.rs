//! A broker by its own client: what is measured of it, whichever it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ensue::core::Bus;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinHandle;

use crate::Failure;
use crate::measure::{Load, Meter, Side, pace, rate};
use crate::message::{self, ItemMade};

/// Longer than any broker needs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
/// Most messages that a reader hands on at once: time is taken when they are, so whoever waits for all of them measures nothing.
pub(crate) const COUNTED_MAX: usize = 256;

/// Whether a client that gathers messages waits for more of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Haste {
    /// As much as goes through.
    None,
    /// As soon as it goes.
    Each,
}

/// A broker's own client, used as its documentation says it is fast. All of it is safe: what is sent is confirmed, what is received is
/// settled.
pub(crate) trait Client: Sized + Send + Sync + 'static {
    /// How many messages are on their way at once.
    const IN_FLIGHT: usize;

    type Reader: Reader;

    fn connect(url: &str) -> impl Future<Output = Result<Self, Failure>> + Send;

    /// Makes a channel ahead of the adapter, where it must be otherwise than the adapter makes it.
    fn make(&self, _channel: &str) -> impl Future<Output = Result<(), Failure>> + Send {
        async { Ok(()) }
    }

    /// The adapter of Ensue for the same broker.
    fn bus(url: &str) -> impl Future<Output = Result<Arc<dyn Bus>, Failure>> + Send;

    /// Sends to a channel that the adapter has made, and waits until the broker has it safely.
    fn send(
        &self,
        to: &str,
        item: &ItemMade,
        haste: Haste,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Joins a group on these channels, by as many members as the client needs for that.
    fn readers(
        &self,
        from: &[String],
        group: &str,
    ) -> impl Future<Output = Result<Vec<Self::Reader>, Failure>> + Send;

    /// What is consumed of a channel: the channel itself, or where brokers tell the two apart, something that it feeds.
    fn consumed(channel: &str, group: &str) -> String;

    /// Whether what is consumed is another thing than what is published to.
    const IS_FED: bool;
}

/// A member of a group.
pub(crate) trait Reader: Send + 'static {
    /// The bodies that came; those before are settled then.
    fn next(&mut self) -> impl Future<Output = Result<Vec<Bytes>, Failure>> + Send;
}

/// A task that waits for what comes, and counts it.
pub(crate) type Counting = JoinHandle<Result<(), Failure>>;

/// Has everything that is read counted, until the tasks are aborted.
pub(crate) fn read_into(readers: Vec<impl Reader>, meter: &Arc<Meter>) -> Vec<Counting> {
    readers.into_iter().map(|reader| tokio::spawn(count(reader, Arc::clone(meter)))).collect()
}

async fn count(mut reader: impl Reader, meter: Arc<Meter>) -> Result<(), Failure> {
    loop {
        let bodies = reader.next().await?;
        let due: Vec<u64> = bodies.iter().map(|body| message::due(body)).collect::<Result<_, _>>()?;
        meter.arrived(due);
    }
}

/// Sends so many, spread over these channels: how many a second.
pub(crate) async fn send_all<C: Client>(client: &C, to: &[String], messages: usize) -> Result<f64, Failure> {
    let began = Instant::now();
    let numbers = stream::iter((0..messages).zip(to.iter().cycle()));
    numbers
        .map(|(number, to)| async move {
            client.send(to, &ItemMade::new(number, message::now()), Haste::None).await
        })
        .buffer_unordered(C::IN_FLIGHT)
        .try_collect::<()>()
        .await?;
    Ok(rate(messages, began.elapsed()))
}

/// Sends at the fixed rate.
pub(crate) async fn send_paced<C: Client>(client: &Arc<C>, to: &str, load: Load) -> Result<(), Failure> {
    let mut due = pace(load);
    let mut sending = tokio::task::JoinSet::new();
    while let Some((number, at)) = due.recv().await {
        let (client, to) = (Arc::clone(client), to.to_owned());
        sending.spawn(async move { client.send(&to, &ItemMade::new(number, at), Haste::Each).await });
    }
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    Ok(())
}

/// The broker by its own client: publishing, then consuming what is there, then both at the fixed rate over a channel of its own.
pub(crate) async fn measure<C: Client>(
    client: &Arc<C>,
    channels: &[String],
    paced: &str,
    load: Load,
) -> Result<Side, Failure> {
    let publish_per_s = send_all(&**client, channels, load.messages).await?;
    let meter = Meter::new(load.messages)?;
    let mut readers = read_into(client.readers(channels, "raw").await?, &meter);
    complete(&meter, &mut readers).await?;
    let consume_per_s = meter.per_second();
    readers.iter().for_each(JoinHandle::abort);

    let meter = Meter::new(load.paced())?;
    let mut readers = read_into(client.readers(&[paced.to_owned()], "raw").await?, &meter);
    send_paced(client, paced, load).await?;
    complete(&meter, &mut readers).await?;
    readers.iter().for_each(JoinHandle::abort);
    Ok(Side { publish_per_s, consume_per_s, latency: meter.latency() })
}

/// Waits until everything has come, or a reader says why not.
pub(crate) async fn complete(meter: &Meter, readers: &mut [Counting]) -> Result<(), Failure> {
    tokio::select! {
        came = meter.complete(PATIENCE) => came,
        (ended, _, _) = futures_util::future::select_all(readers) => match ended? {
            Ok(()) => Err("a reader has ended".into()),
            Err(failure) => Err(failure),
        },
    }
}
